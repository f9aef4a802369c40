"""OpenVINO on the processor."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np

# OpenVINO reports its use to its makers unless the package that does so cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
import openvino  # noqa: E402

from ..inputs import INPUTS, random_input  # noqa: E402


class Openvino:
    """A compiled network, and its inputs."""

    def __init__(self, path: str, job: dict[str, Any]) -> None:
        device = core()
        network = device.read_model(path)
        rng = np.random.default_rng(INPUTS)
        feeds = {spec.name: random_input(spec, job, rng) for spec in map(_spec, network.inputs)}
        network.reshape({name: list(value.shape) for name, value in feeds.items()})
        chosen = properties(job["options"], job["threads"])
        self.request = device.compile_model(network, "CPU", chosen).create_infer_request()
        for name, value in feeds.items():
            self.request.set_tensor(name, openvino.Tensor(value))

    def call(self) -> float:
        """One call's duration, in microseconds."""
        start = time.perf_counter_ns()
        self.request.infer()
        return (time.perf_counter_ns() - start) / 1e3


def core() -> Any:
    """The runtime's own entry."""
    return openvino.Core()


def properties(options: list[str], threads: int) -> dict[str, Any]:
    """One stream of so many threads, and the precision that was asked for.

    Left to itself OpenVINO computes in bfloat16 wherever the processor has instructions for it.
    """
    return {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "bf16" if "bf16" in options else "f32",
    }


def _spec(found: Any) -> SimpleNamespace:
    """An input as `random_input` takes it."""
    types = {"f32": "float", "f16": "float16", "f64": "double", "i64": "int64", "i32": "int32",
             "u8": "uint8", "i8": "int8"}  # fmt: skip
    kind = found.element_type.get_type_name()
    shape = [d.get_length() if d.is_static else str(d) for d in found.partial_shape]
    return SimpleNamespace(
        name=found.any_name, shape=shape, type=f"tensor({types.get(kind, kind)})"
    )


def load(path: str, job: dict[str, Any]) -> Openvino:
    """An ONNX file compiled for the job's batch, threads and precision."""
    return Openvino(path, job)


def versions() -> dict[str, str]:
    """OpenVINO's own."""
    return {"openvino": openvino.__version__}
