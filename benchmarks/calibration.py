"""Whether stated probabilities of membership come true: whole searches with a known truth.

    python benchmarks/calibration.py --first 1000 --out benchmarks/results/calibration.json

Each study is the real engine with the default strategy, promotion and confirmation, on networks
that are made up: a true accuracy and a true latency follow from the choices and a draw of each
network's own. What a search gets to see are trainings with a seed's luck, scored on few images
which all networks of a study share and mostly fail together on, and latencies that are timed, or
predicted with one error that all of them share and one of their own. The front is that of
`front_of`, selection and all; then the truth says who belongs there.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import beta, norm

from nas.core.architecture import Architecture
from nas.core.decision import Choice, Integer
from nas.core.fidelity import Fidelity
from nas.core.front import front_of
from nas.core.job import Done, Measure, Outcome, Train, Wait
from nas.core.measurement import Z90
from nas.core.objective import BUILTIN
from nas.core.pareto import non_dominated
from nas.core.space import SearchSpace
from nas.core.study import StudySpec
from nas.core.task import TaskSpec
from nas.engine import Search
from nas.strategies.choose import create

BINS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.85, 0.95, 1.0)
COMMON = 0.7  # how far networks fail on the same images: correlation of the latent difficulty
PACKAGES = ("numpy", "scipy", "optuna", "moocore")


@dataclass(frozen=True)
class World:
    """One kind of study.

    Args:
        name: what the results call it.
        seed_noise: standard deviation of the accuracy between training seeds, in points.
        images: validation images of the search, of which confirmation has half as many more.
        timing: standard error of a timed latency, relative.
        shared, own: standard deviations of a predicted latency's logarithm, or None where timed.
        promotion: who is trained to the end.
    """

    name: str
    seed_noise: float = 0.6
    images: int = 300
    timing: float = 0.02
    shared: float | None = None
    own: float = 0.1
    promotion: str = "halving"


WORLDS = (
    World("timed"),
    World("timed, nobody stopped", promotion="none"),
    World("timed, few images", images=100),
    World("timed, noisy seeds", seed_noise=1.5),
    World("predicted, errors shared", shared=0.45, own=0.15, promotion="none"),
    World("predicted, errors each their own", shared=0.0, own=0.3, promotion="none"),
)


def space() -> SearchSpace:
    """2,304 made-up networks."""
    return SearchSpace(
        "made-up",
        [Integer("depth", 1, 6), Choice("width", [16, 24, 32, 48, 64, 96]),
         Choice("kernel", [3, 5, 7, 9]), Choice("expansion", [1, 2, 4, 6]),
         Choice("mixer", ["a", "b", "c", "d"])],
        build=lambda choices, task: None,
    )  # fmt: skip


class Truth:
    """What a network is really worth, and the luck it has: all drawn from the study's seed."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.seed = seed
        rng = np.random.default_rng([seed, 0])
        self._mixer = dict(zip("abcd", rng.normal(0.0, 0.5, 4), strict=True))
        self._difficulty = rng.standard_normal(world.images + world.images // 2)
        self._shift = rng.normal(0.0, world.shared or 0.0)

    def latency(self, architecture: Architecture) -> float:
        """True milliseconds."""
        c = architecture.choices
        work = c["depth"] * c["expansion"] * (c["width"] / 16) ** 1.5 * (1 + c["kernel"] / 9)
        return float(0.05 + 0.004 * work * math.exp(0.1 * self._draw(architecture, 1)))

    def accuracy(self, architecture: Architecture) -> float:
        """True accuracy in %: what trainings and images come to in the mean."""
        c = architecture.choices
        capacity = math.log(c["depth"] * c["width"] * math.sqrt(c["expansion"]))
        found = 97 - 22 * math.exp(-1.2 * (capacity - 2.4)) + 0.15 * c["kernel"]
        return float(min(found + self._mixer[c["mixer"]] + 0.6 * self._draw(architecture, 2), 99.5))

    def scored(self, architecture: Architecture, seed: int, epochs: int) -> tuple[float, ...]:
        """Accuracy on the search's images and on those of the confirmation."""
        rng = np.random.default_rng(self._key(architecture, 3, seed))
        reached = self.accuracy(architecture) - 6.0 / epochs * (1 + 0.3 * rng.standard_normal())
        lucky = min(reached + self.world.seed_noise * rng.standard_normal(), 99.9)
        always = np.random.default_rng(self._key(architecture, 6))
        own = (always.standard_normal(len(self._difficulty))
               + rng.standard_normal(len(self._difficulty))) / math.sqrt(2)  # fmt: skip
        latent = math.sqrt(COMMON) * self._difficulty + math.sqrt(1 - COMMON) * own
        right = latent < norm.ppf(lucky / 100)
        first = self.world.images
        return float(100 * right[:first].mean()), float(100 * right[first:].mean())

    def timing(self, architecture: Architecture, form: str) -> dict[str, Any]:
        """A latency as it is measured, or predicted."""
        true, world = self.latency(architecture), self.world
        rng = np.random.default_rng(self._key(architecture, 4, len(form)))
        if world.shared is None:
            value = true * (1 + world.timing * rng.standard_normal())
            half = Z90 * math.sqrt(2) * world.timing * value
            return _timing(value, value - half, value + half, world.timing * value, form, {})
        value = true * math.exp(self._shift + world.own * self._draw(architecture, 5))
        doubt = math.hypot(world.shared, world.own)
        factor = math.exp(Z90 * doubt)
        return _timing(
            value, value / factor, value * factor, value * doubt, form, {"shared": world.shared}
        )

    def _draw(self, architecture: Architecture, what: int) -> float:
        return float(np.random.default_rng(self._key(architecture, what)).standard_normal())

    def _key(self, architecture: Architecture, *what: int) -> list[int]:
        return [self.seed, int(architecture.key[:12], 16), *what]


def _timing(
    value: float, low: float, high: float, se: float, form: str, record: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "objective": "latency_ms", "value": value, "unit": "ms", "low": low, "high": high,
        "se": se, "n": 50, "source": "predicted" if record else "measured",
        "basis": "trained file" if form == "trained" else "untrained form", "record": dict(record),
    }  # fmt: skip


class Perform:
    """Does the jobs of a study by drawing what they bring."""

    def __init__(self, spec: StudySpec, truth: Truth) -> None:
        self.spec = spec
        self.truth = truth
        self.files: dict[int, Architecture] = {}

    def __call__(self, job: Any, search: Search) -> dict[str, Any]:
        """The values of a job's outcome; rungs are reported to the search."""
        if isinstance(job, Measure):
            return {"measurements": {
                str(n): self.truth.timing(self.files[n], job.form) for n in job.trials
            }}  # fmt: skip
        self.files[job.trial] = job.architecture
        if not isinstance(job, Train):
            return {"build": job.architecture.key, "file": "f", "costs": {}}
        rungs = self.spec.fidelity.rungs
        for rung in range(job.from_rung + 1, job.to_rung + 1):
            score, _ = self.truth.scored(job.architecture, job.seed, rungs[rung])
            values = {"epochs": rungs[rung], "score": score, "n": self.truth.world.images,
                      "checkpoint": "c"}  # fmt: skip
            if search.report(job, rung, values) == "stop":
                return {}
        images = self.truth.world.images
        found = self.truth.scored(job.architecture, job.seed, rungs[-1])
        return {"file": "t", "score": _share(found[0], images),
                "confirm": _share(found[1], images // 2)}  # fmt: skip


def _share(score: float, n: int) -> dict[str, float]:
    """A score as the trainer reports it: two images added on each side (Agresti and Coull)."""
    share = (score * n / 100 + 2) / (n + 4)
    return {"score": score, "se": 100 * math.sqrt(share * (1 - share) / (n + 4)), "n": n}


def study(world: World, seed: int, trials: int) -> list[dict[str, Any]]:
    """One search to its end: each point of its front, what is stated of it and what is true."""
    truth, made = Truth(world, seed), space()
    task = TaskSpec("made-up", (3, 32, 32), 10, examples=900, digest="made-up")
    objectives = (BUILTIN["accuracy"], BUILTIN["latency_ms"])
    spec = StudySpec("made-up", "made-up", task, "cpu", objectives, trials=trials,
                     promotion=world.promotion, fidelity=Fidelity(epochs=9), seed=seed)  # fmt: skip
    search = Search(spec, made, create(spec.strategy, made, objectives, (), seed))
    perform = Perform(spec, truth)
    while not isinstance(job := search.ask(), Done):
        if isinstance(job, Wait):
            raise RuntimeError("one job at a time leaves nothing to wait for")
        search.tell(job, Outcome(perform(job, search)))
    recorded = list(search.trials.values())
    complete = {t.key: t.architecture for t in recorded if t.state == "complete"}
    worth = {k: (-truth.accuracy(a), truth.latency(a)) for k, a in complete.items()}
    on_front = dict(zip(worth, non_dominated(list(worth.values())).tolist(), strict=True))
    repeats = sum(max(0, len(t.trained) - 1) for t in recorded if not t.reused)
    return [
        {"world": world.name, "seed": seed, "stated": m.membership, "true": on_front[m.key],
         "repeats": repeats,
         "held": m.measurements["latency_ms"].low <= worth[m.key][1]
         <= m.measurements["latency_ms"].high}
        for m in front_of(spec, recorded).members
    ]  # fmt: skip


def table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Stated probability against the share that is true, in bins, with 90 % binomial intervals."""
    found = []
    for low, high in pairwise(BINS):
        inside = [r for r in rows if low <= r["stated"] < high or (high == 1.0 == r["stated"])]
        if not inside:
            continue
        true, n = sum(r["true"] for r in inside), len(inside)
        stated = float(np.mean([r["stated"] for r in inside]))
        ends = beta.ppf([0.05, 0.95], [true, true + 1], [n - true + 1, n - true])
        low90, high90 = np.where([true == 0, true == n], [0.0, 1.0], ends)
        found.append({"from": low, "to": high, "n": n, "stated": round(stated, 3),
                      "true": round(true / n, 3), "low": round(float(low90), 3),
                      "high": round(float(high90), 3)})  # fmt: skip
    return found


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The reliability table of each world and of all, and the mean distance from the diagonal."""
    groups = {"all": list(rows)}
    for row in rows:
        groups.setdefault(row["world"], []).append(row)
    return {
        name: {
            "points": len(group), "stated": round(float(np.mean([r["stated"] for r in group])), 3),
            "true": round(float(np.mean([r["true"] for r in group])), 3),
            "error": round(distance(table(group)), 3), "bins": table(group),
        }
        for name, group in groups.items()
    }  # fmt: skip


def distance(bins: Sequence[Mapping[str, Any]]) -> float:
    """Expected calibration error: the mean gap of stated and true, by how many a bin holds."""
    total = sum(b["n"] for b in bins)
    return float(sum(b["n"] * abs(b["stated"] - b["true"]) for b in bins)) / max(1, total)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--studies", type=int, default=80, help="of each kind")
    parser.add_argument("--first", type=int, default=0, help="seed of the first study")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    began, rows = time.process_time(), []
    for seed in range(given.first, given.first + given.studies):
        for world in WORLDS:
            rows += study(world, seed, given.trials)
    document = {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "studies": given.studies, "first": given.first, "trials": given.trials,
        "worlds": [vars(w) for w in WORLDS],
        "cpu_seconds": round(time.process_time() - began, 1),
        "reading": "bins of stated probability; `true` is the share that belongs to the true front "
        "of what the study trained to the end, `low` and `high` its 90 % binomial interval",
        "summary": summarise(rows),
    }  # fmt: skip
    given.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for name, found in document["summary"].items():  # type: ignore[attr-defined]
        print(f"{name}: {found['points']} points, error {found['error']}")
        for row in found["bins"]:
            print("  {from:.2f}-{to:.2f} n={n:5d} stated {stated:.3f} true {true:.3f} "
                  "[{low:.3f}, {high:.3f}]".format(**row))  # fmt: skip


if __name__ == "__main__":
    main()
