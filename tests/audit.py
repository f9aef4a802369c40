"""An independent check of a study: everything again from its recorded events, by other means.

Shares no code with the engine, the ledger or the front: what it says of a study follows from the
events alone, by the rules that `nas.core.trial.Event` states.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nas.store.store import Store

ENDS = {"complete", "stopped", "infeasible", "failed"}


def audit(url: str, study: str, locks: Path | None = None) -> list[str]:
    """What is wrong with a finished study; nothing where all is as it should be."""
    with Store(url, read_only=True) as store:
        spec, events, trials = store.spec(study), store.events(study), store.trials(study)
        front = store.front(study)
        [row] = [row for row in store.studies() if row.name == study]
    faults = [*_counted(spec.trials, events, trials), *_once(events)]
    found = {t.number: t.state for t in trials}
    told = {e.trial: e.payload for e in events if e.kind == "told"}
    for number, payload in told.items():
        if found.get(number) != payload["state"]:
            faults.append(f"trial {number} is {found.get(number)}, told {payload['state']}")
    if dict(row.counts) != {**dict.fromkeys((*ENDS, "running"), 0), **Counter(found.values())}:
        faults.append(f"the list of studies counts {row.counts}")
    if front is None:
        faults.append("no front was kept")
    else:
        kept = {m.trial for m in front.members}
        if kept != _front(spec, events):
            faults.append(
                f"the front is {sorted(kept)}, its events say {sorted(_front(spec, events))}"
            )
        if sum(front.trials.values()) != spec.trials:
            faults.append(f"the front counts {front.trials}")
    if row.writer is not None:
        faults.append(f"{row.writer} still holds the study")
    return faults + [f"the lease {name} is held" for name in held(locks) if locks]


def _counted(wanted: int, events: Iterable[Any], trials: Iterable[Any]) -> list[str]:
    """No trial lost, none twice, none without an end."""
    proposed = [e.trial for e in events if e.kind == "proposed"]
    told = Counter(e.trial for e in events if e.kind == "told")
    resumed = Counter(e.trial for e in events if e.kind == "resumed")
    faults = []
    if proposed != list(range(wanted)):
        faults.append(f"{wanted} trials were wanted, proposed were {proposed}")
    if [t.number for t in trials] != list(range(wanted)):
        faults.append(f"recorded are the trials {[t.number for t in trials]}")
    for number in range(wanted):
        if told[number] != 1 + resumed[number]:
            faults.append(f"trial {number} was told {told[number]} times")
    return faults


def _once(events: Iterable[Any]) -> list[str]:
    """No rung, training, measurement or build of a trial is counted twice."""
    seen: Counter[tuple[Any, ...]] = Counter()
    for event in events:
        p = event.payload
        if event.kind != "reported" or "error" in p:
            continue
        if p["job"] == "build":
            seen[event.trial, "build"] += 1
        elif p["job"] == "measure":
            what = p["measurement"]["objective"]
            seen[event.trial, p["form"], what, p["device"], p["workload"]] += 1
        elif p["job"] == "train":
            what = f"rung {p['rung']}" if "rung" in p else "end"
            seen[event.trial, "repeat", p["repeat"], what] += 1
    return [f"{what} was recorded {n} times" for what, n in seen.items() if n > 1]


def _front(spec: Any, events: Iterable[Any]) -> set[int]:
    """Who is not dominated, by brute force over the recorded evaluations (score and costs)."""
    keys: dict[int, str] = {}
    costs: dict[int, dict[str, float]] = {}
    scores: dict[int, list[float]] = {}
    measured: dict[tuple[int, str], float] = {}
    ended: dict[int, Any] = {}
    for event in events:
        p = event.payload
        if event.kind == "proposed":
            keys[event.trial] = str(sorted(p["architecture"]["choices"].items()))
        elif event.kind == "told":
            ended[event.trial] = p
        elif event.kind == "reported" and "error" not in p and p["job"] == "build":
            costs[event.trial] = p["costs"]
        elif event.kind == "reported" and p["job"] == "measure" and "error" not in p:
            measured[event.trial, p["form"]] = p["measurement"]["value"]  # latencies alone
        elif event.kind == "reported" and "trained" in p:
            scores.setdefault(event.trial, []).append(p["trained"]["confirm"]["score"])
    points: dict[int, tuple[float, ...]] = {}
    met: set[str] = set()
    for number in sorted(ended):
        if ended[number]["state"] != "complete" or keys[number] in met:
            continue
        met.add(keys[number])
        if number not in scores:
            continue
        mean = sum(scores[number]) / len(scores[number])
        known = {**costs[number], spec.task.score_name: mean}
        for form in ("untrained", "trained"):  # the later one, of the file itself, counts
            if (number, form) in measured:
                known["latency_ms"] = measured[number, form]
        points[number] = tuple(o.sign * known[o.name] for o in spec.objectives)
    return {
        n for n, p in points.items()
        if not any(q != p and all(a <= b for a, b in zip(q, p, strict=True))
                   for q in points.values())
    }  # fmt: skip


def held(locks: Path | None) -> list[str]:
    """The locks of a folder that somebody holds."""
    found = []
    for path in sorted(locks.glob("*")) if locks else ():
        if path.is_dir():  # of anchors, as a rule
            continue
        handle = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found.append(path.name)
        finally:
            os.close(handle)
    return found
