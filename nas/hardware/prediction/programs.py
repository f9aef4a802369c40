"""A network's kernels one at a time as programs of torch's, for devices whose runtime is torch.

A kernel is known as operators of an ONNX file (`nas.hardware.prediction.kernels`); each is written
down here as torch runs the same thing, with random weights of the same shapes. An operator without
a line in the table is not timed alone: the law of its class answers for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from onnx import NodeProto, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from nas.core.errors import NasError
from nas.hardware.prediction.lowering import Graph, attributes
from nas.hardware.runtimes import Runtime
from nas.hardware.runtimes.torch import write as write_program

Attributes = Mapping[str, Any]
Run = Callable[[Attributes, Sequence[Any]], Tensor]
# What ONNX writes as two operators, x * sigmoid(x), is one of torch's.
_GATES: Mapping[str, Callable[[Tensor], Tensor]] = {"Sigmoid": F.silu, "HardSigmoid": F.hardswish}


def write(
    graph: Graph, nodes: Sequence[NodeProto], batch: int, path: Path, runtime: Runtime
) -> bool:
    """Writes one kernel's operators as a program; False where torch has no such one here.

    The program takes the first value with the batch in front; what else is read becomes weights.
    """
    written = {name for node in nodes for name in node.output}
    names = list(dict.fromkeys(n for node in nodes for n in node.input if n and n not in written))
    given = next((n for n in names if _varies(graph, n, batch)), None)
    if given is None or any(node.op_type not in _RUNS for node in nodes):
        return False
    try:
        module = _Kernel(graph, nodes, given, [n for n in names if n != given], batch).eval()
        write_program(module, graph.values[given].dims[1:], path, runtime)
    except (NasError, _Unlike):
        return False
    return True


def _varies(graph: Graph, name: str, batch: int) -> bool:
    value = graph.values.get(name)
    return bool(
        value and not value.constant and value.type == "float" and value.dims[:1] == (batch,)
    )


class _Unlike(Exception):
    """An operator with attributes that the torch one has not."""


class _Kernel(nn.Module):
    """Some operators on one input; constants are weights, other values numbers of their shape."""

    def __init__(
        self,
        graph: Graph,
        nodes: Sequence[NodeProto],
        given: str,
        others: Sequence[str],
        batch: int,
    ) -> None:
        super().__init__()
        self.given = given
        self.told = [(n.op_type, attributes(n), list(n.input), n.output[0]) for n in nodes]
        self.plain: dict[str, list[int]] = {}
        self.weights = nn.ParameterDict()
        self.keys = {name: f"w{place}" for place, name in enumerate(others)}
        for name, key in self.keys.items():
            value = graph.values.get(name)
            if value is None or (value.type != "float" and not value.constant):
                raise _Unlike
            if value.type != "float":
                content = numpy_helper.to_array(graph.constants[name])
                self.plain[name] = [int(v) for v in content.reshape(-1)]
                continue
            dims = value.dims
            if not value.constant and dims[:1] == (batch,):
                dims = (1, *dims[1:])  # the program is for any batch
            self.weights[key] = nn.Parameter(torch.rand(dims) + 0.5, requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        known: dict[str, Any] = {self.given: inputs, "": None, **self.plain}
        known |= {n: self.weights[k] for n, k in self.keys.items() if k in self.weights}
        gate = self._gate()
        if gate is not None:
            return gate(inputs)
        result = inputs
        for op, told, names, out in self.told:
            result = known[out] = _RUNS[op](told, [known[name] for name in names])
        return result

    def _gate(self) -> Callable[[Tensor], Tensor] | None:
        if [op for op, *_ in self.told][1:] != ["Mul"]:
            return None
        (first, _, (read, *_), made), (_, _, both, _) = self.told
        return _GATES.get(first) if set(both) == {read, made} and read == self.given else None


# --- ONNX's operators as torch runs them -------------------------------------------------------


def _conv(told: Attributes, values: Sequence[Any]) -> Tensor:
    size = values[1].ndim - 2
    before, after = _pads(told, size)
    if before != after:
        raise _Unlike
    runs: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
    ones = [1] * size
    found: Tensor = runs[size](
        *values[:3], stride=told.get("strides", ones), padding=before,
        dilation=told.get("dilations", ones), groups=told.get("group", 1),
    )  # fmt: skip
    return found


def _pads(told: Attributes, size: int) -> tuple[list[int], list[int]]:
    if told.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise _Unlike
    pads = list(told.get("pads", [0] * (2 * size)))
    return pads[:size], pads[size:]


def _gemm(told: Attributes, values: Sequence[Any]) -> Tensor:
    left, right = values[:2]
    if told.get("transA") or told.get("alpha", 1.0) != 1.0 or told.get("beta", 1.0) != 1.0:
        raise _Unlike
    weight = right if told.get("transB") else right.T
    return F.linear(left, weight, values[2] if len(values) > 2 else None)


def _layer_norm(told: Attributes, values: Sequence[Any]) -> Tensor:
    first = told.get("axis", -1) % values[0].ndim
    return F.layer_norm(values[0], values[0].shape[first:], *values[1:3])


def _mean(told: Attributes, values: Sequence[Any]) -> Tensor:
    axes = values[1] if len(values) > 1 else told.get("axes")
    if not axes:
        raise _Unlike
    found: Tensor = values[0].mean(tuple(axes), keepdim=bool(told.get("keepdims", 1)))
    return found


def _pool(run: Callable[..., Tensor]) -> Run:
    def pooled(told: Attributes, values: Sequence[Any]) -> Tensor:
        before, after = _pads(told, 2)
        if before != after or len(told["kernel_shape"]) != 2 or told.get("ceil_mode"):
            raise _Unlike
        return run(values[0], told["kernel_shape"], told.get("strides", [1, 1]), before)

    return pooled


def _of(run: Any) -> Run:
    """An operator of its inputs alone."""
    return lambda told, values: run(*values)


def _gelu(told: Attributes, values: Sequence[Any]) -> Tensor:
    return F.gelu(values[0], approximate=told.get("approximate", b"none").decode())


_RUNS: Mapping[str, Run] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _of(torch.matmul),
    "LayerNormalization": _layer_norm,
    "ReduceMean": _mean,
    "GlobalAveragePool": lambda told, values: F.adaptive_avg_pool2d(values[0], 1),
    "AveragePool": _pool(F.avg_pool2d),
    "MaxPool": _pool(F.max_pool2d),
    "Softmax": lambda told, values: F.softmax(values[0], told.get("axis", -1)),
    "BatchNormalization": lambda told, v: F.batch_norm(v[0], v[3], v[4], v[1], v[2]),
    "Concat": lambda told, values: torch.cat(list(values), told["axis"]),
    "Gelu": _gelu,
    **{
        name: _of(run)
        for name, run in {
            "Relu": F.relu, "Sigmoid": torch.sigmoid, "HardSigmoid": F.hardsigmoid,
            "HardSwish": F.hardswish, "Tanh": torch.tanh, "Erf": torch.erf, "Exp": torch.exp,
            "Softplus": F.softplus, "Mish": F.mish, "Sqrt": torch.sqrt, "Abs": torch.abs,
            "Neg": torch.neg, "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul,
            "Div": torch.div, "Pow": torch.pow,
        }.items()
    },
}  # fmt: skip
