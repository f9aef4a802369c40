"""Work for real workers that is arithmetic, and misbehaves where its choices say so."""

from __future__ import annotations

import ctypes
import errno
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from conftest import ToyPerform

from nas.core.decision import Choice, Integer
from nas.core.fidelity import Fidelity
from nas.core.objective import BUILTIN
from nas.core.space import SearchSpace
from nas.core.study import StudySpec
from nas.core.task import TaskSpec
from nas.hardware.device import attached, named
from nas.hardware.lease import Lease
from nas.store.artifacts import Artifacts

WAYS = ("good", "segfault", "hang", "memory")
SPACE = SearchSpace(
    "faulty",
    [Choice("way", list(WAYS)), Choice("kernel", [3, 5, 7, 9]), Integer("depth", 1, 6),
     Choice("width", [16, 32, 64, 128])],
    build=lambda choices, task: None,
    presets={w: {"way": w, "kernel": 3, "depth": 1, "width": 16} for w in WAYS},
)  # fmt: skip


class OnlyGood:
    """Proposes random sound networks, each once."""

    def propose(self, history: Any, count: int) -> list[Any]:
        import numpy as np

        from nas.core.trial import Proposal

        number = len(history.proposals)
        rng = np.random.default_rng(number)
        rest = {d.name: d.values[int(rng.integers(len(d.values)))] for d in SPACE.listed[1:]}
        choices = {"way": "good", **rest}
        return [Proposal(SPACE.architecture(choices), {}, "strategy") for _ in range(count)]


def spec(
    name: str = "faulty", trials: int = 12, presets: tuple[str, ...] = (), timed: bool = False
) -> StudySpec:
    """A study of it, which trains in three rungs, and measures latencies where it is `timed`."""
    wanted = ("accuracy", "macs", "latency_ms") if timed else ("accuracy", "macs")
    return StudySpec(
        name, SPACE.name, TaskSpec("digits", (3, 32, 32), 10, examples=900, digest="d" * 32), "cpu",
        tuple(BUILTIN[o] for o in wanted), strategy="random", trials=trials,
        fidelity=Fidelity(epochs=9), presets=presets, fresh=True,
    )  # fmt: skip


def work(given: Mapping[str, Any], beat: Callable[[], None]) -> Any:
    """What the workers run, under the lease as every training step and measurement.

    A rung or a measurement takes `given["rung_s"]` seconds, and where `given["gates"]` names a file
    for its kind of job, `build` too, it goes on until that is there. A rung leaves
    `given["file_bytes"]`. A worker that begins comes to the gate `work`, and does not wait there.
    """
    if gate := given.get("gates", {}).get("work"):
        _come(gate)
    return partial(_perform, given, ToyPerform(StudySpec.from_json(given["spec"])), beat)


def _perform(
    given: Mapping[str, Any],
    toy: Any,
    beat: Callable[[], None],
    job: Mapping[str, Any],
    report: Any,
) -> dict[str, Any]:
    lease = Lease(Path(given["locks"]), "cpu")

    def slowly(rung: int, values: Mapping[str, Any]) -> str:
        _take_time(given, "train", beat, lease.training)
        if given.get("file_bytes"):
            values = {**values, "checkpoint": _file(given)}
        return str(report(rung, values))

    try:
        if job["kind"] == "build":
            _misbehave(job["architecture"]["choices"]["way"])
            if given.get("gates", {}).get("build"):
                _take_time(given, "build", beat, lease.training)
        elif job["kind"] == "measure":
            _take_time(given, "measure", beat, lease.measuring)
        return _labelled(given, job, dict(toy(job, slowly)))
    except Exception as error:  # as `nas.evaluate.perform` has it
        kind = "halt" if getattr(error, "errno", None) == errno.ENOSPC else "error"
        return {"values": {}, "seconds": 0.0, kind: f"{type(error).__name__}: {error}"}


def _labelled(
    given: Mapping[str, Any], job: Mapping[str, Any], outcome: dict[str, Any]
) -> dict[str, Any]:
    """An outcome whose timings say `predicted` where their device is not attached."""
    for value in outcome["values"].get("measurements", {}).values():
        stands = given.get("stands", {}).get(job["device"])
        if not attached(replace(named(job["device"]), stands=stands)):
            value |= {"source": "predicted", "basis": "datasheet"}
    return outcome


def _take_time(
    given: Mapping[str, Any],
    kind: str,
    beat: Callable[[], None],
    leased: Callable[[], AbstractContextManager[None]],
) -> None:
    end, gate = time.monotonic() + given["rung_s"], given.get("gates", {}).get(kind)
    if gate:
        _come(gate)
    while time.monotonic() < end or (gate and not Path(gate).exists()):
        beat()
        with leased():
            time.sleep(0.01)


def _come(gate: str) -> None:
    Path(f"{gate}.{os.getpid()}").touch()  # as `clusters.Gate` reads it


def _file(given: Mapping[str, Any]) -> str:
    artifacts = Artifacts(Path(given["artifacts"]))
    path = artifacts.scratch() / "weights.safetensors"
    path.write_bytes(os.urandom(given["file_bytes"]))
    return artifacts.put(path)


def _misbehave(way: str) -> None:
    if way == "segfault":
        ctypes.string_at(0)
    elif way == "hang":
        time.sleep(3600)
    elif way == "memory":
        [bytearray(1 << 30) for _ in range(1 << 20)]
