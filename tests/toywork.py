"""Work for real workers that is arithmetic, and misbehaves where its choices say so."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping
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
from nas.hardware.lease import Lease

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


def spec(name: str = "faulty", trials: int = 12, presets: tuple[str, ...] = ()) -> StudySpec:
    """A study of it, which trains in three rungs and measures nothing."""
    return StudySpec(
        name, SPACE.name, TaskSpec("digits", (3, 32, 32), 10, examples=900, digest="d" * 32), "cpu",
        (BUILTIN["accuracy"], BUILTIN["macs"]), strategy="random", trials=trials,
        fidelity=Fidelity(epochs=9), presets=presets, fresh=True,
    )  # fmt: skip


def work(given: Mapping[str, Any], beat: Callable[[], None]) -> Any:
    """What the workers run: `given["rung_s"]` a rung, under the lease as every training step."""
    return partial(_perform, given, ToyPerform(StudySpec.from_json(given["spec"])), beat)


def _perform(
    given: Mapping[str, Any],
    toy: Any,
    beat: Callable[[], None],
    job: Mapping[str, Any],
    report: Any,
) -> dict[str, Any]:
    def slowly(rung: int, values: Mapping[str, Any]) -> str:
        end = time.monotonic() + given["rung_s"]
        while time.monotonic() < end:
            beat()
            with Lease(Path(given["locks"]), "cpu").training():
                time.sleep(0.01)
        return str(report(rung, values))

    try:
        if job["kind"] == "build":
            _misbehave(job["architecture"]["choices"]["way"])
        return dict(toy(job, slowly))
    except Exception as error:  # as `nas.evaluate.perform` has it
        return {"error": f"{type(error).__name__}: {error}", "values": {}, "seconds": 0.0}


def _misbehave(way: str) -> None:
    if way == "segfault":
        ctypes.string_at(0)
    elif way == "hang":
        time.sleep(3600)
    elif way == "memory":
        [bytearray(1 << 30) for _ in range(1 << 20)]
