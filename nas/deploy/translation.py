"""torch's ONNX exporter, without the pass that takes half of its time where that changes nothing.

Before it translates a program, the exporter decomposes it into operators that it has translations
for, by tracing the network a second and a third time. A program that is made of such operators
alone, none of which writes in place, comes out as it went in: it is passed on as it is.
"""

from __future__ import annotations

import importlib
import operator
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from onnxscript import opset20 as op
from torch.export import ExportedProgram

_PASSES = "torch.onnx._internal.exporter._fx_passes"
_ONE_AT_A_TIME = threading.Lock()  # what is exchanged is the whole process's
_NORM = torch.ops.aten.batch_norm.default
_REMOVED = ("aten._assert_tensor_metadata", "aten._assert_async", "aten._assert_scalar")


def batch_norm(
    x: Any, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, momentum: float,
    eps: float, cudnn: bool,
) -> Any:  # fmt: skip
    """`aten::batch_norm` by running statistics, with a weight and a bias."""
    return op.BatchNormalization(x, weight, bias, mean, variance, epsilon=eps)


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
        if all(_translated(n, registry) or _plain_norm(n) for n in program.graph.nodes):
            registry.register_op(_NORM, batch_norm)  # this export's own registry
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
    if target._schema.is_mutable or _comes_apart(target):
        return False
    return bool(registry.is_registered(target))


def _plain_norm(node: torch.fx.Node) -> bool:
    """Whether `batch_norm` translates a node: others take statistics of the batch, or no weight."""
    given = node.args
    return (
        node.target is _NORM
        and all(isinstance(a, torch.fx.Node) for a in given[1:5])
        and given[5] is False
    )


def _comes_apart(target: torch._ops.OpOverload[..., Any]) -> bool:
    """Whether an operator of others returns several tensors, as `chunk` does.

    Decomposition never leaves one of these; the translation of `chunk` is wrong for one piece.
    """
    composite = target.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd)
    return composite and any(str(r.type) == "List[Tensor]" for r in target._schema.returns)
