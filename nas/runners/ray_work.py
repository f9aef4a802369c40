"""What runs on the nodes of a Ray cluster: trainings anywhere, measurements where the device is.

Both are thin: the work is done by a worker process of theirs, the same as on one machine
(`nas.runners.worker`). So a candidate that crashes, hangs or eats memory ends that process and not
Ray's, torch is loaded once for many jobs, and no node is told where the database is.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune

from nas.core.errors import NasError
from nas.core.study import StudySpec
from nas.hardware.agent.workplace import lasting
from nas.hardware.device import named
from nas.hardware.lease import default_folder
from nas.runners.benches import bench
from nas.runners.processes import Worker, hire, memory_share
from nas.runners.ray import fitting

LOOK_S = 1.0
_SOURCE = re.compile(r"search_spaces/[^/]+\.py|hardware_profiles/[^/]+\.toml")


class Hands:
    """A worker process that outlives its jobs, and is replaced where one ends it.

    Args:
        setup: what `nas.runners.worker.main` is given, with `silence_s` and what `settle` takes;
            locks are this host's own.
    """

    def __init__(self, setup: Mapping[str, Any]) -> None:
        self._folder = settle(setup)  # Tune goes elsewhere for each job
        own = {"locks": str(default_folder()), "memory_bytes": memory_share(_at_once(setup))}
        self._setup = {**own, **setup}
        self._silence_s = setup["silence_s"]
        self._worker: Worker | None = None
        self._asked = False  # whether a training waits for a decision

    def begin(self, job: Mapping[str, Any]) -> None:
        """Starts a job; a training before it that was stopped at a rung is told so first."""
        while self._asked:
            self.next("stop")
        if self._worker is None:
            self._worker = hire(self._setup, self._folder)
        self._worker.send(job)

    def next(self, decision: str | None = None) -> dict[str, Any]:
        """What comes next of the job, after the `decision` on the last: a rung, or its outcome."""
        worker = self._worker
        if worker is None:
            raise RuntimeError("no job was begun")
        if decision is not None and self._asked:
            worker.send({"decision": decision})
        message = self._heard(worker)
        self._asked = "rung" in message
        return message

    def end(self) -> None:
        """Ends the worker."""
        if self._worker is not None:
            self._worker.end()
            self._worker = None
        self._asked = False

    def _heard(self, worker: Worker) -> dict[str, Any]:
        worker.heard = time.monotonic()
        while True:
            try:
                if worker.line.poll(LOOK_S):
                    message = worker.receive()
                    if "beat" not in message:
                        return message
            except (EOFError, OSError):
                return self._lost(worker.cause())
            if worker.silent(self._silence_s):
                return self._lost(
                    f"the worker said nothing for {self._silence_s:g} s and was ended"
                )

    def _lost(self, reason: str) -> dict[str, Any]:
        self.end()
        return {"outcome": {"error": f"{reason} (on {os.uname().nodename})"}}


def _at_once(setup: Mapping[str, Any]) -> int:
    """How many workers may share this machine's memory.

    One for each processor, or for so many as one has threads; more where Ray places more jobs here,
    which may take a part of a processor or none.
    """
    found: int = max(1, (os.cpu_count() or 1) // setup.get("threads", 1))
    if each := setup.get("resources"):
        here = ray.get_runtime_context().get_node_id()
        for node in ray.nodes():
            if node["NodeID"] == here:
                found = max(found, fitting(node["Resources"], each))
    return found


class Work(tune.Trainable):  # type: ignore[misc]
    """One job of the search as a trial of Tune's: each rung is a result, and so is the outcome.

    The actor is used again for the next job, and with it the worker process.
    """

    def setup(self, config: dict[str, Any], setup: Mapping[str, Any] | None = None) -> None:
        """Begins the first job; `config` is its JSON."""
        self._hands = Hands(setup or {})
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begins another job."""
        self._hands.begin(new_config)
        self._decision: str | None = None
        return True

    def step(self) -> dict[str, Any]:
        """The next rung, or the outcome; being called again is the decision to go on."""
        message = self._hands.next(self._decision)
        self._decision = "continue"
        return {"message": json.dumps(message), "done": "outcome" in message, **_numbers(message)}

    def cleanup(self) -> None:
        """Ends the worker."""
        self._hands.end()


