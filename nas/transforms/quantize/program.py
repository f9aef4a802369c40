"""The int8 of a quantized file in the module that it was exported from, for a torch program."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nas.core.errors import NasError
from nas.networks.mixers.depthwise import Depthwise
from nas.transforms.quantize.packing import BLOB
from nas.transforms.quantize.plan import MULTIPLYING
from nas.transforms.quantize.rewrite import turned

ELSE = "type --format onnx or openvino"
SIMPLE = (nn.Conv1d, nn.Conv2d, nn.Linear, Depthwise)  # all that they do is the product
_CODES = "_quantized"  # what onnxruntime's quantizer puts behind a weight's name


class _Steps(nn.Module):
    """Codes times steps, which are shaped as to meet the codes of their output channel."""

    def __init__(self, steps: Tensor) -> None:
        super().__init__()
        self.register_buffer("steps", steps)
        self.steps: Tensor

    def forward(self, codes: Tensor) -> Tensor:
        return codes.to(self.steps.dtype) * self.steps


class _Rounded:
    """Activations on the steps of unsigned 8-bit codes; a hook before the layer that reads them."""

    def __init__(self, step: float, zero: int) -> None:
        self.step, self.zero = step, zero

    @classmethod
    def by(cls, pair: NodeProto, consts: Mapping[str, TensorProto]) -> _Rounded:
        """As one of a pair of quantizing operators does."""
        step, zero = (_value(consts, name) for name in pair.input[1:])
        return cls(float(step), int(zero))

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self.rounded(inputs[0]), *inputs[1:])

    def behind(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """As a hook behind the layer that makes the activations."""
        return self.rounded(output)

    def rounded(self, values: Tensor) -> Tensor:
        """The nearest values that codes stand for."""
        codes = (torch.round(values / self.step) + self.zero).clamp(0, 255)
        return (codes - self.zero) * self.step


def in_torch(module: nn.Module, source: Path) -> nn.Module:
    """A copy of a deployed module with the int8 of its quantized file.

    Weights are the file's codes, one byte each, and are multiplied by their steps in each call;
    what convolutions and linear layers take and make is rounded as in the file. The arithmetic
    between is float32: torch has no int8 convolution outside its compiler, so such a program is
    small, not fast. Of a layer of another kind, or one that runs twice, only the weights are codes:
    what its product takes and makes is inside of it, or differs from call to call.

    Raises: NasError where the file holds another format than int8 with fixed ranges, or the weight
        of an int8 layer is no parameter of the module.
    """
    proto = onnx.load(source)
    consts = {t.name: t for t in proto.graph.initializer}
    made = {name: node for node in proto.graph.node for name in node.output}
    _only_static(consts)
    found = deepcopy(module)
    layers: dict[str, list[NodeProto]] = {}
    for node in proto.graph.node:
        if node.op_type in MULTIPLYING:
            layers.setdefault(_codes_of(node, made), []).append(node)
    for name, (node, *again) in layers.items():
        if name not in consts:
            continue  # fp32, or a product of activations
        codes, steps = (_value(consts, part) for part in made[node.input[1]].input[:2])
        across = turned(node)  # codes are (I, O) there, and (O, ...) elsewhere
        steps = steps if across else steps.reshape(-1, *[1] * (codes.ndim - 1))
        weight = name.removesuffix(_CODES)
        if weight not in dict(found.named_parameters()):
            codes, steps = (codes.T, steps[:, None]) if across else (codes, steps)
            weight = _turned_round(found, weight, codes, steps)
        owner = _give(found, weight, codes, steps)
        if again or not isinstance(owner, SIMPLE):
            continue
        owner.register_forward_pre_hook(_Rounded.by(made[node.input[0]], consts))
        whole = len(node.input) > 2 or getattr(owner, "bias", None) is None
        for after in _roundings(proto, node.output[0]) if whole else ():
            owner.register_forward_hook(_Rounded.by(after, consts).behind)
    return found


def _codes_of(node: NodeProto, made: Mapping[str, NodeProto]) -> str:
    """The name of the codes that a layer multiplies by; empty where it multiplies by none."""
    pair = made.get(node.input[1])
    return pair.input[0] if pair is not None and pair.op_type == "DequantizeLinear" else ""


def _value(consts: Mapping[str, TensorProto], name: str) -> Tensor:
    return torch.from_numpy(numpy_helper.to_array(consts[name]).copy())


def _roundings(proto: ModelProto, name: str) -> list[NodeProto]:
    """What rounds a tensor, at once or behind a ReLU that the rounding goes into."""
    readers = [node for node in proto.graph.node if name in node.input]
    if [node.op_type for node in readers] == ["Relu"]:
        return _roundings(proto, readers[0].output[0])
    return [node for node in readers if node.op_type == "QuantizeLinear"][:1]


def _only_static(consts: Mapping[str, TensorProto]) -> None:
    short = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN)
    other = [name for name, t in consts.items()
             if name == BLOB or name.endswith(".codes") or t.data_type in short]  # fmt: skip
    if other:
        raise NasError(
            f"a torch program takes int8 with fixed ranges, and the file has {other[0]!r}", ELSE
        )


def _turned_round(module: nn.Module, name: str, codes: Tensor, steps: Tensor) -> str:
    """The parameter that became codes (O, I) of another name, known by its values.

    A weight that the file has the other way round has lost its name.
    """
    apart = codes * steps
    for other, weight in module.named_parameters():
        like = weight.shape == codes.shape and weight.dtype == torch.float32
        if like and bool(((weight.detach() - apart).abs() <= 0.51 * steps).all()):
            return other
    raise NasError(f"the int8 weight {name!r} is no parameter of the network's own", ELSE)


def _give(module: nn.Module, name: str, codes: Tensor, steps: Tensor) -> nn.Module:
    """Codes in place of a parameter, which is computed from them in each call; who has it."""
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    setattr(owner, leaf, nn.Parameter(codes.contiguous(), requires_grad=False))
    parametrize.register_parametrization(owner, leaf, _Steps(steps), unsafe=True)
    return owner
