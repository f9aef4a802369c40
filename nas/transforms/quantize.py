"""8-bit integers in an exported file, by onnxruntime's own quantizer.

Static: weights per output channel, signed and symmetric; activations per tensor, unsigned, with
ranges from training examples. That is the pair x86 processors have kernels for: with signed
activations the same file runs two to eight times slower there.
"""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from nas.core.errors import NasError
from nas.transforms.report import Report
from nas.transforms.stages import Given, Transform

SECTIONS = 4
EXAMPLES = 128  # training examples that ranges are taken from
_BATCH = 16
_BESIDE = ("Relu", "Clip")  # go into the multiplication before them, if they may


@dataclass(frozen=True)
class Plan:
    """What becomes int8.

    Args:
        sections: for each quarter of the multiply-adds, in the order in which they run, whether it
            does.
        depthwise: whether depthwise convolutions do too; few runtimes have a kernel for them.
        ends: whether the first and the last layer do too.
        calibration: `minmax`, or `percentile` (99.99 % of the values seen are inside).
    """

    sections: tuple[bool, ...] = (True,) * SECTIONS
    depthwise: bool = False
    ends: bool = True
    calibration: str = "minmax"


@dataclass(frozen=True)
class Layer:
    """A node that multiplies by weights: its multiply-adds for one example, and its section."""

    node: str
    weight: str
    macs: float
    section: int
    depthwise: bool
    end: bool


def quantizing(plan: Plan) -> Transform:
    """The transform that a plan names; it works on the exported file alone."""

    def write(source: Path, target: Path, given: Given) -> Report:
        if source.suffix != ".onnx":
            raise NasError(
                f"int8 is made by onnxruntime's quantizer, which takes no {source.suffix} file",
                "type --runtime onnxruntime, or leave the axis bitwidth out",
            )
        return quantize(source, target, plan, given.examples(EXAMPLES).numpy())

    return Transform("bitwidth", write=write)


def quantize(source: Path, target: Path, plan: Plan, examples: Any) -> Report:
    """Writes a file with the plan's layers in int8, ranges taken from `examples` `(N, ...)`.

    Raises: NasError where the quantizer refuses the file.
    """
    prepared = target.with_name(target.name + ".prepared")
    try:
        with _quiet():
            proto = _prepared(source, prepared)
            found = layers(proto)
            chosen = [layer for layer in found if _why_not(layer, plan) is None]
            if chosen:
                names = [*(layer.node for layer in chosen), *_beside(proto, chosen)]
                _static(prepared, target, names, plan.calibration, _Examples(proto, examples))
            else:  # to the quantizer, no name at all means every node
                target.write_bytes(source.read_bytes())
    except Exception as error:  # the quantizer's errors share no class of their own
        raise NasError(
            f"the network cannot be quantized: {type(error).__name__}: {str(error)[:200]}",
            "leave the axis bitwidth out for it",
        ) from error
    finally:
        prepared.unlink(missing_ok=True)
    return _report(found, plan)


def _prepared(source: Path, prepared: Path) -> ModelProto:
    """The graph with shapes, what is constant worked out, and a name for every node."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    proto = onnx.load(prepared)
    for number, node in enumerate(proto.graph.node):
        node.name = f"node{number}"
    onnx.save(proto, prepared)
    return proto


def _static(
    prepared: Path, target: Path, names: list[str], calibration: str, examples: _Examples
) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    methods = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}
    quantize_static(
        str(prepared),
        str(target),
        examples,
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=names,
        calibrate_method=methods[calibration],
    )


def layers(proto: ModelProto) -> list[Layer]:
    """The nodes that multiply by weights, in the order in which they run.

    Sections are quarters of the sum of multiply-adds; a layer belongs where its middle lies.
    """
    inferred = onnx.shape_inference.infer_shapes(proto)
    shapes = {
        value.name: [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
        for value in [*inferred.graph.value_info, *inferred.graph.output]
    }
    weights = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    rows = []
    for node in proto.graph.node:
        weight = next((n for n in node.input[1:2] if n in weights), None)
        if node.op_type not in ("Conv", "Gemm", "MatMul") or weight is None:
            continue
        places = math.prod(shapes.get(node.output[0], [1])[2:]) if node.op_type == "Conv" else (
            math.prod(shapes.get(node.output[0], [1])[1:-1])
        )  # fmt: skip
        rows.append((node, weight, float(math.prod(weights[weight]) * places)))
    total = sum(macs for _, _, macs in rows) or 1.0
    done, found = 0.0, []
    for i, (node, weight, macs) in enumerate(rows):
        section = min(SECTIONS - 1, int(SECTIONS * (done + macs / 2) / total))
        done += macs
        end = i in (0, len(rows) - 1)
        found.append(
            Layer(node.name, weight, macs, section, _depthwise(node, weights[weight]), end)
        )
    return found


def _depthwise(node: NodeProto, weight: Sequence[int]) -> bool:
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    return groups > 1 and groups == weight[0]


def _why_not(layer: Layer, plan: Plan) -> str | None:
    """Why a layer stays fp32, or None."""
    if not plan.sections[layer.section]:
        return f"section {layer.section} is fp32"
    if layer.end and not plan.ends:
        return "the first and the last layer are fp32"
    if layer.depthwise and not plan.depthwise:
        return "depthwise convolutions are fp32"
    return None


def _beside(proto: ModelProto, chosen: Sequence[Layer]) -> list[str]:
    """Activations right after a layer that becomes int8."""
    names = {layer.node for layer in chosen}
    outputs = {node.output[0] for node in proto.graph.node if node.name in names}
    return [
        node.name
        for node in proto.graph.node
        if node.op_type in _BESIDE and node.input[0] in outputs
    ]


def _report(found: Sequence[Layer], plan: Plan) -> Report:
    total = sum(layer.macs for layer in found) or 1.0
    reasons = [(layer, _why_not(layer, plan)) for layer in found]
    touched = [
        f"{layer.weight}: int8, {layer.macs / total:.1%} of the multiply-adds"
        for layer, why in reasons
        if why is None
    ]
    skipped = [(layer.weight, why) for layer, why in reasons if why is not None]
    return Report("bitwidth", tuple(touched), tuple(skipped))


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
def _quiet() -> Iterator[None]:
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