@ray.remote(concurrency_groups={"asking": 1})
class Lessor:
    """Measures on one physical device, one batch after the other, for whoever asks.

    Its worker takes the device's locks as every measurement of that host does, so even two of
    these never time at once. `bench` has a thread of its own: a search that begins does not wait
    for the batches of others.
    """

    def __init__(self) -> None:
        self._hands: Hands | None = None
        self._given: Mapping[str, Any] = {}
        self._bench: dict[str, str] | None = None
        self._settling = threading.Lock()  # both threads are in one folder

    def measure(self, setup: Mapping[str, Any], job: Mapping[str, Any]) -> dict[str, Any]:
        """A batch's outcome, as JSON; of a device that is this node's it says `bench` too."""
        if self._hands is None or setup != self._given:
            if self._hands is not None:
                self._hands.end()
                self._hands = None
            with self._settling:
                hands = Hands(setup)
                here = setup.get("stands", {}).get(job["device"]) == "here"
                runtime = StudySpec.from_json(setup["spec"]).runtime_on(job["device"])
                self._bench = _bench(job["device"], runtime) if here else None
            self._hands, self._given = hands, setup
        self._hands.begin(job)
        outcome: dict[str, Any] = self._hands.next()["outcome"]
        if self._bench and outcome.get("values"):
            outcome["values"] = {**outcome["values"], "bench": self._bench}
        return outcome

    @ray.method(concurrency_group="asking")  # type: ignore[untyped-decorator]
    def bench(self, setup: Mapping[str, Any], device: str, runtime: str | None) -> dict[str, str]:
        """What measurements of a device here are filed under; `nas.session.Bench` as JSON.

        Raises: NasError where this node does not have it.
        """
        with self._settling:
            settle(setup)
            return _bench(device, runtime)


def _bench(device: str, runtime: str | None) -> dict[str, str]:
    found = bench(replace(named(device).under(runtime), stands="here"))
    return {} if found is None else asdict(found)


def sources(folder: Path) -> dict[str, str]:
    """The user's own spaces, objectives and profiles below a folder: path -> text."""
    found = [*folder.glob("search_spaces/*.py"), *folder.glob("hardware_profiles/*.toml")]
    return {str(p.relative_to(folder)): p.read_text(encoding="utf-8") for p in sorted(found)}


def settle(setup: Mapping[str, Any]) -> Path:
    """Goes to the search's `folder` where this node has it as it is, else to a copy of `sources`.

    What lies beside them, such as a module that `--task` names, is there only where the folder is
    shared or the package installed; `paths` are where the search itself looks for modules.

    Raises: NasError for a name of a source that is none of `sources`.
    """
    folder, sources = Path(setup["folder"]), setup["sources"]
    for name in sources:
        if not _SOURCE.fullmatch(name):  # nobody's search writes elsewhere on a node
            raise NasError(
                f"not a file that a search brings to a node: {name!r}",
                "they are plain names such as search_spaces/NAME.py or hardware_profiles/NAME.toml",
            )
    held = folder.is_dir() and all(_says(folder / name, text) for name, text in sources.items())
    if not held:
        folder = lasting("sources")
        for name, text in sources.items():
            place = folder / name
            place.parent.mkdir(exist_ok=True)
            place.write_text(text, encoding="utf-8")
    os.chdir(folder)
    for path in (str(folder), *setup["paths"]):
        if path not in sys.path and Path(path).exists():
            sys.path.append(path)
    return folder


def _says(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False


def _numbers(message: Mapping[str, Any]) -> dict[str, float]:
    """What a logger can draw of a message."""
    values = dict(message.get("values") or message.get("outcome", {}).get("values", {}))
    score = values.get("score")
    if isinstance(score, Mapping):  # of an outcome, with its doubt
        values["score"] = score["score"]
    values |= values.get("costs", {})
    return {n: float(v) for n, v in values.items() if isinstance(v, int | float)}
