"""Worker processes on this machine: a crashed, hung or starved worker costs one attempt."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from nas.core.job import Done, Job, Outcome, Train, Wait, job_to_json
from nas.runners.worker import main
from nas.session import Session

PATIENCE_S = 3.0  # a worker deep in one long operation is not waited for
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass
class Worker:
    """A worker process, the line to it, and what it is doing."""

    process: BaseProcess
    line: Connection
    job: Job | None = None
    heard: float = field(default_factory=time.monotonic)


class Processes:
    """Spawned workers, one thread each.

    Args:
        setup: what `nas.runners.worker.main` is given, as JSON data.
        workers: how many; the machine's cores by default.
        silence_s: a worker that says nothing for so long is taken for hung and ended.
    """

    def __init__(
        self, setup: Mapping[str, Any], workers: int | None = None, silence_s: float = 600.0
    ) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._silence_s = silence_s
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        share = int(0.9 * memory / self.workers)
        self._setup = json.dumps({"memory_bytes": share, **setup})
        self._crew: list[Worker] = []

    def run(self, session: Session) -> Done:
        """Runs to the end; on an interrupt the workers are ended and the session stays whole."""
        try:
            self._crew = [self._hire() for _ in range(self.workers)]
            while True:
                done = self._hand_out(session)
                if done is not None:
                    return done
                self._listen(session)
        finally:
            for worker in self._crew:
                worker.process.terminate()
            for worker in self._crew:
                worker.process.join(timeout=PATIENCE_S)
                _end(worker)

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
            _send(worker, job_to_json(job))
        return None

    def _listen(self, session: Session) -> None:
        """Waits for messages, deaths and silence, and passes them on."""
        ready = wait([w.line for w in self._crew], timeout=1.0)
        for place, worker in enumerate(self._crew):
            if worker.line in ready:
                try:
                    message = json.loads(worker.line.recv_bytes())
                except (EOFError, OSError):
                    self._replace(place, session, _cause(worker.process))
                    continue
                worker.heard = time.monotonic()
                self._hear(worker, message, session)
            elif worker.job is not None and time.monotonic() - worker.heard > self._silence_s:
                reason = f"the worker said nothing for {self._silence_s:g} s and was ended"
                self._replace(place, session, reason)

    def _hear(self, worker: Worker, message: Mapping[str, Any], session: Session) -> None:
        if "rung" in message and isinstance(worker.job, Train):
            decision = session.report(worker.job, message["rung"], message["values"])
            _send(worker, {"decision": decision})
        elif "outcome" in message and worker.job is not None:
            job, worker.job = worker.job, None
            session.tell(job, Outcome.from_json(message["outcome"]))

    def _replace(self, place: int, session: Session, reason: str) -> None:
        """Ends a lost worker, records what it cost, and hires another."""
        lost = self._crew[place]
        _end(lost)
        if lost.job is not None:
            session.tell(lost.job, Outcome(error=reason))
        self._crew[place] = self._hire()

    def _hire(self) -> Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        before = {name: os.environ.get(name) for name in THREADS}
        os.environ.update(dict.fromkeys(THREADS, "1"))  # read by libraries when they load
        try:
            process = context.Process(target=main, args=(theirs, self._setup), daemon=True)
            process.start()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        theirs.close()
        return Worker(process, ours)


def _send(worker: Worker, message: Mapping[str, Any]) -> None:
    """Sends; a worker that is gone is found by the next listening."""
    try:
        worker.line.send_bytes(json.dumps(message).encode())
    except OSError:
        worker.heard = time.monotonic()


def _end(worker: Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.line.close()


def _cause(process: BaseProcess) -> str:
    """Why a worker died, in words."""
    process.join(timeout=5)
    code = process.exitcode
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        memory = " (out of memory, as a rule)" if name == "SIGKILL" else ""
        return f"the worker was ended by {name}{memory}"
    return f"the worker ended with exit code {code}"
