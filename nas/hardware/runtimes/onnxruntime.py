"""onnxruntime on the processor: outputs of an exported file, for scoring and parity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from nas.core.errors import NasError

Array = np.ndarray[Any, np.dtype[Any]]


def version() -> str:
    """Name and version, as records and the database write them."""
    return f"onnxruntime {onnxruntime.__version__}"


def outputs(path: Path, inputs: Array, threads: int = 1, batch: int = 64) -> Array:
    """The first output of a file with one input, for `inputs` (N, ...), `batch` rows at a time.

    A file with a fixed batch of its own is run in that batch, the last rows padded by repetition.
    Returns an array (N, ...). Raises: NasError where the file cannot be loaded or refuses the rows.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        (spec,) = session.get_inputs()
        fixed = spec.shape[0] if isinstance(spec.shape[0], int) else None
        size = fixed or batch
        parts = []
        for start in range(0, len(inputs), size):
            rows = inputs[start : start + size]
            missing = size - len(rows) if fixed else 0
            padded = np.concatenate([rows, rows[-1:].repeat(missing, 0)]) if missing else rows
            parts.append(session.run(None, {spec.name: padded})[0][: len(rows)])
    except Exception as error:  # onnxruntime's errors share no class of their own
        raise NasError(
            f"{path} does not run under {version()}: {str(error).strip()[:300]}",
            f"is it an ONNX file with one input for rows of shape {inputs.shape[1:]}?",
        ) from error
    return np.concatenate(parts)
