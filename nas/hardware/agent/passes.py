"""Networks loaded, warmed up, and timed in shuffled passes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from .engines import load
from .estimates import estimate
from .reference import Reference
from .watch import Watch, say

MOST_SETTLING = 6  # calls
VISIT = ("visit_s", "group_s", "settle_s")


class Network:
    """A file loaded into the runtime, and its samples."""

    def __init__(self, index: int, path: str, job: dict[str, Any], watch: Watch) -> None:
        self.index = index
        self.watch = watch
        start = time.perf_counter()
        with watch.over(index, job.get("load_s")):
            self.engine = load(path, job)
        self.load_s = time.perf_counter() - start
        self.samples: list[float] = []
        self.refs: list[float] = []
        self.away: list[float] = []
        self.passes: list[int] = []
        self.waits = job.get("kind", "cpu") != "cpu"
        self.done = False
        self.first_ms = self.call() / 1e3

    def call(self) -> float:
        """One call's duration, in microseconds."""
        return self.watched()[0]

    def watched(self) -> tuple[float, float]:
        """One call's duration, and how much of it another process had the core, in microseconds.

        Of a call that waits for an accelerator, and of one on several cores, the latter is not
        known and 0.
        """
        with self.watch.over(self.index):
            before = time.process_time_ns()
            took = self.engine.call()
            busy = (time.process_time_ns() - before) / 1e3
        return took, 0.0 if self.waits else max(0.0, took - busy)

    def _calls(self, count: int) -> list[tuple[float, float]]:
        return [self.watched() for _ in range(count)]

    def warm_up(self, least: float, most: float) -> None:
        """Calls until two successive windows agree within 5 %, between two durations (seconds).

        A window is six calls, fewer where six would outlast the longer duration. What others took
        of a call is left out: the network is warm, whether or not the machine is quiet.
        """
        start = time.perf_counter()
        before = float("inf")
        calls = int(np.clip(most * 1e3 / self.first_ms, 1, 6))
        while True:
            window = float(np.median([took - away for took, away in self._calls(calls)]))
            spent = time.perf_counter() - start
            if spent >= most or (spent >= least and abs(window / before - 1) < 0.05):
                break
            before = window
        self.typical = window

    def visit(
        self, number: int, reference: Reference, visit_s: float, group_s: float, settle_s: float
    ) -> None:
        """One pass's calls: groups of about `group_s`, a reference run before and after each.

        A call longer than `group_s` is a group of its own. Grouping keeps a short network's
        weights in the caches, as they are when it runs in a loop. What the network before left
        there is replaced first, by some calls that are no samples: of 3 to 8 ms, the first of a
        visit take 5 to 40 % longer than those in a loop.
        """
        self._calls(int(np.clip(round(settle_s * 1e6 / self.typical), 1, MOST_SETTLING)))
        group = int(np.clip(group_s * 1e6 / self.typical, 1, 16))
        groups = int(np.clip(round(visit_s * 1e6 / self.typical / group), 1, 8))
        before = reference.run()
        for _ in range(groups):
            calls = self._calls(group)
            after = reference.run()
            self.samples += [took for took, _ in calls]
            self.away += [away for _, away in calls]
            self.refs += [max(before, after)] * group
            self.passes += [number] * group
            before = after

    def estimate(self, base: float, rules: dict[str, Any]) -> dict[str, Any]:
        """What `estimate` says of the samples so far."""
        samples, refs = np.array(self.samples), np.array(self.refs)
        passes, away = np.array(self.passes), np.array(self.away)
        return estimate(samples, refs, passes, away, base, rules)


def warmed(job: dict[str, Any], watch: Watch) -> list[Network]:
    """Loads and warms every file; one that cannot is reported and left out."""
    networks = []
    rules = job["protocol"]
    for index, path in enumerate([*job["files"], *job["anchors"]]):
        say("loading", file=index)
        try:
            network = Network(index, path, job, watch)
            network.warm_up(rules["warm_s"], rules["warm_cap_s"])
            networks.append(network)
            say("loaded", file=index)
        except Exception as error:
            say("failed", file=index, error=f"{type(error).__name__}: {error}"[:500])
    return networks


def run_passes(networks: list[Network], job: dict[str, Any], reference: Reference) -> list[Network]:
    """Shuffled passes until every network's interval is narrow enough or the time is up.

    A network that converged rests, while the anchors stay until the end. One that fails in the
    middle is reported and left out. Returns those that have samples.
    """
    rules = job["protocol"]
    rng = np.random.default_rng(job["seed"])
    candidates = [n for n in networks if n.index < len(job["files"])]
    deadline = time.perf_counter() + rules["seconds"] * len(networks)
    for number in range(rules["max_passes"]):
        at_work = [n for n in networks if not n.done or n not in candidates]
        for place in rng.permutation(len(at_work)):
            network = at_work[place]
            try:
                network.visit(number, reference, *(rules[k] for k in VISIT))
            except Exception as error:
                say("failed", file=network.index, error=f"{type(error).__name__}: {error}"[:500])
                networks = [n for n in networks if n is not network]
                candidates = [n for n in candidates if n is not network]
        if number + 1 >= rules["min_passes"]:
            quiet_us = reference.base
            for network in (n for n in networks if not n.done):
                found = network.estimate(quiet_us, rules)
                enough = found["passes"] >= rules["min_passes"] and not found["noisy"]
                network.done = found["width"] <= rules["width"] and enough
            if all(n.done for n in networks):
                break
        if number >= 2 and time.perf_counter() > deadline:
            break
    return networks
