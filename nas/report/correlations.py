"""How well proxies, sizes and short trainings rank what a study trained to the end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from nas.core.measurement import Z90
from nas.core.study import StudySpec
from nas.core.trial import Trial

Array = npt.NDArray[np.float64]
FEWEST = 5  # pairs of fewer networks say nothing
SIZES = ("params", "macs")
AZ_NAS = ("az_expressivity", "az_progressivity", "az_trainability", "macs")


@dataclass(frozen=True)
class Correlation:
    """Kendall's tau-b of n pairs, and where the true one lies with 90 %."""

    tau: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, float]:
        """The plain data that is printed."""
        return dict(vars(self))


def correlation(x: Array, y: Array, sizes: Array | None = None) -> Correlation | None:
    """The rank correlation of two columns `(N,)`, and what is left of it beside `sizes` `(N, S)`.

    With `sizes`, of what each column is beyond them (`residuals`). Only the order of values counts
    anywhere, so a logarithm changes nothing. The interval is that of tau as a U-statistic, its
    variance estimated without assumptions (Daniels and Kendall 1947; Samara and Randles 1988),
    on Fisher's scale. None where there are too few pairs, or a column says nothing.

    >>> found = correlation(np.arange(9.0), np.array([1.0, 2, 3, 5, 4, 6, 7, 9, 8]))
    >>> round(found.tau, 3), found.n
    (0.889, 9)
    """
    lost = 0 if sizes is None else sizes.shape[1]
    n = len(x)
    if n - lost < FEWEST:
        return None
    if sizes is not None:
        x, y = residuals(x, sizes), residuals(y, sizes)
    one, two = (np.sign(np.subtract.outer(v, v)) for v in (x, y))
    untied = [float((s != 0).sum()) for s in (one, two)]
    if min(untied) == 0:
        return None
    agreed = one * two
    tau = float(agreed.sum()) / math.sqrt(untied[0] * untied[1])
    spread = float(agreed.sum(1).var(ddof=0)) * n  # of each network's share in tau
    m = n - lost
    variance = 2 / (m * (m - 1)) * (2 * (m - 2) / (m * (m - 1) ** 2) * spread + 1 - tau**2)
    if abs(tau) > 1 - 1e-12:
        # All agree. Disjoint pairs are independent: had they agreed with less than this chance,
        # all would not have done so in one case of twenty.
        worst = 2 * 0.05 ** (1 / (m // 2)) - 1
        return Correlation(tau, worst if tau > 0 else -1.0, 1.0 if tau > 0 else -worst, n)
    width = Z90 * math.sqrt(variance) / (1 - tau**2)
    low, high = (math.tanh(math.atanh(tau) + sign * width) for sign in (-1, 1))
    return Correlation(tau, low, high, n)


def residuals(values: Array, sizes: Array) -> Array:
    """What the ranks of values are beyond those of sizes: normal scores, the linear part taken off.

    Exactly zero where a column is one of the sizes itself. Ranks are taken of the networks at hand,
    so of two columns that only share their size a little stays shared (tau 0.12 of 0.73
    with 40 networks that differ in little else). `(N,)` and `(N, S)` to `(N,)`.
    """
    explained = np.column_stack([np.ones(len(values)), *(_scores(s) for s in sizes.T)])
    scored = _scores(values)
    fitted, *_ = np.linalg.lstsq(explained, scored, rcond=None)
    rest: Array = scored - explained @ fitted
    return np.where(np.abs(rest) < 1e-9, 0.0, rest)


def _scores(values: Array) -> Array:
    """Normal scores of ranks, equal values sharing the mean of theirs (van der Waerden)."""
    less = (values[:, None] > values[None, :]).sum(1)
    same = (values[:, None] == values[None, :]).sum(1)
    found: Array = ndtri((less + 0.5 * (same + 1)) / (len(values) + 1))
    return found


def correlations_document(spec: StudySpec, trials: Sequence[Trial]) -> dict[str, Any]:
    """How well each size, proxy and rung ranks the final score of the study's networks.

    The final score is that on the images which the search never ranked on. Only networks trained to
    the end have one: those a promotion rule stopped are not among them, so what their rungs and
    proxies said of them is not judged.

    Returns: `study`, `score`, `trained` (how many networks), and `rows`, each with `name`, `kind`
    (`size`, `proxy` or `rung`), `n`, `tau`, `low`, `high`, and under `beyond_size` the same after
    parameters and MACs are taken off, or None; likewise None where too few networks have the value.
    """
    finished = _finished(trials)
    sign = 1.0 if spec.task.goal == "maximize" else -1.0
    final = {t.number: sign * float(np.mean([r.confirm for r in t.trained])) for t in finished}
    rows = []
    for name, kind, values in _columns(finished, sign):
        rows.append({"name": name, "kind": kind, **_row(values, final, finished)})
    return {
        "study": spec.name,
        "score": spec.task.score_name,
        "trained": len(finished),
        "rows": rows,
    }


def _finished(trials: Sequence[Trial]) -> list[Trial]:
    """The networks trained to the end, each once."""
    found: dict[str, Trial] = {}
    for trial in trials:
        if trial.trained and not trial.reused:
            found.setdefault(trial.key, trial)
    return list(found.values())


def _columns(trials: Sequence[Trial], sign: float) -> Iterator[tuple[str, str, dict[int, float]]]:
    """Each indicator: its name, its kind, and what it says of which trials."""
    for name in SIZES:
        yield name, "size", {t.number: t.costs[name] for t in trials if name in t.costs}
    for name in dict.fromkeys(n for t in trials for n in sorted(t.proxies)):
        yield name, "proxy", {t.number: t.proxies[name] for t in trials if name in t.proxies}
    if joined := az_nas(trials):
        yield "az_nas", "proxy", joined
    for epochs in sorted({r.epochs for t in trials for r in t.rungs if not r.repeat}):
        yield (
            f"{epochs} epoch" + "s" * (epochs > 1),
            "rung",
            {
                t.number: sign * r.score
                for t in trials
                for r in t.rungs
                if r.epochs == epochs and not r.repeat
            },
        )


def az_nas(trials: Sequence[Trial]) -> dict[int, float]:
    """The sum of log(rank / N) over AZ-NAS's four parts, among these trials (Lee and Ham 2024)."""
    known = [{**t.proxies, **t.costs} for t in trials]
    whole = [i for i, values in enumerate(known) if all(n in values for n in AZ_NAS)]
    total = np.zeros(len(whole))
    for name in AZ_NAS:
        column = np.array([known[i][name] for i in whole])
        total += np.log([(column <= v).sum() / len(column) for v in column])
    return {trials[i].number: float(v) for i, v in zip(whole, total, strict=True)}


def _row(
    values: Mapping[int, float], final: Mapping[int, float], trials: Sequence[Trial]
) -> dict[str, Any]:
    shown = [t for t in trials if t.number in values]
    x = np.array([values[t.number] for t in shown])
    y = np.array([final[t.number] for t in shown])
    raw = correlation(x, y)
    sized = [i for i, t in enumerate(shown) if all(n in t.costs for n in SIZES)]
    sizes = np.array([[shown[i].costs[n] for n in SIZES] for i in sized]).reshape(-1, len(SIZES))
    beyond = correlation(x[sized], y[sized], sizes)
    plain = {"tau": None, "low": None, "high": None, "n": len(shown)}
    return {
        **(plain if raw is None else raw.to_json()),
        "beyond_size": None if beyond is None else beyond.to_json(),
    }
