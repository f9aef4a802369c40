"""A formula in place of a training, over the decisions of real spaces: many seeds cost seconds.

Nothing here is of a real network: operations follow from depths and widths alone, an error falls
with them, and what every decision adds to it, alone and with another, is drawn by a seed. It is
for comparing strategies on what tables lack, conditional decisions by the dozen and costs over
two decades; `real_answers.py` trains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from real_answers import Answer

from nas.catalog import load_space
from nas.core.architecture import Architecture
from nas.core.decision import Choice, Integer
from nas.core.task import TaskSpec
from nas.strategies.candidates import Genes

Array = npt.NDArray[np.float64]
SIDE = 32
DRAWN = 400  # networks that effects are scaled by
FLOOR, TYPICAL = 3.0, 9.0  # percent of error that nothing mends, and what is usual beyond it
ALONE, TOGETHER, SIZE = 0.6, 0.35, 0.35  # deviations of an error's logarithm, by what they are of
BASE_S, PER_S, WRITTEN_PER_S = 3.0, 4e6, 2e5  # seconds of a training from operations, activations


def largekernel(c: Mapping[str, Any]) -> tuple[float, float]:
    """Operations and activations of stages that halve their maps."""
    before, total, written = int(c["stages.0.width"]), 0.0, 0.0
    for i in range(4):
        at = f"stages.{i}."
        side, width, depth = SIDE // 2**i, c[at + "width"], c[at + "depth"]
        kernel = min(c.get(at + "kernel", 1), 2 * side - 1)
        total += side**2 * before * width * 4
        mixed = width * c.get(at + "fraction", 1.0) * kernel**2
        total += depth * side**2 * (mixed + 2 * width**2 * c[at + "expansion"])
        written += depth * side**2 * width * (2 + c[at + "expansion"])
        before = width
    return total, written


def resnet(c: Mapping[str, Any]) -> tuple[float, float]:
    """Operations and activations of basic and bottleneck blocks."""
    before = c["stem.width"]
    total, written = SIDE**2 * 27.0 * before, 0.0
    for i in range(c["stages"]):
        at = f"stages.{i}."
        side, width, depth = SIDE // 2**i, c[at + "width"], c[at + "depth"]
        middle = width * c[at + "inner"]
        if c["block"] == "basic":
            block = 18 * width * middle
        else:
            block = 2 * width * middle + 9 * middle**2 / c.get(at + "groups", 1)
        total += side**2 * (depth * block + before * width)
        written += depth * side**2 * (width + middle)
        before = width
    return total, written


def mbconv(c: Mapping[str, Any]) -> tuple[float, float]:
    """Operations and activations of inverted bottlenecks."""
    before, side = c["stem.width"], SIDE
    total, written = SIDE**2 * 27.0 * before, 0.0
    for i in range(c["stages"]):
        at = f"stages.{i}."
        side = max(1, side // c[at + "stride"])
        width, depth, expansion = c[at + "width"], c[at + "depth"], c[at + "expansion"]
        block = width * expansion * (2 * width + c[at + "kernel"] ** 2)
        total += side**2 * depth * block
        written += 2 * depth * side**2 * width * expansion
        before = width
    return total + side**2 * before * c["head.width"], written


COSTS = {"largekernel": largekernel, "resnet": resnet, "mbconv": mbconv}


class Formula:
    """Answers of one made-up task over a space.

    Args:
        space: one of `COSTS`. task: the task as data. seed: draws what decisions do.
    """

    def __init__(self, space: str, task: TaskSpec, seed: int) -> None:
        self.space, self.task = load_space(space).at(task), task
        self._costs, self._seed = COSTS[space], seed
        self._genes = Genes(self.space)
        rng = np.random.default_rng([99, seed])
        self._alone = [_effect(d, rng) for d in self._genes.decisions]
        decisions = self._genes.decisions
        self._pairs: list[tuple[int, int, Array]] = []
        for _ in range(len(decisions) // 2):
            i, j = rng.choice(len(decisions), 2, replace=False)
            shape = len(_values(decisions[i])) + 1, len(_values(decisions[j])) + 1
            self._pairs.append((int(i), int(j), rng.normal(size=shape)))
        drawn = [self.space.sample_sized(rng, rng.random()) for _ in range(DRAWN)]
        effects = np.array([self._effects(a) for a in drawn])
        self._mean, self._spread = effects.mean(axis=0), effects.std(axis=0)

    def __call__(self, architecture: Architecture) -> Answer:
        """What a training would bring."""
        macs, written = self._costs(architecture.choices)
        alone, pairs, size = (self._effects(architecture) - self._mean) / self._spread
        log = math.log(TYPICAL) + ALONE * alone + TOGETHER * pairs - SIZE * size + 0.08 * size**2
        entropy = np.frombuffer(bytes.fromhex(architecture.key), np.uint32)
        rng = np.random.default_rng([*entropy.tolist(), self._seed])
        error = float(np.clip(FLOOR + math.exp(log), 0.0, 90.0))
        early = FLOOR + math.exp(0.75 * log + 1.2 + 0.25 * rng.normal())
        seen = error + (0.6 + 0.08 * error) * rng.normal()
        aside = seen + 0.7 * math.sqrt(error * (100.0 - error) / 160) * rng.normal()
        early, seen, aside = (100.0 - min(max(e, 0.5), 91.0) for e in (early, seen, aside))
        seconds = BASE_S + macs / PER_S + written / WRITTEN_PER_S
        return Answer({"macs": macs, "activations": written}, early, seen, aside, seconds)

    def counts(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float]]:
        """Operations of some architectures, as a strategy asks for them."""
        return [{"macs": self._costs(a.choices)[0]} for a in architectures]

    def _effects(self, architecture: Architecture) -> Array:
        """What decisions do alone, and in pairs, and the logarithm of operations."""
        code = self._genes.code(architecture).astype(np.int64)
        alone = sum(float(table[i]) for table, i in zip(self._alone, code, strict=True))
        pairs = sum(float(table[code[i], code[j]]) for i, j, table in self._pairs)
        return np.array([alone, pairs, math.log(self._costs(architecture.choices)[0])])


def _values(decision: Any) -> Sequence[Any]:
    assert isinstance(decision, Choice | Integer), "these spaces have no real decisions"
    return decision.values


def _effect(decision: Any, rng: np.random.Generator) -> Array:
    """What each value of a decision adds, and its absence: nothing for every second decision."""
    count = len(_values(decision))
    found = np.zeros(count + 1)
    if count < 2 or rng.random() < 0.5:
        return found
    size = float(rng.exponential())
    if isinstance(decision, Integer) or decision.ordered:
        place, (slope, bend) = np.linspace(-1.0, 1.0, count), rng.normal(size=2)
        found[:count] = size * (slope * place + 0.6 * bend * (place**2 - 0.4))
    else:
        found[:count] = size * rng.normal(size=count)
    found[count] = 0.3 * size * rng.normal()
    return found
