"""From an exported file and a plan to the file that ships."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto

from nas.core.errors import NasError
from nas.transforms.quantize.packing import Packed, bytes_of, pack
from nas.transforms.quantize.plan import FORMATS, Layer, Plan, format_of, kept_only, layers
from nas.transforms.quantize.rewrite import rewrite
from nas.transforms.quantize.static import (
    Rounding,
    Settled,
    largest_values,
    prepared,
    quantize_layers,
    quiet,
    settle,
    taken_out,
)
from nas.transforms.report import Report

NAME = "bitwidth"
CPU = ("int8", "int8-dynamic", "int8-weights", "int4-weights")  # onnxruntime's on a processor


def quantize(
    source: Path,
    target: Path,
    plan: Plan,
    examples: Any,
    kernels: Sequence[str] = CPU,
    batch: int | None = None,
) -> Report:
    """Writes a file with the plan's formats, ranges taken from `examples` `(N, ...)`.

    Args:
        kernels: the formats that the device's runtime computes in.
        batch: examples in a call of a study that counts time alone: fp8 and short weights are left
            out of what gains none by them.

    Raises: NasError where the quantizer refuses the file.
    """
    scratch = target.with_name(target.name + ".prepared")
    try:
        with quiet():
            done = _quantized(source, scratch, target, plan, examples, kernels, batch)
    except Exception as error:  # the quantizer's errors share no class of their own
        raise NasError(
            f"the network cannot be quantized: {type(error).__name__}: {str(error)[:200]}",
            "leave the axis bitwidth out for it",
        ) from error
    finally:
        scratch.unlink(missing_ok=True)
    return _report(done, plan, kernels)


@dataclass(frozen=True)
class _Done:
    """What was found in a file and what became of it.

    `rest` are weights that are no layer's, with the reason; `names` says of weights that were
    transposed in the file what they are called in the network.
    """

    found: Sequence[Layer]
    formats: Mapping[str, tuple[str, str | None]]
    settled: Mapping[str, Settled]
    learned: Mapping[str, Rounding]
    rest: Sequence[tuple[str, str]]
    names: Mapping[str, str]


def _quantized(
    source: Path,
    scratch: Path,
    target: Path,
    plan: Plan,
    examples: Any,
    kernels: Sequence[str],
    batch: int | None,
) -> _Done:
    proto = onnx.load(source)
    names = {n.output[0]: n.input[0] for n in proto.graph.node if n.op_type == "Transpose"}
    learned = taken_out(proto)
    onnx.save(proto, scratch)
    proto = before = prepared(scratch, scratch)
    found = layers(proto)
    rest = _rest(proto, found)
    formats = {layer.node: format_of(layer, plan, batch) for layer in found}
    static = [x for x in found if FORMATS[formats[x.node][0]].how == "static"]
    settled: dict[str, Settled] = {}
    if static:  # to the quantizer, no name at all means every node
        proto = quantize_layers(scratch, target, static, plan.calibration, examples)
        chosen = {layer.node: formats[layer.node][0] for layer in static}
        trained = plan.method != "ptq" or plan.average is not None
        settled = settle(proto, before, chosen, learned, trained)
        if plan.average is None:  # fewer that happened to do would be another graph
            settled = {n: replace(s, bits=FORMATS[chosen[n]].bits) for n, s in settled.items()}
    few, length = _few(settled, plan)
    others = {
        layer.node: formats[layer.node][0]
        for layer in found
        if layer not in static and formats[layer.node][0] != "fp32"
    }
    if others:
        few |= rewrite(proto, others, kernels, _ranges(scratch, before, others, examples))
    pack(proto, few, length)
    onnx.save(proto, target)
    return _Done(found, formats, settled, learned, rest, names)


def _rest(proto: ModelProto, found: Sequence[Layer]) -> list[tuple[str, str]]:
    """The weights that no layer of ours multiplies by, with the operator that reads them."""
    known = {layer.weight for layer in found}
    weights = {
        tensor.name
        for tensor in proto.graph.initializer
        if len(tensor.dims) > 1 and tensor.data_type == onnx.TensorProto.FLOAT
    }
    readers = {n: node.op_type for node in proto.graph.node for n in node.input if n in weights}
    return [(name, f"{kind}: no number format is made for it") for name, kind in readers.items()
            if name not in known]  # fmt: skip


def _ranges(
    path: Path, proto: ModelProto, formats: Mapping[str, str], examples: Any
) -> dict[str, float]:
    """The largest absolute value of each tensor that a layer in fp8 reads."""
    wanted = {n.input[0] for n in proto.graph.node if formats.get(n.name) == "fp8"}
    return largest_values(path, sorted(wanted), examples) if wanted else {}


def _few(settled: Mapping[str, Settled], plan: Plan) -> tuple[dict[str, Packed], int | None]:
    """Codes of fewer than 8 bits; under a budget all that share it, and its bytes."""
    if plan.average is None:
        return {s.name: Packed(s.codes, s.bits) for s in settled.values() if s.bits < 8}, None
    divided = {s.name: Packed(s.codes, s.bits) for s in settled.values() if s.on_grid}
    weights = sum(p.codes.size for p in divided.values())
    return divided, max(-(-int(plan.average * weights) // 8) + 1, bytes_of(divided))


def _report(done: _Done, plan: Plan, kernels: Sequence[str]) -> Report:
    total = sum(layer.macs for layer in done.found) or 1.0
    touched, skipped = [], []
    for layer in done.found:
        name, why = done.formats[layer.node]
        weight = done.names.get(layer.weight, layer.weight)
        if why is not None:
            skipped.append((weight, why))
            continue
        settled = done.settled.get(layer.node)
        bits = f" in {settled.bits} bits" if settled and settled.bits < FORMATS["int8"].bits else ""
        if FORMATS[name].how == "weights" and not layer.linear:
            bits = " (storage only: no kernel of convolutions)"
        touched.append(f"{weight}: {name}{bits}, {layer.macs / total:.1%} of the multiply-adds")
    skipped += done.rest
    used = {name for name, why in done.formats.values() if why is None}
    notes = kept_only(used, kernels, "the runtime")
    if plan.average is not None:
        notes.append(_spent(done.settled.values(), plan.average))
    if plan.method != "ptq":
        steps = sum(s.on_grid for s in done.settled.values())
        notes.append(
            f"{steps} of {len(done.settled)} int8 layers have the weights' steps of training, "
            f"{len(done.learned)} tensors the activations'"
        )
    return Report(NAME, tuple(touched), tuple(skipped), tuple(notes))


def _spent(settled: Any, average: float) -> str:
    """How a budget of bits was divided."""
    bits, weights = Counter[int](), 0
    for layer in (s for s in settled if s.on_grid):
        bits[layer.bits] += 1
        weights += layer.codes.size
    sums = sum(s.codes.size * s.bits for s in settled if s.on_grid) / max(1, weights)
    how = ", ".join(f"{count} of {b}" for b, count in sorted(bits.items(), reverse=True))
    return f"{sums:.2f} bits a weight of {average:g} asked for: layers with bits: {how or 'none'}"
