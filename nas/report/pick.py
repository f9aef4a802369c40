"""Which point of a front to take, and why: pure logic, the same answer on every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from nas.core.errors import NasError, unknown
from nas.core.front import Front, Member, signed
from nas.core.limits import number_of
from nas.core.measurement import Z90, Measurement
from nas.core.objective import Constraint
from nas.core.pareto import normalise
from nas.core.trial import placed
from nas.report.documents import brief
from nas.report.numbers import plain, with_unit

KNEE = "knee"
SHOWN = 3  # alternatives that are other networks


@dataclass(frozen=True)
class Pick:
    """One point of a front with the reason for it.

    Args:
        member: the point.
        reason: one sentence.
        regret: objective -> what taking `next_best` instead would change, with the sign of the
            objective's own unit; empty where no other point is allowed.
        next_best: the point that would be taken if `member` did not exist.
        binding: constraints without which another point would be taken.
        alternatives: the other points that keep the constraints, best first.
        others: the best of them that are other networks, not the same one compressed otherwise:
            trial -> decision -> what it is here and there.
        unknown: points of the front that lack a number which a constraint asks for.
        unlike: of the alternatives, what forbids comparing their latencies with the point's.
        device: where the front is of.
    """

    study: str
    member: Member
    reason: str
    next_best: Member | None
    regret: Mapping[str, float]
    binding: tuple[str, ...]
    alternatives: tuple[Member, ...]
    others: Mapping[int, Mapping[str, tuple[Any, Any]]] = field(default_factory=dict)
    unknown: tuple[int, ...] = ()
    unlike: Mapping[int, Sequence[str]] = field(default_factory=dict)
    device: str = ""

    def to_json(self) -> dict[str, Any]:
        """The document that `nas pick --json` prints."""
        return {
            "study": self.study,
            "trial": self.member.trial,
            "key": self.member.key,
            "choices": dict(self.member.choices),
            "membership": self.member.membership,
            "measurements": {n: brief(m) for n, m in self.member.measurements.items()},
            "reason": self.reason,
            "next_best": self.next_best.trial if self.next_best else None,
            "regret": dict(self.regret),
            "binding": list(self.binding),
            "alternatives": [m.trial for m in self.alternatives],
            "others": {
                str(number): {name: list(pair) for name, pair in decisions.items()}
                for number, decisions in self.others.items()
            },
            "unknown": list(self.unknown),
            "unlike": {str(number): list(reasons) for number, reasons in self.unlike.items()},
        }


def pick(
    front: Front,
    constraints: Sequence[Constraint] = (),
    prefer: str | None = None,
    confidence: float | None = None,
) -> Pick:
    """The best point of a front that keeps every constraint.

    Args:
        front: the points to choose from.
        constraints: limits on what the front measures.
        prefer: an objective's name, or `knee`: the point furthest towards the ideal from the plane
            through the ends of the front, each objective scaled to the front's range (Das 1999); or
            weights such as `accuracy=2,latency_ms=1`, of objectives scaled likewise.
            By default the score under constraints, the knee without.
        confidence: probability, from 0.5, with which a repeat must keep each constraint; without
            it the values themselves must.

    Raises:
        NasError: where the front is empty, a name is unknown, or no point keeps the constraints;
            then it says by how much the nearest one fails.
    """
    _check(front, constraints, confidence)
    wanted = _wanted(front, prefer, bool(constraints))
    order = ranked(front, wanted)
    kept = [m for m in order if _keeps(m, constraints, confidence)]
    if not kept:
        raise _impossible(front, constraints, confidence)
    best, rest = kept[0], kept[1:]
    return Pick(
        study=front.study,
        member=best,
        reason=_reason(front, wanted, constraints, confidence, len(kept)),
        next_best=rest[0] if rest else None,
        regret=_regret(front, best, rest[0]) if rest else {},
        binding=_binding(order, constraints, confidence),
        alternatives=tuple(rest),
        others=_others(front, best, rest),
        device=front.device,
    )


def _others(
    front: Front, best: Member, rest: Sequence[Member]
) -> dict[int, Mapping[str, tuple[Any, Any]]]:
    """The first few of the rest that are other networks than the best and each other."""
    axes = front.space.split("+")[1:]

    def network(member: Member) -> dict[str, Any]:
        return {k: v for k, v in member.choices.items() if k.partition(".")[0] not in axes}

    seen, found = [network(best)], dict[int, Mapping[str, tuple[Any, Any]]]()
    for member in rest:
        own = network(member)
        if own not in seen and len(found) < SHOWN:
            names = [n for n in {**seen[0], **own} if seen[0].get(n) != own.get(n)]
            found[member.trial] = {n: (seen[0].get(n), own.get(n)) for n in names}
            seen.append(own)
    return found


def bound(measurement: Measurement, sense: str, confidence: float | None) -> float:
    """The value a limit is held against: itself, or what a repeat keeps with this probability.

    The interval `low..high` holds 90 % of repeats, so 0.95 gives exactly the end that matters.

    >>> m = Measurement("latency_ms", 4.0, "ms", 3.5, 4.8, 0.1, 9, "measured", "trained file")
    >>> bound(m, "<=", None), bound(m, "<=", 0.95), bound(m, ">=", 0.95)
    (4.0, 4.8, 3.5)
    """
    if confidence is None:
        return measurement.value
    share = round(NormalDist().inv_cdf(confidence) / Z90, 12)
    end = measurement.high if sense == "<=" else measurement.low
    return measurement.value + share * (end - measurement.value)


def _check(front: Front, constraints: Sequence[Constraint], confidence: float | None) -> None:
    if not front.members:
        raise NasError(f"the front of {front.study!r} is empty", f"see why: nas show {front.study}")
    if confidence is not None and not 0.5 <= confidence < 1:
        near = confidence / 100 if 50 <= confidence < 100 else 0.95
        raise NasError(
            f"not a confidence: {confidence:g}",
            f"it is a probability from 0.5 to below 1: --confidence {near:g}",
        )
    names = [o.name for o in front.objectives]
    for constraint in constraints:
        asked = _names(front, constraint)
        if all(name in names for name in asked):
            for member in front.members:
                _read(member, constraint, None)
            continue
        if constraint.name not in [placed(name)[0] for name in names]:
            raise unknown(f"objective of {front.study!r}", constraint.name, names)
        if constraint.device not in (None, front.device):
            raise NasError(
                f"{constraint} speaks of {constraint.device!r}, this front is of {front.device!r}",
                f"leave out @{constraint.device}, or see: nas front {front.study} "
                f"--device {constraint.device}",
            )
        raise NasError(
            f"{constraint} speaks of a workload that the front does not measure",
            "the front is of batch 1 at the task's own resolution: "
            f"'{constraint.name}{constraint.sense}{constraint.limit:g}'",
        )


def _names(front: Front, constraint: Constraint) -> list[str]:
    """The objectives that a constraint limits: one, or one for each of its workloads."""
    elsewhere = constraint.device not in (None, front.device)
    if constraint.usual:
        return [f"{constraint.name}@{constraint.device}" if elsewhere else constraint.name]
    device = constraint.device or front.device
    usual = f"{constraint.name}@{device}" if elsewhere else constraint.name
    return [
        usual if work.name == "b1" else f"{constraint.name}@{device}:{work.name}"
        for work in constraint.workloads
    ]


def _wanted(front: Front, prefer: str | None, constrained: bool) -> str:
    names = [o.name for o in front.objectives]
    if prefer is not None and "=" in prefer:
        weights(prefer, names)
        return prefer
    if prefer is not None:
        if prefer not in (*names, KNEE):
            raise unknown("preference", prefer, [*names, KNEE])
        return prefer
    if not constrained:
        return KNEE
    return next((o.name for o in front.objectives if o.needs == "trained"), names[0])


def ranked(front: Front, wanted: str) -> list[Member]:
    """All members, the one to take first; ties go to the one nearer the knee, then the older."""
    points = signed(front.objectives, [m.measurements for m in front.members])
    knee = normalise(points).sum(axis=1)
    names = [o.name for o in front.objectives]
    if "=" in wanted:
        shares = weights(wanted, names)
        first = normalise(points) @ np.array([shares.get(name, 0.0) for name in names])
    else:
        first = knee if wanted == KNEE else points[:, names.index(wanted)]
    order = sorted(range(len(knee)), key=lambda i: (first[i], knee[i], front.members[i].trial))
    return [front.members[i] for i in order]


def weights(text: str, names: Sequence[str]) -> dict[str, float]:
    """What each objective counts, as a person typed it. Raises: NasError where it is none.

    >>> weights("accuracy=2,latency_ms=1", ["accuracy", "latency_ms"])
    {'accuracy': 2.0, 'latency_ms': 1.0}
    """
    found = {}
    for part in text.split(","):
        name, _, number = (word.strip() for word in part.partition("="))
        if name not in names:
            raise unknown("objective to weigh", name, names)
        try:
            found[name] = float(number)
        except ValueError:
            found[name] = -1.0
        if not 0 <= found[name] < float("inf"):
            raise NasError(
                f"not a weight: {part.strip()!r}", "write --prefer accuracy=2,latency_ms=1"
            )
    if not any(found.values()):
        raise NasError(f"no weight above 0 in {text!r}", "write --prefer accuracy=2,latency_ms=1")
    return found


def _limited(member: Member, constraint: Constraint) -> list[Measurement]:
    """The measurements a constraint speaks of: on the device it names, of each workload."""
    found = []
    for work in constraint.workloads:
        ways = [n for n in member.measurements if placed(n)[0] == constraint.name]
        ways = [n for n in ways if placed(n)[2] == work.name]
        named = [n for n in ways if placed(n)[1] == constraint.device]
        found.append(member.measurements[(named or ways)[0]])
    return found


def _read(member: Member, constraint: Constraint, confidence: float | None) -> float:
    """The number that the constraint limits, the worst of its workloads'.

    Raises: NasError where its quantile is not kept.
    """
    found = [_value(member, constraint, m, confidence) for m in _limited(member, constraint)]
    return max(found) if constraint.sense == "<=" else min(found)


def _value(
    member: Member, constraint: Constraint, measurement: Measurement, confidence: float | None
) -> float:
    if constraint.quantile is None:
        return bound(measurement, constraint.sense, confidence)
    kept = measurement.record.get(f"{constraint.quantile}_ms")
    if kept is None:
        raise NasError(
            f"trial {member.trial} has no {constraint.quantile} of {constraint.name}",
            f"only timings keep quantiles; write '{replace(constraint, quantile=None)}'",
        )
    scale = bound(measurement, constraint.sense, confidence) / measurement.value
    return number_of(constraint, measurement).value * scale


def _keeps(member: Member, constraints: Sequence[Constraint], confidence: float | None) -> bool:
    return all(c.violation(_read(member, c, confidence)) <= 0 for c in constraints)


def _impossible(
    front: Front, constraints: Sequence[Constraint], confidence: float | None
) -> NasError:
    """Says which point comes nearest, by how much it fails, and what would let it in."""

    def excess(member: Member) -> float:
        return sum(max(0.0, c.violation(_read(member, c, confidence))) for c in constraints)

    nearest = min(front.members, key=lambda m: (excess(m), m.trial))
    over, relaxed = [], []
    for constraint in constraints:
        value = _read(nearest, constraint, confidence)
        violation = constraint.violation(value)
        relaxed.append(str(constraint))
        if violation > 0:
            unit = _limited(nearest, constraint)[0].unit
            side = "above" if constraint.sense == "<=" else "below"
            gap = with_unit(plain(abs(value - constraint.limit)), unit)
            share = f"{100 * violation:.0f}" if violation >= 0.1 else f"{100 * violation:.2g}"
            over.append(f"{gap} ({share} %) {side} {constraint}")
            limit = _rounded(value, up=constraint.sense == "<=")
            relaxed[-1] = str(constraint).rpartition("=")[0] + f"={limit}"
    asked = " and ".join(map(str, constraints))
    sure = f" with probability {confidence:g}" if confidence is not None else ""
    options = " ".join(f"--constraint '{text}'" for text in relaxed)
    kept = f" --confidence {confidence:g}" if confidence is not None else ""
    return NasError(
        f"no point of {front.study!r} keeps {asked}{sure}: "
        f"the nearest, trial {nearest.trial}, is {', '.join(over)}",
        f"relax it: nas pick {front.study} --device {front.device} {options}{kept}",
    )


def _rounded(value: float, up: bool) -> str:
    """Three digits, rounded away from the limit so that the value itself keeps it.

    >>> _rounded(1.2341, up=True), _rounded(97.28, up=False)
    ('1.24', '97.2')
    """
    if value == 0:
        return "0"
    step = 10.0 ** (np.floor(np.log10(abs(value))) - 2)
    whole = np.ceil(value / step) if up else np.floor(value / step)
    return f"{whole * step:.6g}"


def _binding(
    order: Sequence[Member], constraints: Sequence[Constraint], confidence: float | None
) -> tuple[str, ...]:
    """Constraints that alone exclude a better point; else those the best point of all breaks."""

    def best(among: Sequence[Constraint]) -> Member:
        return next(m for m in order if _keeps(m, among, confidence))

    taken = best(constraints)
    alone = [c for c in constraints if best([o for o in constraints if o is not c]) is not taken]
    if not alone and order[0] is not taken:
        alone = [c for c in constraints if not _keeps(order[0], [c], confidence)]
    return tuple(str(c) for c in alone)


def _regret(front: Front, best: Member, other: Member) -> dict[str, float]:
    names = [o.name for o in front.objectives]
    return {n: other.measurements[n].value - best.measurements[n].value for n in names}


def _reason(
    front: Front,
    wanted: str,
    constraints: Sequence[Constraint],
    confidence: float | None,
    kept: int,
) -> str:
    """One sentence: what is best about the point, among how many, under which limits."""
    among = "the only point" if kept == 1 else f"{kept} points"
    if constraints:
        limits = " and ".join(map(str, constraints))
        sure = f" with probability {confidence:g}" if confidence is not None else ""
        among += f" that {'keeps' if kept == 1 else 'keep'} {limits}{sure}"
    if kept == 1:
        return among
    if wanted == KNEE:
        return (
            f"the knee of {among}: any other loses more than it gains, "
            "each objective in shares of its range"
        )
    if "=" in wanted:
        return f"the best weighted sum ({wanted}) of {among}, each objective in shares of its range"
    goal = next(o.goal for o in front.objectives if o.name == wanted)
    extreme = "lowest" if goal == "minimize" else "highest"
    return f"the {extreme} {wanted} of {among}"
