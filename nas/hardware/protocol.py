"""The rules of a measurement, when it has converged, and when two may be compared."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from nas.core.architecture import digest
from nas.hardware import agent
from nas.hardware.history import by_name


@dataclass(frozen=True)
class Protocol:
    """The rules of a measurement; numbers taken under different rules are not compared.

    Args:
        gate: a sample counts while the reference kernel beside it is within this factor of the
            quiet value, and away: nobody else had the core for more than this share of the call.
            quietest: share of samples kept where fewer pass the gate.
        quantile: the estimate, of the gated samples.
        warm_s, warm_cap_s: least and most seconds of warm-up for each network.
        visit_s: how long a pass stays with a network. group_s: how long between reference runs.
        settle_s: for how long it calls the network before, six times at most.
        min_passes, max_passes: passes over all networks; so many at least must have samples kept.
        width: relative half-width of the 90 % within-process interval to stop at.
        seconds: time for each network; where it runs out first, `converged` is false.
        call_cap_s: a single call longer than this is a hang.
        between: relative standard deviation between processes, assumed until it is measured, with
            one thread; `between_shared` with several threads on a shared host.
        contention: the same where no sample passed the gate, and a network may be far slower than
            when quiet. Where the share q did, it is less by the third power of 1 - q.
        drift: how far an anchor may move within a session before the session is repeated.
        memory_share: share of the host's memory that the measuring process may map.
        caches: relative standard deviation of the wide anchor between sessions, assumed until it is
            measured. small_mb, large_mb: size of a file that lies in a core's own caches, and of
            one that meets all that neighbours do there. reach: milliseconds that such a file
            differs by for each of the wide anchor's. They say what intervals are, not what numbers
            are, hence are no part of the version either.
        jitter: a number has not converged while one gated call in twenty takes so many times as
            long as the middle one. It judges a number and does not change it, hence no part of the
            version.
    """

    jitter: ClassVar[float] = 1.5
    caches: ClassVar[float] = 0.05
    small_mb: ClassVar[float] = 2.0
    large_mb: ClassVar[float] = 5.0
    reach: ClassVar[float] = 2.0
    gate: float = 1.08
    away: float = 0.01
    quietest: float = 0.2
    quantile: float = 0.25
    warm_s: float = 0.05
    warm_cap_s: float = 0.5
    visit_s: float = 0.012
    group_s: float = 0.002
    settle_s: float = 0.05
    min_passes: int = 6
    max_passes: int = 60
    width: float = 0.02
    seconds: float = 0.3
    call_cap_s: float = 10.0
    between: float = 0.03
    between_shared: float = 0.08
    contention: float = 0.2
    drift: float = 0.05
    memory_share: float = 0.75

    @property
    def slow(self) -> float:
        """How many times slower than in earlier sessions an anchor speaks of the machine."""
        return 1 + 4 * self.drift

    @property
    def version(self) -> str:
        """Names the agent's version and these rules.

        >>> Protocol().version == Protocol(gate=1.08).version != Protocol(gate=1.5).version
        True
        """
        return f"{agent.VERSION}-{digest(dataclasses.asdict(self))[:8]}"


def jitters(found: Mapping[str, Any], rules: Protocol) -> bool:
    """Whether an estimate's calls differ by more than the network: the scheduler's steps show.

    Of gated samples: where hardly any passed the gate (`noisy`), what is left says nothing of it.
    """
    return bool(found["p95"] > rules.jitter * found["p50"] and not found["noisy"])


def unsettled(found: Mapping[str, Any], drift: float, rules: Protocol) -> list[str]:
    """Why the estimate of one process has not converged, in words; empty where it has.

    Args:
        found: what `nas.hardware.agent.estimates` says. drift: how far an anchor moved meanwhile.
    """
    longer = found["p95"] / found["p50"]
    why = {
        f"an anchor drifted by {drift:.1%}": drift > rules.drift,
        "the machine was hardly ever quiet": found["noisy"],
        f"one call in twenty took {longer:.1f} times the middle one": jitters(found, rules),
        f"only {found['passes']} passes count": found["passes"] < rules.min_passes,
        f"the interval is still {found['width']:.1%} to either side": found["width"] > rules.width,
    }
    return [words for words, true in why.items() if true]


# The last two are of predictions.
CONDITIONS = (
    "protocol", "device", "host", "workload", "threads", "cores", "runtime", "options",
    "form", "calibration",
)  # fmt: skip
# What was true before records said so.
ONCE: dict[str, Any] = {"runtime": "onnxruntime", "options": [], "cores": []}


# Of a machine's state before a session: what must agree, and is not the device's own doing.
STATE = ("governor", "boost", "mode", "mains", "quota")


def differences(a: Mapping[str, Any], b: Mapping[str, Any], drift: float = 0.05) -> list[str]:
    """What forbids comparing two records of latency; empty where they may be compared.

    Two numbers are comparable when protocol, device profile, host, workload, threads, cores,
    runtime with its options and versions agree, how many cores its threads could use, what the
    environment tells the runtime, governor and other switches of clock and power, when both or
    neither were held down by heat or power, and when no anchor differs by more than `drift`:
    anchors are the same networks everywhere, so what moves them would move the candidates (but they
    are too small to use several cores). All sessions of a record count. A number without converged
    samples is comparable, its interval says how little it is worth. Two predictions are, where form
    and calibration agree. What an older record does not say is taken to agree.

    >>> differences({"device": "cpu"}, {"device": "a100"})
    ["device: 'cpu' and 'a100'"]
    """
    return Seen.of(a).against(Seen.of(b), drift)


@dataclass
class Seen:
    """What must agree of one record, or of several that do agree: then anchors are ranges."""

    conditions: dict[str, Any]
    circumstances: dict[str, list[Any]]
    anchors: dict[str, tuple[float, float]]
    changed: bool

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Seen:
        """What one record says."""
        sessions = _sessions(record)
        return cls(
            {k: record.get(k, ONCE.get(k)) for k in CONDITIONS},
            _circumstances(sessions, record.get("threads") or 1),
            {name: (ms, ms) for name, ms in _anchors(sessions).items()},
            bool(record.get("host_changed")),
        )

    def against(self, other: Seen, drift: float = 0.05) -> list[str]:
        """What forbids comparing the two; of ranges of anchors, their farthest ends count."""
        a, b = self.conditions, other.conditions
        found = [f"{k}: {a[k]!r} and {b[k]!r}" for k in CONDITIONS if a[k] != b[k]]
        if self.changed or other.changed:
            found.append("host: it changed during a measurement")
        one, two = self.circumstances, other.circumstances
        for name in one:
            if name in two and one[name] != two[name]:
                found.append(f"{name}: {_plain(one[name])} and {_plain(two[name])}")
        for name in sorted(self.anchors.keys() & other.anchors.keys()):
            (low, high), (least, most) = self.anchors[name], other.anchors[name]
            change = max(most / low - 1, least / high - 1, key=abs)
            if abs(change) > drift:
                found.append(f"anchor {name}: {change:+.1%}")
        return found

    def join(self, other: Seen) -> None:
        """Takes in another that agrees: what it says too, and how far its anchors reach."""
        self.circumstances = other.circumstances | self.circumstances
        for name, (least, most) in other.anchors.items():
            low, high = self.anchors.get(name, (least, most))
            self.anchors[name] = min(low, least), max(high, most)


def _sessions(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What each process saw; a record of several callers at once is its own."""
    return list(record.get("sessions") or ([record] if "before" in record else []))


def _circumstances(sessions: list[Mapping[str, Any]], threads: int) -> dict[str, list[Any]]:
    """By name, the different values that sessions saw; a name that one does not say is left out."""
    seen: dict[str, list[Any]] = {}
    for session in sessions:
        before = session.get("before", {})
        gpu = before.get("gpu") or {}
        said = ("runtime", "runtime_versions", "environment")
        told = {name: session[name] for name in said if name in session}
        told |= {name: before[name] for name in STATE if name in before}
        told |= {f"GPU's {n}": gpu[n] for n in ("limit_milliwatts", "max_sm_mhz") if n in gpu}
        if session.get("affinity"):
            told["cores for its threads"] = min(len(session["affinity"]), threads)
        if "throttled" in session:
            held = [why for why in session["throttled"] if not why.startswith("the container")]
            told["held down"] = bool(held)
        for name, value in told.items():
            if value not in seen.setdefault(name, []):
                seen[name].append(value)
    return seen


def _plain(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _anchors(sessions: list[Mapping[str, Any]]) -> dict[str, float]:
    """Each anchor's median over the sessions."""
    seen = by_name(session.get("anchors_ms", {}) for session in sessions)
    return {name: statistics.median(values) for name, values in seen.items()}
