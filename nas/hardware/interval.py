"""Where a repeat of a latency lies: what is in doubt of one, and what this host has taught of it.

Terms of one process (its samples, processes of other luck, caches) and terms that processes right
behind each other share (contention, the cache of all cores). Each is assumed until earlier sessions
on this host tell, and what files that were measured again tell scales the whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from nas.core.measurement import Z90, Measurement
from nas.hardware.anchors import WIDE
from nas.hardware.history import AnchorHistory, by_name
from nas.hardware.protocol import Protocol
from nas.hardware.repeats import Repeats
from nas.hardware.runs import Run


def between(
    runs: list[Run], history: AnchorHistory, rules: Protocol, threads: int
) -> tuple[float, str]:
    """Relative standard deviation between processes, and where that figure comes from.

    `measured`: from these runs, files and anchors pooled, since what differs between processes
    (memory layout, clock) meets all of them. `history`: where each file has one run, from the
    anchors of the last sessions on this host. `assumed`: with neither. The assumed figure weighs
    as much as two observed deviations in all of them.
    """
    assumed = rules.between if threads == 1 else rules.between_shared
    seen: dict[int | str, list[float]] = {}
    for each in runs:
        for name, found in each.estimates.items():
            seen.setdefault(name, []).append(float(np.log(found["value"])))
    # Anchors alone are in several runs where these share the files, or some were timed again.
    again = any(len(v) > 1 for name, v in seen.items() if isinstance(name, int))
    repeated = [np.array(v) for v in seen.values() if len(v) > 1 and again]
    freedom = sum(v.size - 1 for v in repeated)
    squares = sum(float(((v - v.mean()) ** 2).sum()) for v in repeated)
    known = "measured"
    if not freedom:
        squares, freedom = history.squares()
        known = "history" if freedom else "assumed"
    return float(np.sqrt((2 * assumed**2 + squares) / (2 + freedom))), known


def taken(runs: list[Run], history: AnchorHistory, rules: Protocol) -> float:
    """Milliseconds by which the wide anchor differs between measurements, one standard deviation.

    What neighbours leave of the shared cache changes in seconds to hours: processes right behind
    each other share it, and only measurements at other times tell. The assumed share weighs as much
    as two observed deviations. 0 where no wide anchor was timed.
    """
    now = [each.wide_us for each in runs if each.wide_us is not None]
    if not now:
        return 0.0
    with contextlib.suppress(OSError):
        history.add({WIDE: float(np.median(now))})
    known = np.array(by_name(history.rows()).get(WIDE, now))
    squares = float(((known - known.mean()) ** 2).sum())
    assumed = 2 * (rules.caches * float(known.mean())) ** 2
    return float(np.sqrt((assumed + squares) / (2 + known.size - 1))) / 1e3


def reached(size_mb: float, rules: Protocol) -> float:
    """Milliseconds that a file of that size differs by, for each of the wide anchor's.

    Eleven networks of 5 to 37 MB all differed by 0.12 to 0.18 ms, whatever they took in all, where
    the wide anchor did by half of that, and those below 2 MB hardly at all (on one host of two
    cores, beside the load generator of `benchmarks/repeatability.py`).
    """
    over = (size_mb - rules.small_mb) / (rules.large_mb - rules.small_mb)
    return rules.reach * min(1.0, max(0.0, over))


def relative(
    found: list[dict[str, Any]], spread: tuple[float, str], taken: float, rules: Protocol
) -> float:
    """Relative standard error of the median of a file's processes, with what these share.

    Args:
        found: the file's estimates. spread: what `between` says of them. taken: of the cache.
    """
    own, known = spread
    # A measured spread between processes already contains what else they differ by.
    one = own if known == "measured" else float(np.linalg.norm((within(found), own, slack(found))))
    # Variance of a median of three is 0.45 of one process's; of one or two, that of the mean.
    one *= float(np.sqrt((1.35 if len(found) > 2 else 1.0) / len(found)))
    # Whoever slows one process down slows down those right behind it: more of them tell no more.
    contended = rules.contention * (1 - quiet(found)) ** 3
    return float(np.linalg.norm((one, contended, taken)))


def within(found: list[dict[str, Any]]) -> float:
    """Relative standard error of the estimate within a process."""
    return float(np.sqrt(np.mean([(f["se"] / f["value"]) ** 2 for f in found])))


def quiet(found: list[dict[str, Any]]) -> float:
    """The share of a file's samples that passed the gate."""
    return float(np.mean([f["quiet"] for f in found]))


def slack(found: list[dict[str, Any]]) -> float:
    """From the estimate up to the median, relative: what caches taken by others do to a network.

    A session that meets more of them finds its low quantile where this one had its median.
    """
    return float(np.mean([f["p50"] / f["value"] for f in found])) - 1


def learnt(repeats: Repeats, stated: Mapping[str, Measurement]) -> float:
    """How far repeats lay apart here, these included, for each deviation that was stated."""
    with contextlib.suppress(OSError):
        repeats.add({name: (m.value, m.se / m.value) for name, m in stated.items()})
    return repeats.scale()


def rescaled(stated: Measurement, scale: float) -> Measurement:
    """A number with what repeats on this host say of its interval."""
    low, high = interval(stated.value, se := scale * stated.se)
    record = {**stated.record, "repeats": round(scale, 3)}
    return dataclasses.replace(stated, se=se, low=low, high=high, record=record)


def interval(value: float, se: float) -> tuple[float, float]:
    """Where a repeat of a measurement lies nine times of ten: it has a doubt of its own.

    >>> [round(v, 3) for v in interval(10.0, 0.1)]
    [9.767, 10.233]
    """
    half = Z90 * float(np.sqrt(2)) * se
    return max(0.0, value - half), value + half
