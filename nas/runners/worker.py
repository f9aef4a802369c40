"""What runs inside a worker process: JSON jobs in, JSON messages out, one thread.

Messages to the driver: `{"beat": true}`, `{"rung": n, "values": {...}}` (answered by
`{"decision": ...}`), `{"outcome": {...}}`.
"""

from __future__ import annotations

import importlib
import json
import math
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

from nas.training.allocator import forget_preloaded

BEAT_S = 1.0
SMALL = 3 * 64 * 64  # numbers of an input
Report = Callable[[int, Mapping[str, Any]], str]
Work = Callable[[Mapping[str, Any], Report], Mapping[str, Any]]


class Line:
    """One end of the conversation with the driver."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._beaten = 0.0

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends a message; a worker whose driver is gone ends itself."""
        try:
            self._connection.send_bytes(json.dumps(message).encode())
        except OSError:
            os._exit(1)

    def receive(self) -> dict[str, Any]:
        """The next message; a worker whose driver is gone ends itself."""
        try:
            message: dict[str, Any] = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(1)
        return message

    def beat(self) -> None:
        """Says that the worker lives, at most once a second."""
        now = time.monotonic()
        if now - self._beaten > BEAT_S:
            self._beaten = now
            self.send({"beat": True})

    def report(self, rung: int, values: Mapping[str, Any]) -> str:
        """Sends a rung and waits for the decision."""
        self.send({"rung": rung, "values": dict(values)})
        return str(self.receive()["decision"])


def start(descriptor: int) -> None:
    """What a fresh process runs; `descriptor` is its end of the line, on which its setup comes."""
    forget_preloaded()
    connection = Connection(descriptor)
    main(connection, json.loads(connection.recv_bytes()))


def main(connection: Connection, given: Mapping[str, Any]) -> None:
    """A worker's life: set up once, then job after job until the line is closed.

    Args:
        connection: the line to the driver.
        given: `spec`, `artifacts`, `locks`, `memory_bytes` (0 for no limit), where other hosts take
            part `stands` (`nas.hardware.device.Device.stands`, by device), `threads` and `train_on`
            (`nas.evaluate.place.Place`), and `work`, the `MODULE:FUNCTION` that makes what does the
            jobs, in place of `evaluating`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides when an interrupt ends work
    signal.signal(signal.SIGTERM, _leave)
    # locks that libraries make are this process's own: under this rule they leave no name behind
    multiprocessing.set_start_method("fork", force=True)
    _limit(given["memory_bytes"])
    line = Line(connection)
    module, _, function = given.get("work", "nas.runners.worker:evaluating").partition(":")
    work: Work = getattr(importlib.import_module(module), function)(given, line.beat)
    line.beat()  # ready
    while True:
        job = line.receive()
        line.send({"outcome": work(job, line.report)})


def evaluating(given: Mapping[str, Any], beat: Callable[[], None]) -> Work:
    """Does jobs as `nas.evaluate` does them."""
    import torch  # after the limits and thread counts are set

    from nas.core.study import StudySpec
    from nas.evaluate import perform
    from nas.evaluate.place import Place
    from nas.store.artifacts import opened

    torch.set_num_threads(given.get("threads", 1))
    place = Place(
        StudySpec.from_json(given["spec"]),
        opened(given["artifacts"]),
        Path(given["locks"]),
        beat,
        given.get("stands", {}),
        given.get("train_on"),
    )
    return partial(perform, place)


def counting(given: Mapping[str, Any], beat: Callable[[], None]) -> Work:
    """Counts networks: a job is `{"architecture"}`, its outcome `{"costs"}` of the deployed form.

    Of large inputs only shapes are looked at, where the network can be had without numbers. Costs
    are empty, and `error` says why, for one that cannot be built.
    """
    import torch

    from nas.core.architecture import Architecture
    from nas.core.study import StudySpec
    from nas.evaluate.modules import deployed_of, module_of
    from nas.evaluate.place import Place
    from nas.hardware.counting import count, macs
    from nas.store.artifacts import opened

    torch.set_num_threads(1)
    spec = StudySpec.from_json(given["spec"])
    place = Place(spec, opened(given["artifacts"]), Path(given["locks"]), beat, shapes=True)

    def deployed(architecture: Architecture) -> torch.nn.Module:
        return deployed_of(place, architecture, module_of(place, architecture, spec.seed))

    # Small inputs are computed: shapes alone are worked out in Python, which takes longer
    small = math.prod(spec.task.input) <= SMALL

    def counted(architecture: Architecture) -> int:
        try:
            with torch.device("cpu" if small else "meta"):
                return macs(deployed(architecture), spec.task.input)
        except (RuntimeError, NotImplementedError):  # something of it needs numbers
            return count(deployed(architecture), spec.task.input).macs

    def work(job: Mapping[str, Any], report: Report) -> Mapping[str, Any]:
        architecture = Architecture.from_json(job["architecture"])
        try:
            return {"costs": {"macs": float(counted(architecture))}}
        except Exception as error:
            return {"costs": {}, "error": f"{type(error).__name__}: {error}"}

    return work


def _leave(number: int, frame: FrameType | None) -> None:
    """Ends as a program ends, so that what it shared with others is given back."""
    sys.exit(0)


def _limit(memory_bytes: int) -> None:
    """Caps the worker's own memory, so that a huge candidate fails alone."""
    if memory_bytes:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, hard))
