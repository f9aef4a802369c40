"""OpenVINO on the processor.

Its profiler counts whole microseconds of each call, and says of a kernel the mean of all calls so
far, both rounded down. A kernel shorter than that is taken for half a microsecond.
"""

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
from ..watch import Watch  # noqa: E402

ROUNDS, SECONDS = (4, 12), 1.5  # fewest and most sessions that are profiled, and how long in all
CALLS = (12, 60)  # fewest and most calls of one
RESOLUTION_US = 1.0


class Openvino:
    """A compiled network, and its inputs; `profiled`, it counts the time of its kernels."""

    def __init__(self, path: str, job: dict[str, Any], profiled: bool = False) -> None:
        device = core()
        network = device.read_model(path)
        rng = np.random.default_rng(INPUTS)
        feeds = {spec.name: random_input(spec, job, rng) for spec in map(_spec, network.inputs)}
        network.reshape({name: list(value.shape) for name, value in feeds.items()})
        chosen = properties(job["options"], job["threads"]) | {"PERF_COUNT": profiled}
        self.compiled = device.compile_model(network, "CPU", chosen)
        self.request = self.compiled.create_infer_request()
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


# --- by layer ----------------------------------------------------------------------------------

Times = dict[int, float]  # microseconds by a kernel's place in the order of execution


def profile(path: str, job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """Each kernel's mean time over the quieter half of some sessions of many calls each.

    The counters of a session cannot be set back, so each of the sessions is a new one, and its
    first call, which is slow, is taken out of the mean. What the kernels leave of a call is the
    runtime's own, and what was rounded down of kernels too short to be seen.
    """
    rounds: list[tuple[Times, float, int]] = []
    start = time.perf_counter()
    while len(rounds) < ROUNDS[0] or (
        len(rounds) < ROUNDS[1] and time.perf_counter() - start < SECONDS
    ):
        with watch.over(0, job.get("load_s")):
            engine = Openvino(path, job, profiled=True)
        rounds.append(_round(engine, watch))
    quiet = sorted(rounds, key=lambda found: found[1])[: len(rounds) // 2]
    call_us = float(np.mean([us for _, us, _ in quiet]))
    ran = set().union(*(spent for spent, _, _ in quiet))
    spent = {at: float(np.mean([found.get(at, 0.0) for found, _, _ in quiet])) for at in ran}
    graph = {at: row for at, row in _graph(engine).items() if at in ran}
    return {
        "kernels": [[*row[:4], round(spent[at], 3)] for at, row in sorted(graph.items())],
        "parts": [row[4] for _, row in sorted(graph.items())],
        "calls": sum(calls for _, _, calls in quiet),
        "call_us": round(call_us, 3),
        "other_us": round(max(0.0, call_us - sum(spent.values())), 3),
        "resolution_us": RESOLUTION_US,
    }


def _round(engine: Openvino, watch: Watch) -> tuple[Times, float, int]:
    """Microseconds of each kernel that ran, of a whole call, and how many calls that is."""
    # Names are numbered anew whenever a network is compiled; the order is the same.
    places = {row[0]: at for at, row in _graph(engine).items()}

    def counted() -> Times:
        found = engine.request.profiling_info  # also of operators that became parts of kernels
        return {
            places[i.node_name]: i.real_time.total_seconds() * 1e6
            for i in found
            if i.node_name in places
        }

    with watch.over(0):
        engine.call()
    # A kernel in its first call is never too short to be seen; later the mean is rounded to none.
    first = {at: us for at, us in counted().items() if us > 0}
    took: list[float] = []
    start = time.perf_counter()
    while len(took) < CALLS[0] or (
        len(took) < CALLS[1] and time.perf_counter() - start < SECONDS / ROUNDS[1]
    ):
        with watch.over(0):
            took.append(engine.call())
    means, later = counted(), len(took)
    half = RESOLUTION_US / 2  # what rounding down takes off on average: of each call, of the mean
    spent = {
        at: max(0.0, ((means[at] + half) * (later + 1) - us) / later) + half
        for at, us in first.items()
    }
    return spent, float(np.mean(took)), later


def _graph(engine: Openvino) -> dict[int, tuple[str, str, list[str], list[str], list[str]]]:
    """By place: name, kind, names of those it reads, its own, and the file's operators in it."""
    found = {}
    for node in engine.compiled.get_runtime_model().get_ordered_ops():
        name = node.get_friendly_name()
        told = {key: str(value.astype(str)) for key, value in node.get_rt_info().items()}
        read = [i.get_source_output().get_node().get_friendly_name() for i in node.inputs()]
        parts = [part for part in told["originalLayersNames"].split(",") if part]
        parts += [part.rpartition("/")[0] for part in parts if "/" in part]  # conv/WithoutBiases
        found[int(told["execOrder"])] = (name, told["layerType"], read, [name], parts)
    return found
