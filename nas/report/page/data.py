"""What the page of a study is given: one JSON document, a column for each quantity and decision.

Columns and short numbers keep 2,000 trials of 40 decisions under a megabyte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePath
from typing import Any

from nas.core.front import Front, counts, moved
from nas.core.known import measure, seed_deviation
from nas.core.membership import verdict
from nas.core.objective import BUILTIN, TIMED, Objective
from nas.core.retarget import Retarget
from nas.core.study import StudySpec
from nas.core.trial import Event, Trial
from nas.report.history import budget, curve, working_seconds
from nas.report.networks import groups, word
from nas.report.numbers import short_unit
from nas.report.pick import KNEE, ranked

Document = dict[str, Any]
DIGITS = 6
POINTS = 400  # of the curve of hypervolume
_WORDS = {
    "macs": "MACs", "params": "parameters", "trainable_params": "trainable parameters",
    "task_mb": "bytes of one more task",
}  # fmt: skip


@dataclass(frozen=True)
class Findings:
    """All that a page tells of a study.

    Args:
        spec: of the study. trials, events: its own; moments: when each event was recorded.
        fronts: device -> the front there, the one to show first leading.
        retargets: device -> how the study's order changed there.
        importance, correlations: documents of `nas show`, or why there is none.
        networks: trial -> the drawing of its network (`nas.report.page.networks.drawing`).
        missing: what the page cannot show, and why.
        where: options that name the database in a command, empty for the default.
        made: version and date.
    """

    spec: StudySpec
    trials: Sequence[Trial]
    events: Sequence[Event]
    moments: Sequence[datetime]
    fronts: Mapping[str, Front]
    retargets: Mapping[str, Retarget] = field(default_factory=dict)
    importance: Mapping[str, Any] | str = ""
    correlations: Mapping[str, Any] | str = ""
    networks: Mapping[int, Document] = field(default_factory=dict)
    missing: Sequence[str] = ()
    where: Sequence[str] = ()
    made: str = ""


def page_document(found: Findings) -> Document:
    """The document that the scripts of the page read; see the keys for what is in it."""
    spec, trials = found.spec, found.trials
    clock = working_seconds(found.moments)
    return {
        "made": found.made,
        "where": list(found.where),
        "study": _study(spec, clock[-1] if clock else 0.0),
        "counts": counts(trials),
        "quantities": [_quantity(o, spec) for o in quantities(spec, trials)],
        "decisions": _decisions(trials, found.importance),
        "groups": groups(n for t in trials for n in t.architecture.choices),
        "trials": _trials(trials),
        "numbers": _numbers(
            [o for o in quantities(spec, trials) if not _of_device(o, spec)], spec, trials
        ),
        "devices": [_device(found, device) for device in found.fronts],
        "budget": [vars(row) for row in budget(trials)],
        "importance": found.importance,
        "correlations": found.correlations,
        "networks": {str(number): network for number, network in found.networks.items()},
        "missing": list(found.missing),
    }


def quantities(spec: StudySpec, trials: Sequence[Trial]) -> list[Objective]:
    """What the points can be drawn by: the study's objectives, then what else is known of any."""
    own = {o.name: o for o in spec.objectives}
    others = [o for n, o in BUILTIN.items() if n not in own and n not in ("error", *TIMED)]
    known = [o for o in others if any(o.name in t.costs for t in trials)]
    return [*own.values(), *(o for o in known if o.name != "accuracy")]


def _of_device(objective: Objective, spec: StudySpec) -> bool:
    """Whether a quantity has another number on every device."""
    return objective.name.partition("@")[0] in TIMED or objective.name in spec.probes


def _study(spec: StudySpec, seconds: float) -> Document:
    """What was asked. A folder's data is named without the folders above it."""
    scheme, colon, rest = spec.task.source.partition(":")
    source = f"{scheme}:{PurePath(rest).name}" if colon and scheme == "folder" else spec.task.source
    return {
        "name": spec.name,
        "space": spec.space,
        "data": source,
        "input": list(spec.task.input),
        "device": spec.device,
        "objectives": [o.name for o in spec.objectives],
        "score": spec.task.score_name,
        "constraints": [str(c) for c in spec.constraints],
        "strategy": spec.strategy,
        "promotion": spec.promotion,
        "trials": spec.trials,
        "epochs": spec.fidelity.epochs,
        "share": spec.fidelity.data,
        "seed": spec.seed,
        "network": spec.network,
        "seconds": round(seconds, 1),
    }


def _quantity(objective: Objective, spec: StudySpec) -> Document:
    return {
        "name": objective.name,
        "label": label(objective.name),
        "unit": short_unit(objective.unit),
        "goal": objective.goal,
        "device": _of_device(objective, spec),
    }


def label(name: str) -> str:
    """The name of a quantity without its unit, in words.

    >>> label("latency_ms"), label("task_mb"), label("birdnet:widest_layer")
    ('latency', 'bytes of one more task', 'widest layer')
    """
    stem = _WORDS.get(name, name.rpartition(":")[2])
    for ending in ("_ms", "_mb", "_mj", "_ips"):
        stem = stem.removesuffix(ending)
    return stem.replace("_", " ")


