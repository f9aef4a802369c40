"""A study made up by a formula: 37 trials whose front, doubts and failures are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from nas.core.architecture import Architecture
from nas.core.front import Front, Member, front_of
from nas.core.measurement import Measurement
from nas.core.objective import BUILTIN
from nas.core.study import StudySpec
from nas.core.task import TaskSpec
from nas.core.trial import Rung, Trained, Trial, measurement_name

TASK = TaskSpec("digits", (1, 32, 32), 10, digest="d")


def spec(*names: str, trials: int = 37) -> StudySpec:
    chosen = tuple(BUILTIN[n] for n in names or ("accuracy", "latency_ms"))
    return StudySpec("digits-1", "largekernel", TASK, "cpu", chosen, trials=trials)


def choices(rng: np.random.Generator) -> dict[str, object]:
    made: dict[str, object] = {"stem.stride": int(rng.choice([1, 2])), "head.norm": "layer"}
    for stage in range(4):
        made[f"stages.{stage}.kernel"] = int(rng.choice([3, 7, 13, 31]))
        made[f"stages.{stage}.depth"] = int(rng.integers(1, 4))
        made[f"stages.{stage}.width"] = int(16 * 2**stage)
        made[f"stages.{stage}.mixer"] = str(rng.choice(["depthwise", "inception", "stripe"]))
    return made


def complete(number: int, accuracy: float, latency: float, **extra: float) -> Trial:
    """A finished trial with 10 points of accuracy's doubt spread over it, and a timing."""
    rng = np.random.default_rng(number)
    name = measurement_name("latency_ms", "cpu", "b1", "trained")
    session = {"runtime": {"onnxruntime": "1.23.0"}, "samples": {"samples": "", "refs": ""}}
    timing = Measurement(
        "latency_ms", latency, "ms", latency * 0.96, latency * 1.05, latency * 0.01, 300,
        "measured", "trained file",
        {"p50_ms": latency * 1.02, "p99_ms": latency * 1.3, "sessions": [session]},
    )  # fmt: skip
    return Trial(
        number, Architecture("largekernel", choices(rng)), state="complete",
        costs={"params": 1e4 + 1e5 * latency, "macs": 1e6 * latency, **extra},
        measurements={name: timing},
        rungs=(Rung(0, 0, 1, accuracy - 9, 119, "a"), Rung(0, 1, 9, accuracy, 119, "b")),
        trained=(Trained(0, "f", accuracy, 0.9, 119, accuracy - 0.4, 0.9, 60),),
        values={"accuracy": accuracy, "latency_ms": latency},
    )  # fmt: skip


def trials() -> list[Trial]:
    """Six points on a curve, thirty below it, one failure, one infeasible, one running."""
    rng = np.random.default_rng(0)
    made = [
        complete(i, accuracy, latency)
        for i, (accuracy, latency) in enumerate(
            [(88.1, 0.11), (93.2, 0.17), (95.4, 0.31), (96.1, 0.5), (97.9, 1.4), (98.2, 2.6)]
        )
    ]
    for number in range(6, 36):
        latency = float(np.exp(rng.uniform(np.log(0.2), np.log(4.0))))
        ceiling = 98.0 - 1.3 / latency**0.8
        made.append(complete(number, ceiling - float(rng.exponential(4)) - 0.5, latency))
    wide = Architecture("largekernel", choices(rng))
    made.append(Trial(36, wide, state="failed", error="out of memory\nat stage 3"))
    made.append(Trial(37, wide, state="infeasible", violations={"latency_ms<=5": 0.4}))
    made.append(Trial(38, wide))
    return made


def study(*names: str) -> tuple[StudySpec, list[Trial], Front]:
    """The spec, the trials and their front."""
    asked, made = spec(*names), trials()
    return asked, made, front_of(asked, made)


def predicted(trials: list[Trial], device: str) -> list[Trial]:
    """The trials with latencies predicted for a device, where narrow networks are slow."""
    rng = np.random.default_rng(1)
    made = []
    for trial in trials:
        own = trial.measurements.get(measurement_name("latency_ms", "cpu", "b1", "trained"))
        if own is not None:
            value = 2.0 + 0.3 * own.value + float(rng.exponential(0.5))
            there = replace(
                own, value=value, low=value / 2, high=value * 2, se=value / 4,
                source="predicted", basis="transfer", record={},
            )  # fmt: skip
            name = measurement_name("latency_ms", device, "b1", "trained")
            numbers = {**trial.measurements, name: there}
        else:
            numbers = trial.measurements
        made.append(replace(trial, measurements=numbers))
    return made


def front(rows: list[dict[str, tuple[float, float]]], membership: float = 1.0) -> Front:
    """A front of points given as objective -> (value, half width of its interval)."""
    objectives = tuple(BUILTIN[name] for name in rows[0])
    members = tuple(
        Member(number, f"k{number}", {"width": number}, membership,
               {n: spread(n, *pair) for n, pair in row.items()})
        for number, row in enumerate(rows)
    )  # fmt: skip
    states = {"complete": len(rows), "stopped": 0, "infeasible": 0, "failed": 0, "running": 0}
    return Front("toy", "space", "cpu", objectives, members, states, 1.0, (0.0,) * len(objectives))


def spread(name: str, value: float, half: float) -> Measurement:
    """A measured number whose interval reaches `half` to either side."""
    unit = BUILTIN[name].unit
    return Measurement(
        name, value, unit, value - half, value + half, half / 2, 9, "measured", "trained file"
    )


def toy_store(folder: Path) -> None:
    """A database under `folder` as `nas` looks for it, with the made-up study named toy."""
    from nas.store.store import Store

    with Store(f"sqlite:///{folder}/studies/nas.db") as store:
        asked = replace(spec(), name="toy")
        store.create(asked)
        epoch = store.claim("toy")
        store.commit("toy", epoch, [], trials(), [], [])
        store.release("toy", epoch)
