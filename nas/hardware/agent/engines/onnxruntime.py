"""onnxruntime on the processor."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ..inputs import INPUTS, random_input
from ..onnxgraph import nodes
from ..watch import Watch
from ..workplace import workplace

GRAPH = "optimised.onnx"
SUFFIX = "_kernel_time"
CALLS = (12, 200)  # fewest and most under the profiler, which keeps every event
SECONDS = 1.0


class Onnxruntime:
    """A session on a file, and its inputs; with a `folder`, profiled, its graph written there."""

    def __init__(self, path: str, job: dict[str, Any], folder: Path | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job["threads"]
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        # A spinning thread would steal the core from whoever is timed next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4
        if folder is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(folder / "profile")
            options.optimized_model_filepath = str(folder / GRAPH)
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self.names = [o.name for o in self.session.get_outputs()]
        rng = np.random.default_rng(INPUTS)
        self.feeds = {i.name: random_input(i, job, rng) for i in self.session.get_inputs()}

    def call(self) -> float:
        """One call's duration, in microseconds."""
        start = time.perf_counter_ns()
        self.session.run(self.names, self.feeds)
        return (time.perf_counter_ns() - start) / 1e3


def load(path: str, job: dict[str, Any]) -> Onnxruntime:
    """An ONNX file in a session with the job's threads."""
    return Onnxruntime(path, job)


def versions() -> dict[str, str]:
    """onnxruntime's own."""
    return {"onnxruntime": onnxruntime.__version__}


def profile(path: str, job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """Each kernel's mean time over the quieter half of the calls.

    What disturbs a call makes it longer, so the calls of the least total are the quiet ones.
    """
    with workplace("profiler") as folder:
        with watch.over(0):
            engine = Onnxruntime(path, job, folder)
        calls, start = 0, time.perf_counter()
        while calls < CALLS[0] or (calls < CALLS[1] and time.perf_counter() - start < SECONDS):
            with watch.over(0):
                engine.call()
            calls += 1
        events = json.loads(Path(engine.session.end_profiling()).read_text())
        written = nodes(folder / GRAPH)
    runs, totals = _runs(events)
    quiet = sorted(range(len(runs) // 4, len(runs)), key=lambda i: sum(runs[i].values()))
    quiet = quiet[: max(1, len(quiet) // 2)]
    spent = {n: sum(runs[i].get(n, 0.0) for i in quiet) / len(quiet) for n in set().union(*runs)}
    kernels = [
        [n.name, n.op, n.inputs, n.outputs, round(spent.pop(n.name, 0.0), 3)] for n in written
    ]
    return {
        "kernels": kernels,
        "calls": len(quiet),
        "call_us": round(sum(totals[i] for i in quiet) / len(quiet), 3),
        "other_us": round(sum(spent.values()), 3),
    }


def _runs(events: list[dict[str, Any]]) -> tuple[list[dict[str, float]], list[float]]:
    """For each call of a profiled session, microseconds of every kernel by name, and of it all."""
    wholes = sorted(
        (e["ts"], e["dur"]) for e in events if e.get("name") == "model_run" and "dur" in e
    )
    kernels = sorted(
        (e["ts"], e["name"].removesuffix(SUFFIX), e["dur"])
        for e in events
        if e.get("cat") == "Node" and e["name"].endswith(SUFFIX)
    )
    runs: list[dict[str, float]] = [defaultdict(float) for _ in wholes]
    place = 0
    for began, name, took in kernels:
        while place + 1 < len(wholes) and began >= wholes[place + 1][0]:
            place += 1
        runs[place][name] += took
    return runs, [took for _, took in wholes]
