"""onnxruntime on the processor: outputs of an exported file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnxruntime

from nas.hardware.runtimes import Array, Runtime


def opened(
    path: Path, runtime: Runtime, kind: str, threads: int
) -> tuple[Callable[[Array], Array], int | None]:
    """What runs an ONNX file with one input, and the batch that the file is fixed at."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (spec,) = session.get_inputs()

    def run(rows: Array) -> Array:
        found: Array = session.run(None, {spec.name: rows})[0]
        return found

    return run, spec.shape[0] if isinstance(spec.shape[0], int) else None
