"""The estimate of one network in one process, and its doubt."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def gate(
    refs: Array, whole: Array, base: float, bound: float, quietest: float
) -> tuple[Array, float]:
    """Which samples to keep, and the share that were taken while the machine was quiet.

    Quiet means that the call was `whole` (nobody took the core from it) and the slower of its two
    neighbouring reference runs is within `bound` times `base` (what it takes when quiet). Where the
    share is below `quietest`, that share with the fastest references is kept instead.

    >>> whole = np.array([True, False, True, True])
    >>> keep, quiet = gate(np.array([1.0, 1.1, 2.0, 1.0]), whole, 1.0, 1.25, 0.2)
    >>> keep.tolist(), quiet
    ([True, False, False, True], 0.5)
    """
    keep = whole & (refs <= bound * base)
    quiet = float(keep.mean())
    return (keep if quiet >= quietest else refs <= np.quantile(refs, quietest)), quiet


def bootstrap(
    samples: Array, passes: Array, quantile: float, seed: int, rounds: int = 200
) -> Array:
    """The quantile of the samples when whole passes are drawn again, `rounds` times.

    Samples of one pass share the state of the machine, so passes are the independent unit.
    """
    order = np.argsort(samples, kind="stable")
    _, group = np.unique(passes[order], return_inverse=True)
    count = int(group.max()) + 1
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=rounds)
    weight = np.cumsum(drawn[:, group], axis=1)
    at = np.argmax(weight >= quantile * weight[:, -1:], axis=1)
    return np.asarray(samples[order][at])


def estimate(
    samples: Array, refs: Array, passes: Array, away: Array, base: float, rules: dict[str, Any]
) -> dict[str, Any]:
    """The estimate of one network in one process: p25 of the gated samples and its standard error.

    All times in microseconds; `away` is how long another process had the core during each call.
    Where the machine was hardly ever quiet (`noisy`) that time is taken off: a call longer than a
    time slice is then never whole, and what is left of it is nearer to the truth.

    `se` is the within-process term alone (bootstrap over passes); the difference between processes
    is added by the host side. `width` is the relative half-width of its 90 % interval; `p50` to
    `p99` are of the gated samples, `quiet` is the share of all that passed the gate.
    """
    whole = away <= rules["away"] * samples
    keep, quiet = gate(refs, whole, base, rules["gate"], rules["quietest"])
    noisy = quiet < rules["quietest"]
    kept = (samples - away if noisy else samples)[keep]
    draws = bootstrap(kept, passes[keep], rules["quantile"], seed=0)
    low, high = np.quantile(draws, [0.05, 0.95])
    p50, p90, p95, p99 = np.quantile(kept, [0.5, 0.9, 0.95, 0.99])
    value = float(np.quantile(kept, rules["quantile"]))
    return {
        "value": value,
        "se": float(draws.std()),
        "width": float((high - low) / 2 / value),
        "p50": float(p50),
        "p90": float(p90),
        "p95": float(p95),
        "p99": float(p99),
        "kept": int(keep.sum()),
        "n": int(samples.size),
        "passes": int(np.unique(passes[keep]).size),
        "quiet": quiet,
        "noisy": noisy,
    }
