"""TensorRT on a CUDA device: outputs of an ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from nas.hardware.agent.engines.tensorrt import Tensorrt, built, versions
from nas.hardware.runtimes import Array, Runtime

BATCH = 64


def write(source: Path, target: Path, runtime: Runtime, batch: int) -> str:
    """Writes the engine of an ONNX file for batches of 1 to `batch`; says what it is, in words.

    It runs on GPUs of this one's kind, under this version of TensorRT.
    """
    options = [option for option in runtime.options if option != "graphs"]
    job = {"kind": "cuda", "batch": batch, "resolution": None, "options": options}
    target.write_bytes(bytes(built(str(source), job).serialize()))
    return f"TensorRT {versions()['tensorrt']} engine, batches of 1 to {batch}"


def opened(
    path: Path, runtime: Runtime, kind: str, threads: int
) -> tuple[Callable[[Array], Array], int | None]:
    """What runs an ONNX file with one input and one output, in an engine for batches of 64."""
    options = [option for option in runtime.options if option != "graphs"]
    engine = Tensorrt(
        str(path), {"kind": kind, "batch": BATCH, "resolution": None, "options": options}
    )

    def run(rows: Array) -> Array:
        return engine.answer(torch.from_numpy(rows)).cpu().numpy()  # type: ignore[no-any-return]

    return run, BATCH
