"""torch's ONNX exporter, without the pass that takes half of its time where that changes nothing.

Before it translates a program, the exporter decomposes it into operators that it has translations
for, by tracing the network a second and a third time. A program that is made of such operators
alone, none of which writes in place, comes out as it went in: it is passed on as it is.
"""

from __future__ import annotations

import importlib
import operator
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from onnxscript import opset20 as op
from torch.export import ExportedProgram

_PASSES = "torch.onnx._internal.exporter._fx_passes"
_ONE_AT_A_TIME = threading.Lock()  # what is exchanged is the whole process's
# Its translation is wrong for one piece; decomposition never leaves any of these
_IN_PIECES = ("aten.chunk", "aten.tensor_split", "aten.hsplit", "aten.vsplit", "aten.dsplit")
_REMOVED = ("aten._assert_tensor_metadata", "aten._assert_async", "aten._assert_scalar")


def batch_norm(
    x: Any, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, momentum: float,
    eps: float, cudnn: bool,
) -> Any:  # fmt: skip
    """`aten::batch_norm` of a network in evaluation."""
    return op.BatchNormalization(x, weight, bias, mean, variance, epsilon=eps)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.batch_norm.default: batch_norm
}  # beside the exporter's own


@contextmanager
def undecomposed() -> Iterator[None]:
    """Exports inside skip decomposition where they can; all is as ever in another torch."""
    try:
        passes: Any = importlib.import_module(_PASSES)
        thorough = passes.decompose_with_registry
    except (ImportError, AttributeError):
        yield
        return

    def decompose(program: ExportedProgram, registry: Any) -> ExportedProgram:
        if all(_translated(node, registry) for node in program.graph.nodes):
            return program
        decomposed: ExportedProgram = thorough(program, registry)
        return decomposed

    with _ONE_AT_A_TIME:
        passes.decompose_with_registry = decompose
        try:
            yield
        finally:
            passes.decompose_with_registry = thorough


def _translated(node: torch.fx.Node, registry: Any) -> bool:
    """Whether the exporter takes a node as it is."""
    target: Any = node.target
    if node.op != "call_function" or target is operator.getitem:
        return True
    if not isinstance(target, torch._ops.OpOverload):
        return bool(registry.is_registered(target))
    if str(target).startswith(_REMOVED):
        return True
    if target._schema.is_mutable or str(target).startswith(_IN_PIECES):
        return False
    return bool(registry.is_registered(target))
