"""Worker processes on this machine: a crashed, hung or starved worker costs one attempt."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from nas.core.job import Done, Finish, Job, Outcome, Train, Wait, job_to_json
from nas.hardware.agent.fingerprint import memory_bytes
from nas.session import Session
from nas.training.allocator import preloaded

PATIENCE_S = 3.0  # a worker deep in one long operation is not waited for
LOADING_S = 300.0  # what loading torch may take on a machine that has much else to do
SILENCE_S = 600.0  # a worker that says nothing for so long is taken for hung
# Read by libraries when they load
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
# No worker writes to the database, or could: it does not know where it is, nor as whom
_LIBPQ = ("HOST", "HOSTADDR", "PORT", "DATABASE", "USER", "PASSWORD", "PASSFILE", "SERVICE",
          "SERVICEFILE", "OPTIONS", "SSLCERT", "SSLKEY", "REQUIREAUTH")  # fmt: skip
WITHHELD = ("NAS_STORAGE", *(f"PG{name}" for name in _LIBPQ))
_START = "import sys, json; sys.path[:] = json.loads(sys.argv[2]); " \
         "from nas.runners.worker import start; start(int(sys.argv[1]))"  # fmt: skip


@dataclass
class Worker:
    """A worker process, the line to it, and what it is doing."""

    process: subprocess.Popen[bytes]
    line: Connection
    job: Job | None = None
    heard: float = field(default_factory=time.monotonic)
    ready: bool = False  # whether it has loaded its libraries, and said so

    def silent(self, silence_s: float) -> bool:
        """Whether it has said nothing for so long; at first, loading may take a while."""
        return time.monotonic() - self.heard > (silence_s if self.ready else LOADING_S + silence_s)

    def receive(self) -> dict[str, Any]:
        """Its next message. Raises: EOFError or OSError where it is gone."""
        message: dict[str, Any] = json.loads(self.line.recv_bytes())
        self.heard, self.ready = time.monotonic(), True
        return message

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends; a worker that is gone is found by the next listening."""
        try:
            self.line.send_bytes(json.dumps(message).encode())
        except OSError:
            self.heard = time.monotonic()

    def end(self) -> None:
        """Ends it, whatever it does."""
        self.process.kill()
        self.process.wait()
        self.line.close()

    def cause(self) -> str:
        """Why it died, in words."""
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "the worker closed its line"
        if code < 0:
            name = signal.Signals(-code).name
            memory = " (out of memory, as a rule)" if name == "SIGKILL" else ""
            return f"the worker was ended by {name}{memory}"
        return f"the worker ended with exit code {code}"


def hire(setup: Mapping[str, Any], folder: Path | None = None) -> Worker:
    """A fresh worker process with one thread; `setup` is what `nas.runners.worker.main` is given.

    It works in `folder`, by default where this process does, and ends by itself when this one does.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs.fileno()), json.dumps(sys.path)],
            stdin=subprocess.DEVNULL,
            cwd=folder,
            pass_fds=[theirs.fileno()],
            env=_environment(),
        )
    worker = Worker(process, Connection(ours.detach()))
    worker.send(setup)
    return worker


def _environment() -> dict[str, str]:
    """What a worker is started with."""
    told = {name: value for name, value in os.environ.items() if name not in WITHHELD}
    return told | ONE_THREAD | preloaded()


def memory_share(workers: int) -> int:
    """What each of so many workers of this machine may use, in bytes."""
    return int(0.9 * memory_bytes() / workers)


class Processes:
    """Spawned workers, one thread each.

    Args:
        setup: what `nas.runners.worker.main` is given, as JSON data.
        workers: how many; the machine's cores by default.
        silence_s: a worker that says nothing for so long is taken for hung and ended.
    """

    def __init__(
        self, setup: Mapping[str, Any], workers: int | None = None, silence_s: float = SILENCE_S
    ) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._silence_s = silence_s
        self._setup = {"memory_bytes": memory_share(self.workers), **setup}
        self._crew: list[Worker] = []

    def run(self, session: Session) -> Done:
        """Runs to the end; on an interrupt the workers are ended and the session stays whole."""
        try:
            self._crew = [hire(self._setup) for _ in range(self.workers)]
            while True:
                done = self._hand_out(session)
                if done is not None:
                    return done
                self._listen(session)
        finally:
            for worker in self._crew:
                worker.process.terminate()
            deadline = time.monotonic() + PATIENCE_S
            for worker in self._crew:
                with suppress(subprocess.TimeoutExpired):
                    worker.process.wait(timeout=max(0.0, deadline - time.monotonic()))
                worker.end()

    def _hand_out(self, session: Session) -> Done | None:
        """Gives every idle worker a job, as far as there are any."""
        for worker in self._crew:
            if worker.job is not None:
                continue
            job = session.ask()
            if isinstance(job, Done):
                return job
            if isinstance(job, Wait):
                return None
            worker.job, worker.heard = job, time.monotonic()
            worker.send(job_to_json(job))
        return None

    def _listen(self, session: Session) -> None:
        """Waits for messages, deaths and silence, and passes them on."""
        ready = wait([w.line for w in self._crew], timeout=1.0)
        for place, worker in enumerate(self._crew):
            if worker.line in ready:
                try:
                    message = worker.receive()
                except (EOFError, OSError):
                    self._replace(place, session, worker.cause())
                    continue
                self._hear(worker, message, session)
            elif worker.job is not None and worker.silent(self._silence_s):
                reason = f"the worker said nothing for {self._silence_s:g} s and was ended"
                self._replace(place, session, reason)

    def _hear(self, worker: Worker, message: Mapping[str, Any], session: Session) -> None:
        if "rung" in message and isinstance(worker.job, Train | Finish):
            decision = session.report(worker.job, message["rung"], message["values"])
            worker.send({"decision": decision})
        elif "outcome" in message and worker.job is not None:
            job, worker.job = worker.job, None
            session.tell(job, Outcome.from_json(message["outcome"]))

    def _replace(self, place: int, session: Session, reason: str) -> None:
        """Ends a lost worker, records what it cost, and hires another."""
        lost = self._crew[place]
        lost.end()
        if lost.job is not None:
            session.tell(lost.job, Outcome(error=reason))
        self._crew[place] = hire(self._setup)
