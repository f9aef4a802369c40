"""From measurements to a calibration: laws from single kernels, a fit on whole networks.

What is measured next is what the predictions know least: kernels by their share of the time and
the doubt of their class, networks by their spread in predicted latency and in what they consist of.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nas.core.errors import NasError
from nas.hardware.device import Device
from nas.hardware.prediction.calibration import GROUPS, Calibration, NetworkFit, group_of, peaks_of
from nas.hardware.prediction.kernels import Kernel, Lowered
from nas.hardware.prediction.law import (
    MANY,
    Array,
    Hull,
    Index,
    Law,
    Peaks,
    Points,
    adjusted,
    fit,
)
from nas.hardware.prediction.microbench import distinct
from nas.hardware.prediction.predict import forecast, points_of, terms_of

NAMES = tuple(dict.fromkeys(GROUPS.values()))
STRENGTHS = (0.01, 0.1, 1.0, 10.0)
LEAST = 0.3  # the least factor of a group, of the common one
RESIDENT = (8.0, 1.0, 4.0, 16.0, 32.0)  # megabytes of weights that stay cached; the usual first
FEWEST = 3  # kernels of a class that make a law, networks that make a fit
UNLIKE = 3  # of the networks to measure, how many are chosen for being unlike the others


def fit_laws(kernels: Sequence[Kernel], us: Sequence[float], peaks: Peaks) -> dict[str, Law]:
    """The law of each class with three kernels or more, and of each whole family pooled.

    A whole family (`elementwise/fp32/nchw`) speaks for those of its classes that were too rare.
    """
    return {kind: fit(points, peaks) for kind, points in _classes(kernels, us).items()}


def add_laws(
    known: Mapping[str, Law], kernels: Sequence[Kernel], us: Sequence[float], peaks: Peaks
) -> dict[str, Law]:
    """The laws of the classes that more kernels were measured of, beside what is known of them.

    A law gives way to a new one only where that rests on as many kernels, or on many, and on shapes
    as far apart: three small products must not speak for large ones in the place of thousands. By
    fewer it is adjusted. The peaks are those that the known laws were fitted against.
    """
    laws = {}
    for kind, points in _classes(kernels, us).items():
        new, old = fit(points, peaks), known.get(kind)
        laws[kind] = new if old is None or _replaces(new, old) else adjusted(old, points, peaks)
    return laws


def _replaces(new: Law, old: Law) -> bool:
    wide = old.hull is None or (new.hull is not None and new.hull.covers(old.hull))
    return wide and new.n >= min(old.n, MANY)


def _classes(kernels: Sequence[Kernel], us: Sequence[float]) -> dict[str, Points]:
    """The measured kernels of each class that has enough for a law, and of whole families."""
    classes: defaultdict[str, list[int]] = defaultdict(list)
    for i, kernel in enumerate(kernels):
        classes[kernel.kind].append(i)
        broad = kernel.family.partition(".")[0]
        if broad in ("elementwise", "reduce", "copy"):
            classes[f"{broad}/{kernel.dtype}/{kernel.layout}"].append(i)
    times = np.array(us, dtype=float)
    return {
        kind: replace(points_of([kernels[i] for i in members]), us=times[members])
        for kind, members in classes.items()
        if len(members) >= FEWEST
    }


# --- whole networks ----------------------------------------------------------------------------


def fit_networks(
    calibration: Calibration,
    device: Device,
    networks: Sequence[Sequence[Kernel]],
    latencies_ms: Sequence[float],
    unlike: int = 0,
) -> Calibration:
    """The calibration with what whole networks of known latency add. Raises: NasError below three.

    How strongly the fit is held to what is known of single kernels, and how many weights stay
    cached, is chosen by leaving one network out. The residuals that bound later predictions are
    those of networks left out of all of this; the first `unlike` networks, chosen for being
    unusual, give none.
    """
    if len(networks) < FEWEST:
        raise NasError(
            f"{len(networks)} measured networks are too few to fit", f"measure {FEWEST} or more"
        )
    us = 1e3 * np.array(latencies_ms, dtype=float)
    seen = _Seen.of(networks, device, replace(calibration, networks=None))
    rules = _best(seen, us)
    found = _solve(seen, us, rules)
    groups, first = len(NAMES), unlike if len(us) - unlike >= FEWEST else 0
    strange = seen if not calibration.table else _Seen.untimed(networks, device, calibration)
    residuals, law_residuals = _left_out(seen, strange, us, first)
    fitted = NetworkFit(
        scales={name: round(float(x), 5) for name, x in zip(NAMES, found, strict=False)},
        per_kernel_us=round(float(found[groups]), 5),
        fixed_us=round(float(found[groups + 2]), 4),
        resident_mb=rules[1],
        cold_us=round(float(found[groups + 1]), 5),
        residuals=residuals,
        law_residuals=law_residuals,
        n=len(us),
        hulls=_hulls([kernel for kernels in networks for kernel in kernels]),
    )
    return replace(calibration, networks=fitted)


def _hulls(kernels: Sequence[Kernel]) -> dict[str, Hull]:
    """The shapes of each class."""
    kinds: defaultdict[str, dict[str, Kernel]] = defaultdict(dict)
    for kernel in kernels:
        kinds[kernel.kind][kernel.signature] = kernel
    return {k: Hull.of(points_of(list(found.values()))) for k, found in sorted(kinds.items())}


@dataclass(frozen=True)
class _Seen:
    """Networks as rows: terms by group (microseconds), kernels, megabytes of weights.

    `alone_us` is what a kernel timed alone takes besides its work, `cold_us` what a megabyte of
    weights takes from memory: where the kernels have a table, both are expected of networks.
    """

    terms: Array
    kernels: Array
    weights: Array
    alone_us: float
    cold_us: float

    @classmethod
    def of(
        cls, networks: Sequence[Sequence[Kernel]], device: Device, calibration: Calibration
    ) -> _Seen:
        table = calibration.table
        rows = [_groups(kernels, device, calibration) for kernels in networks]
        return cls(
            np.array(rows),
            np.array([len(kernels) for kernels in networks], dtype=float),
            np.array([sum(k.bytes_weights for k in kernels) / 1e6 for kernels in networks]),
            float(np.quantile(list(table.values()), 0.02)) if table else 0.0,
            1e3 / calibration.peaks.gbs if table else 0.0,
        )

    @classmethod
    def untimed(
        cls, networks: Sequence[Sequence[Kernel]], device: Device, calibration: Calibration
    ) -> _Seen:
        """The same, each network without the times of kernels that no other network has."""
        plain = replace(calibration, networks=None)
        shared = Counter(s for kernels in networks for s in {k.signature for k in kernels})
        rows = []
        for kernels in networks:
            own = {k.signature for k in kernels if shared[k.signature] == 1}
            others = {s: t for s, t in plain.table.items() if s not in own}
            rows.append(_groups(kernels, device, replace(plain, table=others)))
        return replace(cls.of(networks, device, plain), terms=np.array(rows))

    def take(self, index: Index) -> _Seen:
        return replace(
            self, terms=self.terms[index], kernels=self.kernels[index], weights=self.weights[index]
        )

    def columns(self, resident: float) -> Array:
        """What the unknowns are multiplied with, a row for each network."""
        cold = np.maximum(0, self.weights - resident)
        return np.column_stack([self.terms, self.kernels, cold, np.ones(len(cold))])


def _groups(kernels: Sequence[Kernel], device: Device, calibration: Calibration) -> list[float]:
    sums = dict.fromkeys(NAMES, 0.0)
    terms = terms_of(kernels, device, calibration, calibration.whole)
    for kernel, term in zip(kernels, terms, strict=True):
        sums[group_of(kernel.family)] += term.us
    return [sums[name] for name in NAMES]


def _left_out(
    seen: _Seen, strange: _Seen, us: Array, first: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """|log(measured / predicted)| of each network from `first` on, by a fit of all the others.

    The others are as `seen`; the network itself is so in the first residuals, in the second ones
    as in `strange`.
    """
    found: tuple[list[float], list[float]] = ([], [])
    for i in range(first, len(us)):
        rest = np.delete(np.arange(len(us)), i)
        part = seen.take(rest)
        rules = _best(part, us[rest]) if len(rest) >= FEWEST else (STRENGTHS[-1], RESIDENT[0])
        solved = _solve(part, us[rest], rules)
        for asked, residuals in zip((seen, strange), found, strict=True):
            value = float(asked.columns(rules[1])[i] @ solved)
            value = max(value, 0.1 * float(asked.terms[i].sum()))
            residuals.append(round(abs(float(np.log(us[i] / value))), 5))
    return tuple(found[0]), tuple(found[1])


def _best(seen: _Seen, us: Array) -> tuple[float, float]:
    """Strength and cached megabytes whose predictions of networks left out are best."""
    best, chosen = np.inf, (STRENGTHS[-1], RESIDENT[0])
    for resident in RESIDENT if len(us) >= 6 else RESIDENT[:1]:
        for strength in STRENGTHS:
            ridge = _Ridge.of(seen, us, (strength, resident))
            missed = float(np.abs(np.log(np.maximum(ridge.left_out(), 1e-3))).mean())
            if missed < best and ridge.sound():
                best, chosen = missed, (strength, resident)
    return chosen


@dataclass(frozen=True)
class _Ridge:
    """A fit in least relative squares, held to what is expected.

    Expected are one factor for all groups, kernels without the call they were timed with, cold
    weights at the speed of the memory, no constant. `rows` are the networks over their latency in
    natural units of the unknowns: the common factor, departures of the groups, the three costs.
    """

    rows: Array
    pull: Array
    expected: Array
    units: Array

    @classmethod
    def of(cls, seen: _Seen, us: Array, rules: tuple[float, float]) -> _Ridge:
        strength, resident = rules
        groups, total = seen.terms.shape[1], seen.terms.sum(axis=1)
        each = float(total.sum() / seen.kernels.sum())
        units = np.array([1.0, *[1.0] * groups, each, max(seen.cold_us, 1.0), float(us.min())])
        basis = np.column_stack([total, seen.columns(resident)]) * units
        expected = np.zeros(len(units))
        expected[groups + 1] = -seen.alone_us / each
        expected[groups + 2] = seen.cold_us / units[groups + 2]
        known = basis[:, groups + 1 :] @ expected[groups + 1 :]
        expected[0] = max(0.05, float(np.median((us - known) / total)))
        constant = strength if len(us) >= 8 else 1e3
        cold = 0.1 * strength if seen.cold_us else 1e3
        pull = np.array([1e-4, *[strength] * groups, 0.1 * strength, cold, constant])
        return cls(basis / us[:, None], pull, expected, units)

    def solve(self) -> Array:
        """The unknowns in natural units."""
        rows, missed = self.rows, 1 - self.rows @ self.expected
        step = np.linalg.solve(rows.T @ rows + np.diag(self.pull), rows.T @ missed)
        return np.asarray(self.expected + step)

    def sound(self) -> bool:
        """Whether no group comes out (nearly) free."""
        found, groups = self.solve(), len(self.units) - 4
        factors = found[0] + found[1 : groups + 1]
        return bool((factors >= LEAST * self.expected[0]).all())

    def left_out(self) -> Array:
        """Predicted over measured for each network, by the fit of the others (in closed form)."""
        inverse = np.linalg.inv(self.rows.T @ self.rows + np.diag(self.pull))
        leverage = np.einsum("ij,jk,ik->i", self.rows, inverse, self.rows)
        return np.asarray(1 - (1 - self.rows @ self.solve()) / np.maximum(1 - leverage, 1e-6))


def _solve(seen: _Seen, us: Array, rules: tuple[float, float]) -> Array:
    """Factors of the groups, microseconds a kernel, a cold megabyte and a call.

    No group may come out (nearly) free: the fit is held more firmly until none does.
    """
    strength, resident = rules
    groups = seen.terms.shape[1]
    while True:
        ridge = _Ridge.of(seen, us, (strength, resident))
        found = ridge.solve() * ridge.units
        factors = found[0] + found[1 : groups + 1]
        if strength > 1e6 or (factors >= LEAST * ridge.expected[0]).all():
            break
        strength *= 10
    return np.array([*np.maximum(factors, LEAST * ridge.expected[0]), *found[groups + 1 :]])


# --- what to measure next ----------------------------------------------------------------------


def choose_networks(
    networks: Sequence[Sequence[Kernel]],
    device: Device,
    calibration: Calibration | None,
    count: int,
    seed: int = 0,
) -> list[int]:
    """Places of the networks to measure: first the most unlike, then a fair sample.

    The first three are the fastest, the slowest and the farthest from both, in predicted log
    latency and in the shares of the groups: they hold the fit. The others are drawn at random, one
    from each of as many bands of predicted latency, in random order: only a fair sample says how
    far predictions of networks of this kind are off.
    """
    table = _described(networks, device, calibration)
    chosen = list(dict.fromkeys([int(table[:, 0].argmin()), int(table[:, 0].argmax())]))
    while len(chosen) < min(count, UNLIKE, len(networks)):
        apart = np.linalg.norm(table[:, None] - table[None, chosen], axis=2).min(axis=1)
        chosen.append(int(apart.argmax()))
    rest = [int(i) for i in np.argsort(table[:, 0]) if i not in chosen]
    wanted = min(count - len(chosen), len(rest))
    rng = np.random.default_rng(seed)
    bands = np.array_split(np.array(rest, dtype=int), wanted) if wanted > 0 else []
    drawn = [int(rng.choice(band)) for band in bands]
    return chosen[:count] + [drawn[i] for i in rng.permutation(len(drawn))]


def _described(
    networks: Sequence[Sequence[Kernel]], device: Device, calibration: Calibration | None
) -> Array:
    """Predicted log latency of each network, and the shares of the groups in it."""
    rows = []
    for kernels in networks:
        found = forecast(kernels, device, calibration)
        shares = dict.fromkeys(NAMES, 0.0)
        for kernel, term in zip(kernels, found.terms, strict=True):
            shares[group_of(kernel.family)] += term.us
        total = sum(shares.values()) or 1.0
        rows.append([np.log(total), *(3 * s / total for s in shares.values())])
    return np.array(rows)


def choose_kernels(
    networks: Sequence[Lowered],
    device: Device,
    calibration: Calibration,
    share: float = 0.97,
    most: int | None = None,
) -> dict[str, tuple[Lowered, int]]:
    """Kernels without a time of their own that decide most of the doubt: share of time x spread.

    As many as leave `1 - share` of the summed doubt of the networks, at most `most`.
    """
    weight: defaultdict[str, float] = defaultdict(float)
    for network in networks:
        terms = terms_of(network.kernels, device, calibration, calibration.form)
        total = sum(t.us for t in terms) or 1.0
        for kernel, term in zip(network.kernels, terms, strict=True):
            weight[kernel.signature] += term.us * term.spread / total
    ordered = sorted(weight, key=lambda s: -weight[s])
    reached = np.cumsum([weight[s] for s in ordered]) / (sum(weight.values()) or 1.0)
    enough = int(np.searchsorted(reached, share)) + 1
    known = calibration.table
    found = distinct(networks)
    wanted = [s for s in ordered[:enough] if s not in known][:most]
    return {signature: found[signature] for signature in wanted}


def first_kernels(networks: Sequence[Lowered], each: int = 8) -> dict[str, tuple[Lowered, int]]:
    """A few kernels of every class, far from each other in size: what a first law needs."""
    found = distinct(networks)
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for signature, (network, place) in found.items():
        kinds[network.kernels[place].kind].append(signature)
    chosen = {}
    for members in kinds.values():
        points = points_of([found[s][0].kernels[found[s][1]] for s in members])
        logs = np.column_stack([points.logs, np.log(points.moved)])
        picked = [int(logs[:, -1].argmin()), int(logs[:, -1].argmax())]
        while len(picked) < min(each, len(members)):
            apart = np.abs(logs[:, None] - logs[None, picked]).max(axis=2).min(axis=1)
            picked.append(int(apart.argmax()))
        chosen.update({members[i]: found[members[i]] for i in dict.fromkeys(picked)})
    return chosen


def with_times(
    calibration: Calibration,
    device: Device,
    kernels: Mapping[str, Kernel],
    times: Mapping[str, float],
) -> Calibration:
    """The calibration with the times of single kernels in its table, and its laws fitted anew."""
    table = {**calibration.table, **times}
    known = [kernels[s] for s in table if s in kernels]
    peaks = peaks_of(device, calibration)
    laws = fit_laws(known, [table[k.signature] for k in known], peaks)
    rounded = {signature: float(f"{us:.5g}") for signature, us in table.items()}
    return replace(calibration, laws={**calibration.laws, **laws}, table=rounded)
