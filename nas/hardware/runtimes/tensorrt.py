"""TensorRT on a CUDA device: outputs of an ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from nas.hardware.agent.engines.tensorrt import Tensorrt
from nas.hardware.runtimes import Array, Runtime

BATCH = 64


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
