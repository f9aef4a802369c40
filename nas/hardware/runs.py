"""Sessions that ended, as estimates: of each file and anchor, and how steady both were.

A file whose session was unsteady is timed once more, in a process of its own luck.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nas.hardware.agent.estimates import estimate
from nas.hardware.anchors import WIDE
from nas.hardware.protocol import Protocol, jitters
from nas.hardware.samples import SERIES
from nas.hardware.session import Asked, Session, sessions


@dataclass(frozen=True)
class Run:
    """A session that ended: estimates by candidate's index and anchor's name, and its drift.

    What the wide anchor took is apart: neighbours move it, and it is compared with nothing.
    """

    session: Session
    estimates: dict[int | str, dict[str, Any]]
    drift: float
    repeated: bool
    wide_us: float | None = None

    @property
    def files(self) -> list[int]:
        """The candidates' indices."""
        return [name for name in self.estimates if isinstance(name, int)]

    @property
    def quiet(self) -> float:
        """The share of samples that passed the gate."""
        return float(np.mean([found["quiet"] for found in self.estimates.values()]))

    def steady(self, index: int, rules: Protocol) -> bool:
        """Whether neither the anchors beside a file drifted nor its own calls jittered."""
        return self.drift <= rules.drift and not jitters(self.estimates[index], rules)


def run(asked: Asked, alive: list[int], seed: int) -> tuple[list[Run], dict[int, str]]:
    """Times the files in a fresh process; those that it leaves unsteady in a second one.

    All of them are where an anchor drifted beyond its bound, else those whose calls jittered. Of
    two unsteady processes the one counts in which more samples passed the gate.
    """
    reasons: dict[int, str] = {}
    tried: list[Run] = []
    for repeated in (False, True):
        found, failures = sessions(asked, alive, seed + repeated)
        reasons |= failures
        tried += [summary(session, asked.protocol, repeated) for session in found]
        steady = {i for r in tried for i in r.files if r.steady(i, asked.protocol)}
        alive = [i for i in alive if i not in steady and i not in reasons]
        if not alive:
            break
    return _chosen(tried, asked.protocol), reasons


def _chosen(tried: list[Run], rules: Protocol) -> list[Run]:
    """Each file in the one run that counts, with that run's anchors; runs without any are left."""
    best: dict[int, Run] = {}
    for each in sorted(tried, key=lambda r: r.quiet):
        best |= {i: each for i in each.files if i not in best or not best[i].steady(i, rules)}
    return [
        dataclasses.replace(r, estimates={
            n: e for n, e in r.estimates.items() if isinstance(n, str) or best[n] is r
        })
        for r in tried if any(b is r for b in best.values())
    ]  # fmt: skip


def summary(session: Session, rules: Protocol, repeated: bool = False) -> Run:
    """The estimates of a session, and how far its anchors moved from one half to the other."""
    base = session.end["quiet_us"]
    plain = dataclasses.asdict(rules)
    estimates, drift, wide_us = {}, 0.0, None
    for name, result in session.results.items():
        samples, refs, passes, away = (np.array(result[k]) for k in SERIES)
        found = estimate(samples, refs, passes, away, base, plain)
        if name == WIDE:
            wide_us = found["value"]
            continue
        estimates[name] = found
        if isinstance(name, str) and passes.max() > 0:
            early = passes <= passes.max() // 2
            first, last = (
                estimate(samples[m], refs[m], passes[m], away[m], base, plain)["value"]
                for m in (early, ~early)
            )
            drift = max(drift, abs(last / first - 1))
    return Run(session, estimates, drift, repeated, wide_us)


def slower(runs: Sequence[Run], usual: Mapping[str, float]) -> float | None:
    """How many times longer than in earlier sessions here an anchor took; None without any.

    The reference kernel shows who takes the vector units; this shows memory and caches too.
    """
    found = [each.estimates[n]["value"] / usual[n] for each in runs for n in usual
             if n in each.estimates]  # fmt: skip
    return round(float(np.median(found)), 3) if found else None