def _trials(trials: Sequence[Trial]) -> Document:
    """One column for each thing that is known of every trial."""
    return {
        "number": [t.number for t in trials],
        "state": [t.state for t in trials],
        "origin": [t.origin for t in trials],
        "epochs": [max((r.epochs for r in t.rungs if not r.repeat), default=0) for t in trials],
        "reused": [t.reused for t in trials],
        "broken": [", ".join(n for n, v in t.violations.items() if v > 0) for t in trials],
        "error": [" ".join((t.error or "").split())[:200] for t in trials],
    }


def _decisions(trials: Sequence[Trial], importance: Mapping[str, Any] | str) -> list[Document]:
    """Each decision: its values that occur, and for every trial the place of its own, or -1.

    Those that decide most come first.
    """
    names = list(dict.fromkeys(n for t in trials for n in t.architecture.choices))
    if isinstance(importance, Mapping):
        shares = {row["decision"]: row["share"] for row in importance["rows"]}
        names.sort(key=lambda name: -shares.get(name, 0.0))
    return [_decision(name, trials) for name in names]


def _decision(name: str, trials: Sequence[Trial]) -> Document:
    chosen = [t.architecture.choices.get(name) for t in trials]
    values = _ordered(value for value in chosen if value is not None)
    place = {repr(value): i for i, value in enumerate(values)}
    return {
        "name": name,
        "values": [word(value) for value in values],
        "index": [-1 if value is None else place[repr(value)] for value in chosen],
    }


def _ordered(values: Iterable[Any]) -> list[Any]:
    """Values once each: numbers by size, then words in the order in which they came up."""
    once = list({repr(value): value for value in values}.values())
    numbers = [v for v in once if isinstance(v, int | float)]
    return sorted(numbers) + [v for v in once if not isinstance(v, int | float)]


def _numbers(
    objectives: Sequence[Objective], spec: StudySpec, trials: Sequence[Trial]
) -> dict[str, Document]:
    """For each quantity the value of every trial, None where it is not known.

    `low` and `high` are there where any value has a doubt, `predicted` where any is predicted.
    """
    deviation, found = seed_deviation(trials), {}
    for objective in objectives:
        known = [measure(t, objective, spec, deviation) for t in trials]
        column: Document = {"value": [_short(m.value if m else None) for m in known]}
        if any(m and m.high > m.low for m in known):
            column |= {end: [_short(getattr(m, end) if m else None) for m in known]
                       for end in ("low", "high")}  # fmt: skip
        if any(m and m.source == "predicted" for m in known):
            column["predicted"] = [int(bool(m and m.source == "predicted")) for m in known]
        found[objective.name] = column
    return found


def _device(found: Findings, device: str) -> Document:
    """The front of a device, what can be picked from it, and how the search came to it."""
    front = found.fronts[device]
    spec = moved(found.spec, found.trials, device) if device != found.spec.device else found.spec
    place = {t.number: i for i, t in enumerate(found.trials)}
    points = curve(spec, found.trials, front, found.events, found.moments)
    shown = [points[i] for i in _spread(len(points))]
    wanted = [KNEE, *(o.name for o in front.objectives)] if front.members else []
    numbers = [m for member in front.members for m in member.measurements.values()]
    return {
        "name": device,
        "objectives": [o.name for o in front.objectives],
        "front": [
            {"row": place[m.trial], "membership": _short(m.membership),
             "verdict": verdict(m.membership)}
            for m in front.members
        ],
        "possible": [{"row": place[m.trial], "membership": _short(m.membership)}
                     for m in front.others],
        "order": {name: [place[m.trial] for m in ranked(front, name)] for name in wanted},
        "numbers": _numbers(
            [o for o in quantities(found.spec, found.trials) if _of_device(o, spec)],
            spec, found.trials,
        ),
        "hypervolume": _short(front.hypervolume),
        "reference": [_short(r) for r in front.reference],
        "curve": {
            "evaluations": [p.evaluations for p in shown],
            "seconds": [round(p.seconds, 1) for p in shown],
            "hypervolume": [_short(p.hypervolume) for p in shown],
        },
        "bases": sorted({f"{m.source} ({m.basis})" for m in numbers if m.basis != "counted"}),
        "runtimes": runtimes(front),
        "unlike": {str(n): list(reasons) for n, reasons in front.unlike.items()},
        "elsewhere": len(front.elsewhere),
        "retarget": found.retargets[device].to_json() if device in found.retargets else None,
    }  # fmt: skip


def runtimes(front: Front) -> list[str]:
    """What ran the timed files: `onnxruntime 1.23.0`."""
    records = [m.record for member in front.members for m in member.measurements.values()]
    sessions = [session for record in records for session in record.get("sessions", ())]
    versions = {pair for session in sessions for pair in session["runtime"].items()}
    return [f"{name} {version}" for name, version in sorted(versions)]


def _spread(count: int) -> list[int]:
    """At most `POINTS` places in a list, even, its last among them."""
    step = max(1, -(-count // POINTS))
    return sorted({*range(0, count, step), *([count - 1] if count else [])})


def _short(value: float | None) -> float | None:
    """A number with as many digits as anything is drawn with."""
    return None if value is None else float(f"{value:.{DIGITS}g}")
