"""A space whose work is counted by a formula, and what becomes of its networks."""

from itertools import pairwise

import numpy as np

from nas.core.decision import Choice
from nas.core.objective import Objective
from nas.core.space import SearchSpace
from nas.core.trial import Event

SPACE = SearchSpace(
    "plain",
    [Choice(f"stages.{i}.width", [8, 16, 32, 64]) for i in range(6)],
    build=lambda choices, task: None,
)
OBJECTIVES = (
    Objective("error", "%", "minimize", "trained"),
    Objective("latency_ms", "ms", "minimize", "measure"),
)


def macs(architecture):
    return 1000.0 * sum(a * b for a, b in pairwise(architecture.choices.values()))


class Asked:
    """Counts, and remembers what was asked."""

    def __init__(self):
        self.calls = []

    def __call__(self, architectures):
        self.calls.append([a.key for a in architectures])
        return [{"macs": macs(a)} for a in architectures]


def proposed(number, architecture):
    payload = {"architecture": architecture.to_json(), "origin": "strategy", "notes": {}}
    return Event("proposed", number, payload)


def tried(number, architecture):
    """A trial from its proposal to its result."""
    noise = np.random.default_rng([3, number]).normal()
    steps = [np.log2(w / 8) for w in architecture.choices.values()]
    error = 40.0 - float(np.dot(steps, [4.0, 3.0, 0.5, 0.5, 0.5, 0.0])) + 0.2 * noise
    values = {"error": error, "latency_ms": macs(architecture) / 1e5}
    told = {"state": "complete", "values": values, "violations": {}, "error": None}
    built = {"job": "build", "build": architecture.key, "costs": {"macs": macs(architecture)}}
    return [proposed(number, architecture), Event("reported", number, built),
            Event("told", number, told)]  # fmt: skip
