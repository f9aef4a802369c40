"""onnxruntime on the processor: outputs of an exported file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
from onnx import TensorProto

from nas.hardware.runtimes import Array, Runtime


def opened(
    path: Path, runtime: Runtime, kind: str, threads: int
) -> tuple[Callable[[Array], Array], int | None]:
    """What runs an ONNX file with one input, and the batch that the file is fixed at."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = _session(path, options)
    (spec,) = session.get_inputs()

    def run(rows: Array) -> Array:
        found: Array = session.run(None, {spec.name: rows})[0]
        return found

    return run, spec.shape[0] if isinstance(spec.shape[0], int) else None


def _session(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """A file of any precision, loaded.

    Between pairs of quantizing operators onnxruntime puts its int8 kernels, also where they are of
    8-bit floats, which those cannot take. Such a file is for a GPU; here it only answers, as it is.
    """
    if any(t.data_type == TensorProto.FLOAT8E4M3FN for t in onnx.load(path).graph.initializer):
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
