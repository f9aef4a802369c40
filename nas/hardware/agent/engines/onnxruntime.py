"""onnxruntime on the processor."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import onnxruntime

from ..inputs import INPUTS, random_input


class Onnxruntime:
    """A session on a file, and its inputs."""

    def __init__(self, path: str, job: dict[str, Any]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job["threads"]
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        # A spinning thread would steal the core from whoever is timed next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4
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
