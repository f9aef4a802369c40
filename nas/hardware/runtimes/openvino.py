"""OpenVINO on the processor: outputs of an ONNX file, or of its own .xml."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nas.hardware.agent.engines.openvino import core, properties
from nas.hardware.runtimes import Array, Runtime


def convert(source: Path, target: Path) -> None:
    """Writes an ONNX file as OpenVINO's own, `target` (.xml) with a .bin beside it.

    Weights keep their type; left to itself OpenVINO halves them.
    """
    import openvino

    openvino.save_model(openvino.convert_model(str(source)), str(target), compress_to_fp16=False)


def opened(
    path: Path, runtime: Runtime, kind: str, threads: int
) -> tuple[Callable[[Array], Array], int | None]:
    """What runs a file with one input, and the batch that the file is fixed at."""
    device = core()
    network = device.read_model(str(path))
    (spec,) = network.inputs
    compiled = device.compile_model(network, "CPU", properties(list(runtime.options), threads))
    first = spec.partial_shape[0]

    def run(rows: Array) -> Array:
        found: Array = compiled([rows])[0]
        return found.copy()

    return run, first.get_length() if first.is_static else None
