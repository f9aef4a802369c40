"""int8 with fixed ranges: onnxruntime's own quantizer, then the steps and codes that were meant.

Weights per output channel, signed and symmetric; activations per tensor, unsigned, with ranges from
training examples. That is the pair x86 processors have kernels for: with signed activations the
same file runs two to eight times slower there.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, numpy_helper

from nas.transforms.quantize import codes
from nas.transforms.quantize.codes import BITS, Array, Codes
from nas.transforms.quantize.plan import FORMATS, Layer
from nas.transforms.quantize.ranges import percentiles
from nas.transforms.quantize.rewrite import rows_of, turned

_BATCH = 16
_BESIDE = ("Relu", "Clip")  # go into the multiplication before them, if they may
# Of onnxruntime's rewritings those that look at values: they make one tensor of small ones that are
# alike, and take out what adds zero or multiplies by one, as many weights do before training.
_VALUED = ["ConstantSharing", "NoopElimination"]
MIDDLE = 128  # the unsigned code of zero, where activations may be negative


@dataclass(frozen=True)
class Rounding:
    """How a tensor's values were rounded while training: by a step, from zero or around it."""

    step: float
    signed: bool


def taken_out(proto: ModelProto) -> dict[str, Rounding]:
    """Removes the rounding of layers' inputs that training put in, and returns it by tensor.

    A tensor that several layers round has one step in a file: the longest.
    """
    consts = {t.name: t for t in proto.graph.initializer}
    readers: dict[str, list[NodeProto]] = {}
    for node in proto.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found: dict[str, Rounding] = {}
    gone: set[str] = set()
    renamed: dict[str, str] = {}
    for node in proto.graph.node:
        if node.op_type != "Div" or not node.input[1].endswith("rounding.step"):
            continue
        chain = [node]
        for _ in ("Round", "Clip", "Mul"):
            chain += readers[chain[-1].output[0]]
        least = float(numpy_helper.to_array(consts[chain[2].input[1]]))
        step = float(numpy_helper.to_array(consts[node.input[1]]))
        before = found.get(node.input[0], Rounding(0.0, False))
        found[node.input[0]] = Rounding(max(step, before.step), least < 0 or before.signed)
        gone |= {n.output[0] for n in chain}
        renamed[chain[-1].output[0]] = node.input[0]
    kept = [node for node in proto.graph.node if node.output[0] not in gone]
    for node in kept:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
    read = {name for node in kept for name in node.input}
    tensors = [t for t in proto.graph.initializer if t.name in read]
    del proto.graph.node[:], proto.graph.initializer[:]
    proto.graph.node.extend(kept)
    proto.graph.initializer.extend(tensors)
    return found


def prepared(source: Path, target: Path) -> ModelProto:
    """The graph with shapes, norms in their convolutions, and a name for every node.

    As onnxruntime's own preparation, but for what looks at weights' values: two trainings of one
    network have one graph.
    """
    from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    providers = ["CPUExecutionProvider"]
    InferenceSession(source.read_bytes(), options, providers, disabled_optimizers=_VALUED)
    proto = onnx.shape_inference.infer_shapes(onnx.load(target))
    for number, node in enumerate(proto.graph.node):
        node.name = f"node{number}"
    onnx.save(proto, target)
    return proto


def quantize_layers(
    source: Path, target: Path, chosen: Sequence[Layer], calibration: str, examples: Any
) -> ModelProto:
    """The prepared graph with these layers in int8, ranges taken from `examples` `(N, ...)`."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    proto = onnx.load(source)
    named, ranges = [*(layer.node for layer in chosen), *_beside(proto, chosen)], None
    if calibration == "percentile":
        ranges = target.with_name(f"{target.name}.ranges")
        _keep_percentiles(ranges, proto, named, examples)
    try:
        quantize_static(
            str(source),
            str(target),
            _Examples(proto, examples),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=named,
            calibrate_method=CalibrationMethod.MinMax,
            calibration_cache_path=ranges,
        )
    finally:
        if ranges is not None:
            ranges.unlink(missing_ok=True)
    return onnx.load(target)


def _keep_percentiles(place: Path, proto: ModelProto, named: Sequence[str], examples: Any) -> None:
    """Writes the ranges of what these nodes take and make, as the quantizer reads them."""
    from onnxruntime.quantization.calibrate import (
        CalibrationMethod,
        TensorsData,
        save_tensors_data,
    )

    nodes = [node for node in proto.graph.node if node.name in set(named)]
    stored = {t.name for t in proto.graph.initializer} | {""}
    tensors = dict.fromkeys(n for node in nodes for n in (*node.input, *node.output))
    batches = iter(_Examples(proto, examples).get_next, None)
    found = percentiles(proto, [n for n in tensors if n not in stored], batches, len(examples))
    ranges = {name: (np.float32(low), np.float32(high)) for name, (low, high) in found.items()}
    save_tensors_data(TensorsData(CalibrationMethod.MinMax, ranges), place)


def _beside(proto: ModelProto, chosen: Sequence[Layer]) -> list[str]:
    """Activations right after a layer that becomes int8."""
    names = {layer.node for layer in chosen}
    outputs = {node.output[0] for node in proto.graph.node if node.name in names}
    return [
        node.name
        for node in proto.graph.node
        if node.op_type in _BESIDE and node.input[0] in outputs
    ]


@dataclass(frozen=True)
class Settled:
    """What became of a layer's weights: the initializer of its codes, the codes, their bits."""

    name: str
    codes: Codes
    bits: int
    on_grid: bool


def settle(
    proto: ModelProto,
    before: ModelProto,
    formats: Mapping[str, str],
    learned: Mapping[str, Rounding],
    trained: bool,
) -> dict[str, Settled]:
    """Gives int8 layers the steps that were learned, and the bits that were chosen, in place.

    Args:
        proto: the quantizer's file. before: what it was made of.
        formats: of each int8 layer, by its node's name.
        learned: the rounding of tensors, from `taken_out`.
        trained: whether weights may lie on a grid of their own.

    Returns: by node, what its weights became.
    """
    graph = _Quantized(proto)
    floats = {t.name: numpy_helper.to_array(t) for t in before.graph.initializer}
    nodes = {n.name: n for n in before.graph.node}
    for tensor, rounding in learned.items():
        graph.round(tensor, rounding)
    found = {}
    for name, wanted in formats.items():
        own = nodes[name]
        rows = rows_of(own, floats[own.input[1]])
        flat = rows.reshape(len(rows), -1)
        steps, kept, bits, on_grid = _coded(flat, FORMATS[wanted].bits, trained)
        stored = kept.reshape(rows.shape)
        stored = stored.T if turned(own) else stored
        place = graph.weigh(name, np.ascontiguousarray(stored), steps, own)
        if len(own.input) > 2 and own.input[2] in floats:
            graph.shift(name, floats[own.input[2]], steps)
        found[name] = Settled(place, np.ascontiguousarray(stored), bits, on_grid)
    graph.finish()
    return found


def _coded(rows: npt.NDArray[Any], bits: int, trained: bool) -> tuple[Array, Codes, int, bool]:
    """Steps, codes and bits of rows, and whether training had put them on a grid."""
    steps = codes.grid(rows) if trained else None
    if steps is not None:
        kept = codes.codes(rows, steps)
        if codes.needed(kept) <= bits:
            return steps, kept, codes.needed(kept), True
    steps = codes.widest_steps(rows)
    kept = codes.codes(rows, steps)
    if bits < BITS:
        kept, steps = codes.double_rounded(kept, bits), steps * 2 ** (BITS - bits)
    return steps, kept, bits, False


class _Quantized:
    """A file with pairs of QuantizeLinear and DequantizeLinear, whose constants are replaced."""

    def __init__(self, proto: ModelProto) -> None:
        self.proto = proto
        self.nodes = {n.name: n for n in proto.graph.node}
        self.made = {n.output[0]: n for n in proto.graph.node}
        self.consts = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
        self.changed: dict[str, Any] = {}

    def round(self, tensor: str, rounding: Rounding) -> None:
        """Gives a tensor its learned step, where it is rounded at all."""
        for node in self.proto.graph.node:
            if node.op_type == "QuantizeLinear" and node.input[0] == tensor:
                zero = MIDDLE if rounding.signed else 0
                self.changed[node.input[1]] = np.array(rounding.step, np.float32)
                self.changed[node.input[2]] = np.array(zero, np.uint8)

    def weigh(self, name: str, stored: Codes, steps: Array, own: NodeProto) -> str:
        """Gives a layer its codes and steps; returns the name of the codes."""
        pair = self.made[self.nodes[name].input[1]]
        axis = 1 if turned(own) else 0
        del pair.attribute[:]
        pair.attribute.append(onnx.helper.make_attribute("axis", axis))
        self.changed[pair.input[0]] = stored
        self.changed[pair.input[1]] = steps.astype(np.float32)
        self.changed[pair.input[2]] = np.zeros(len(steps), np.int8)
        return str(pair.input[0])

    def shift(self, name: str, bias: npt.NDArray[Any], steps: Array) -> None:
        """Rounds a layer's bias to the product of its steps."""
        node = self.nodes[name]
        pair, source = self.made.get(node.input[2]), self.made[node.input[0]]
        if pair is None or pair.op_type != "DequantizeLinear":
            return
        step = float(self._now(source.input[1])) * steps
        limit = 2**31 - 1
        whole = np.clip(np.rint(bias / step), -limit, limit).astype(np.int32)
        self.changed[pair.input[0]] = whole
        self.changed[pair.input[1]] = step.astype(np.float32)

    def _now(self, name: str) -> Any:
        return self.changed.get(name, self.consts[name])

    def finish(self) -> None:
        """Writes what was replaced."""
        for tensor in self.proto.graph.initializer:
            if tensor.name in self.changed:
                tensor.CopyFrom(numpy_helper.from_array(self.changed[tensor.name], tensor.name))


def largest_values(path: Path, tensors: Sequence[str], examples: Any) -> dict[str, float]:
    """The largest absolute value of each tensor of a file, over examples."""
    from onnxruntime import InferenceSession

    proto = onnx.load(path)
    own = proto.graph.input[0].name
    inner = [name for name in tensors if name != own]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    session = InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    found = dict.fromkeys(tensors, 0.0)
    batches = _Examples(proto, examples)
    while (batch := batches.get_next()) is not None:
        values = dict(zip(inner, session.run(inner, batch) if inner else (), strict=True))
        for name in tensors:
            value = values.get(name, batch[own])
            found[name] = max(found[name], float(np.abs(value).max()))
    return found


class _Examples:
    """Batches of examples, as the quantizer asks for them."""

    def __init__(self, proto: ModelProto, examples: Any) -> None:
        name = proto.graph.input[0].name
        rows = np.asarray(examples, dtype=np.float32)
        parts = [rows[i : i + _BATCH] for i in range(0, len(rows), _BATCH)]
        self._parts = iter([{name: part} for part in parts])

    def get_next(self) -> dict[str, Any] | None:
        """The next batch, or None after the last."""
        return next(self._parts, None)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the quantizer's advice on prepared files, and what it prints of its histograms."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
