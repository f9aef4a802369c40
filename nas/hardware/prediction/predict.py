"""What a network would take on a device that is not here: kernel by kernel, with its doubt.

Each kernel's term comes from the best that is known of it: its own measured time (`table`), the law
fitted for its class on this device (`table` inside the calibrated shapes), a related class's law
carried over by the bound that limits it (`transfer`), or the datasheet with efficiencies usual for
the class. The terms are summed, or weighed as whole networks measured on the device taught. The
interval follows from what the number rests on, and from held-out networks where enough were
measured.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nas.core.errors import NasError
from nas.core.job import Workload
from nas.core.measurement import Z90, Measurement
from nas.hardware.device import Device, attached
from nas.hardware.prediction.calibration import Calibration, NetworkFit, group_of, peaks_of
from nas.hardware.prediction.calibration import find as find_calibration
from nas.hardware.prediction.kernels import LAST, Form, Kernel, lower
from nas.hardware.prediction.law import Law, Points, upper

# 90 % of networks are within this factor of the prediction, by what it rests on: half-widths seen
# when one device's numbers predicted another's, and when micro-benchmarks predicted networks.
FACTORS = {"datasheet": 2.3, "transfer": 1.9, "table": 1.5, "anchored": 1.4}
FACTOR_TABLE_AND_NETWORKS = 1.15
WIDENED = 1.5  # the factor of what nothing like it was measured of is this much larger
ENOUGH = 9  # residuals from which 90 % can be promised
SHARE = 0.05  # of the time, above which terms outside the calibrated shapes make an extrapolation
COMPILED_US = 5.0  # a compiled graph's launch, where only eager ones were timed
# Forms whose kernels one graph launches.
GRAPHS: tuple[Form, ...] = ("torch compiled", "torch compiled, channels last", "tensorrt")
# Overhead in microseconds (torch eager, onnxruntime), shares of peak operations and bandwidth.
PRIORS: Mapping[str, tuple[float, float, float, float]] = {
    "conv.3x3": (60, 1, 0.75, 0.5), "conv": (60, 1, 0.5, 0.5), "pointwise": (60, 1, 0.55, 0.5),
    "grouped": (60, 1, 0.2, 0.4), "transposed": (60, 1, 0.3, 0.4), "gemm": (52, 1, 0.6, 0.5),
    "bmm": (31, 1, 0.5, 0.4), "depthwise.small": (60, 1, 0.3, 0.4),
    "depthwise.medium": (60, 1, 0.3, 0.4), "depthwise": (60, 1, 0.15, 0.3),
    "norm": (46, 1, 0.5, 0.6), "softmax": (32, 1, 0.5, 0.5), "reduce": (35, 1, 0.5, 0.5),
    "elementwise": (28, 1, 0.5, 0.8), "copy": (28, 1, 1.0, 0.6), "pool": (35, 1, 0.3, 0.5),
    "resize": (35, 1, 0.3, 0.5), "fft": (60, 1, 0.1, 0.4),
}  # fmt: skip
# Shares of the peaks under torch on a processor, where the layout decides the routine: from 15x15
# on oneDNN has one for channels last, and falls back to a general product without (on a Zen 5 core
# of about 256 GFLOP/s: 156 and 4.3).
ON_PROCESSOR: Mapping[str, tuple[float, float]] = {
    "depthwise.large/nhwc": (0.6, 0.4), "depthwise.large/nchw": (0.017, 0.4),
}  # fmt: skip
# Classes that no table and no measured network had: of these the priors are only believed.
UNTRIED = ("depthwise.large", "depthwise.dilated", "depthwise.stripe", "grouped", "transposed",
           "fft", "resize")  # fmt: skip
# Whose law stands in where a class has none.
KIN = {
    "conv.3x3": ("conv.other", "pointwise", "gemm"), "conv": ("conv.3x3", "pointwise", "gemm"),
    "pointwise": ("gemm", "conv.other", "conv.3x3"), "gemm": ("pointwise", "bmm"), "bmm": ("gemm",),
    "norm": ("reduce", "softmax"), "softmax": ("norm",), "reduce": ("norm",),
    "copy": ("elementwise",), "pool": ("elementwise",), "resize": ("elementwise",),
    "grouped": ("conv.other", "conv.3x3"), "depthwise.medium": ("depthwise.small",),
    "depthwise": ("depthwise.medium", "depthwise.large"),
}  # fmt: skip


@dataclass(frozen=True)
class Term:
    """One kernel's part of a prediction.

    `inside` says whether it rests on measurements of its class at shapes like its own, `timed`
    whether this very kernel was timed; `spread` is the logarithm of the factor that 90 % of such
    kernels keep.
    """

    kind: str
    us: float
    basis: str
    inside: bool
    spread: float
    timed: bool = False


@dataclass(frozen=True)
class Forecast:
    """A predicted duration in microseconds, the factor that bounds it at 90 %, and its terms."""

    us: float
    factor: float
    basis: str
    terms: tuple[Term, ...]

    @property
    def outside(self) -> float:
        """Share of the terms' time that rests on no measurement at shapes like its own."""
        total = sum(t.us for t in self.terms)
        return sum(t.us for t in self.terms if not t.inside) / total if total else 0.0


def predict(
    path: Path,
    device: Device,
    workload: Workload | None = None,
    calibration: Calibration | None = None,
    form: Form | None = None,
) -> Measurement:
    """`latency_ms` of an exported file on a device that need not be here.

    Without a calibration the one beside the profiles is used, where there is one. `form` is what
    would run the file: by default that of the device's runtime, so that a device which joins is
    measured in what was predicted of it. A calibration of another form is carried over by the bound
    that limits each kernel; of a runtime without rules of its own (openvino) `record` names the
    form that stands in, and the interval is wider. The basis is `datasheet`, `transfer`, `table`,
    `anchored` or `extrapolated`; `record` has the terms by class, the nearest calibrated shape
    where one is outside, and the operators that no rule covers (then it is extrapolated).

    Raises: NasError where the file cannot be lowered, nothing is known of the device, or its
        runtime computes in a precision that the file does not have; for several callers at once.
    """
    workload = workload or Workload()
    if workload.streams > 1:
        raise NasError(
            f"{device.name} is not attached, and callers at once are not predicted",
            "leave :s out, or name a device that is here: nas devices",
        )
    calibration = calibration or find_calibration(device)
    chosen = form or form_of(device)
    native = device.kind == "cpu" and device.address is None and attached(device)
    network = lower(path, chosen, workload, native=native)
    found = forecast(network.kernels, device, calibration, chosen)
    if network.unknown:
        found = replace(found, basis="extrapolated", factor=found.factor * WIDENED)
    other = device.engine.name == "openvino" and form is None
    if other and not _fit(calibration, chosen):  # onnxruntime's kernels stand in for its own
        found = replace(found, factor=found.factor * WIDENED)
    value = found.us / 1e3
    record = {
        "form": f"{chosen}, for {device.engine}" if other else chosen,
        "device": device.name,
        "workload": workload.name,
        "batch": workload.batch,
        "terms": _by_kind(network.kernels, found.terms, calibration, chosen),
        "kernels": len(network.kernels),
        "views": network.views,
        "uncounted": dict(network.unknown),
        "outside": round(found.outside, 4),
        "factor": round(found.factor, 4),
        "shared": round(_shared(found.factor), 4),
        "calibration": calibration.source if calibration else None,
        "unverified": list(device.unverified),
    }
    low, high = value / found.factor, value * found.factor
    se = value * math.log(found.factor) / Z90
    n = calibration.networks.n if calibration and calibration.networks else 0
    return Measurement(
        "latency_ms", value, "ms", low, high, se, n, "predicted", found.basis, record
    )


def predictable(device: Device) -> None:
    """Raises NasError where no latency of the device can be predicted, with what is lacking."""
    form_of(device)
    peaks_of(device, find_calibration(device))


def form_of(device: Device) -> Form:
    """The form in which a device's runtime runs a network; of others, the nearest to it.

    Raises: NasError where the runtime computes in another precision than files are read in.
    """
    engine = device.engine
    if engine.precision != "float32":
        raise NasError(
            f"'{engine}' on {device.name} can only be measured: predictions are of float32, "
            f"and {device.name} is not attached",
            "leave the precision out of --runtime",
        )
    if engine.name in ("onnxruntime", "openvino"):
        return "onnxruntime"
    if engine.name == "tensorrt":
        return "tensorrt"
    last = engine.layout == "channels_last"
    if {"compiled", "graphs"} & {*engine.options}:
        return "torch compiled, channels last" if last else "torch compiled"
    return "torch eager, channels last" if last else "torch eager"


def predict_kernels(
    path: Path, device: Device, workload: Workload | None = None
) -> list[tuple[Kernel, Term]]:
    """Each kernel that an exported file becomes on a device, and its part of the prediction.

    Raises: NasError as `predict`.
    """
    chosen = form_of(device)
    kernels = lower(path, chosen, workload or Workload(), native=False).kernels
    terms = terms_of(kernels, device, find_calibration(device), chosen)
    return list(zip(kernels, terms, strict=True))


def forecast(
    kernels: Sequence[Kernel],
    device: Device,
    calibration: Calibration | None = None,
    form: Form | None = None,
) -> Forecast:
    """The duration of a network known as its kernels."""
    form = form or (calibration.form if calibration else form_of(device))
    terms = terms_of(kernels, device, calibration, form)
    parts: defaultdict[str, float] = defaultdict(float)
    for kernel, term in zip(kernels, terms, strict=True):
        parts[group_of(kernel.family)] += term.us
    fit = _fit(calibration, form)
    weights = sum(k.bytes_weights for k in kernels) / 1e6
    us = fit.us(parts, len(terms), weights) if fit else float(sum(parts.values()))
    basis, factor = _doubt(terms, fit)
    return Forecast(us, factor, basis, tuple(terms))


def _fit(calibration: Calibration | None, form: Form) -> NetworkFit | None:
    """What whole networks taught, where they ran in this form."""
    return calibration.networks if calibration and calibration.whole == form else None


def terms_of(
    kernels: Sequence[Kernel], device: Device, calibration: Calibration | None, form: Form
) -> list[Term]:
    """Each kernel's term, in order; kernels of one class are worked out together."""
    places: dict[str, list[int]] = {}
    for place, kernel in enumerate(kernels):
        places.setdefault(kernel.kind, []).append(place)
    found: dict[int, Term] = {}
    table = calibration.table if calibration else {}
    for kind, members in places.items():
        missing = [i for i in members if kernels[i].signature not in table]
        for i in members:
            us = table.get(kernels[i].signature)
            if us is not None:
                found[i] = Term(kind, us, "table", True, math.log(FACTOR_TABLE_AND_NETWORKS), True)
        if missing:
            part = [kernels[i] for i in missing]
            worked = _by_law(part, device, calibration, form)
            found.update(zip(missing, worked, strict=True))
    return [found[i] for i in range(len(kernels))]


def points_of(kernels: Sequence[Kernel]) -> Points:
    """Kernels of one class as columns."""
    names = kernels[0].sizes
    return Points(
        {name: np.array([k.sizes[name] for k in kernels], dtype=float) for name in names},
        np.array([k.flops for k in kernels], dtype=float),
        np.array([k.bytes for k in kernels], dtype=float),
    )


def _by_law(
    kernels: Sequence[Kernel], device: Device, calibration: Calibration | None, form: Form
) -> list[Term]:
    """Terms of kernels of one class that no table has."""
    kind = kernels[0].kind
    peaks = peaks_of(device, calibration, kernels[0].dtype)
    points = points_of(kernels)
    law, basis = law_for(kernels[0], calibration, form, device.kind == "cuda")
    carried = calibration is not None and _launch(calibration.form) != _launch(form)
    bound = peaks.roofline(points.flops, points.moved, law.compute, law.memory)
    # What was learnt beside the bound is of the class itself, not of those that borrow its law.
    learnt = law.correction(points, peaks) if basis == "table" else 1.0
    if carried and form in GRAPHS:
        us = COMPILED_US + bound * learnt
    else:
        us = (law.overhead_us + bound) * learnt
    if carried and basis == "table":
        basis = "transfer"
    inside = law.inside(points) if basis == "table" else np.zeros(len(points), dtype=bool)
    fit = _fit(calibration, form)
    known = inside | fit.hulls[kind].holds(points) if fit and kind in fit.hulls else inside
    near, far = _spreads(law, basis, kernels[0])
    return [
        Term(kind, float(t), basis, bool(k), near if k else far)
        for t, k in zip(us, known, strict=True)
    ]


def _launch(form: Form) -> str:
    """A form without its layout, which the class of a kernel tells."""
    return form.removesuffix(LAST)


def _spreads(law: Law, basis: str, kernel: Kernel) -> tuple[float, float]:
    """What bounds a term at 90 %, as a logarithm: at shapes like those measured, and elsewhere.

    A borrowed law is doubted no more than the datasheet: to know something is not to know less.
    """
    wider = math.log(WIDENED)
    if basis == "table":
        return law.spread, law.spread + wider
    believed = kernel.family in UNTRIED or kernel.dtype != "fp32"
    near, most = math.log(FACTORS[basis]), math.log(FACTORS["datasheet"])
    return near, min(near + wider, most + (wider if believed else 0))


def law_for(
    kernel: Kernel, calibration: Calibration | None, form: Form, gpu: bool
) -> tuple[Law, str]:
    """The law to use for a kernel, and what it rests on."""
    laws = calibration.laws if calibration else {}
    family, rest = kernel.family, f"/{kernel.dtype}/{kernel.layout}"
    broad = family.partition(".")[0]
    for name in (family, broad):
        if name + rest in laws:
            return laws[name + rest], "table"
    if not gpu and form.startswith("torch") and f"{family}/{kernel.layout}" in ON_PROCESSOR:
        return _prior(kernel, form, laws, gpu), "datasheet"  # unlike its kin and other layouts
    kin = (*KIN.get(family, ()), *KIN.get(broad, ()))
    for name in kin:
        if name + rest in laws:
            return laws[name + rest], "transfer"
    for name in (family, broad, *kin):  # another type or layout, by the bound that limits it
        for kind, law in laws.items():
            if kind.startswith(name + "/"):
                return law, "transfer"
    return _prior(kernel, form, laws, gpu), "datasheet"


def _prior(kernel: Kernel, form: Form, laws: Mapping[str, Law], gpu: bool) -> Law:
    """Efficiencies usual for a class, with what an empty kernel takes on this host if known."""
    family, broad = kernel.family, kernel.family.partition(".")[0]
    eager, native, compute, memory = PRIORS.get(family) or PRIORS[broad]
    if form == "onnxruntime":
        overhead = native
    elif not gpu:
        overhead = 18.0
        shares = ON_PROCESSOR.get(f"{family}/{kernel.layout}")
        compute, memory = shares or (compute, memory)
    else:
        overhead = COMPILED_US if form in GRAPHS else eager
    known = [law.overhead_us for law in laws.values()]
    if known and _launch(form) == "torch eager":
        overhead = float(np.median(known))
    spread = math.log(FACTORS["datasheet"])
    return Law(overhead, compute, memory, (), (), (), (), None, spread, 0)


def _doubt(terms: Sequence[Term], fit: NetworkFit | None) -> tuple[str, float]:
    """What a network's prediction rests on, and the factor that bounds it at 90 %."""
    total = sum(t.us for t in terms) or 1.0
    alone = math.exp(sum(t.us * t.spread for t in terms) / total)
    shares: defaultdict[str, float] = defaultdict(float)
    for term in terms:
        shares[term.basis] += term.us / total
    outside = sum(t.us for t in terms if not t.inside) / total
    timed = sum(t.us for t in terms if t.timed) / total >= 1 - SHARE
    if fit is not None:
        basis = "table" if timed else "anchored"
        factor = FACTOR_TABLE_AND_NETWORKS if timed else FACTORS["anchored"]
        residuals = fit.residuals if timed else fit.law_residuals
        if residuals:  # too few promise no 90 %, but a network this far off is likely again
            missed = math.exp(upper(residuals))
            factor = missed if len(residuals) >= ENOUGH else max(factor, missed)
    elif not terms or shares["datasheet"] >= 1 - SHARE:
        return "datasheet", max(alone, FACTORS["datasheet"])
    else:
        most = max(shares, key=lambda basis: (shares[basis], basis))
        basis = "table" if shares["table"] >= 1 - SHARE else most
        least = FACTORS["transfer" if outside > SHARE else "table"]
        factor = alone if len(terms) == 1 else max(alone, least)
    if outside > SHARE:
        return "extrapolated", factor * WIDENED if fit is not None else factor
    return basis, factor


def _shared(factor: float) -> float:
    """Standard error of a prediction's logarithm that all predictions of a device have alike.

    It is what measuring a few networks there takes away: the doubt beyond an anchored prediction.
    """
    whole, own = math.log(factor) / Z90, math.log(FACTORS["anchored"]) / Z90
    return math.sqrt(max(0.0, whole**2 - own**2))


def _by_kind(
    kernels: Sequence[Kernel], terms: Sequence[Term], calibration: Calibration | None, form: Form
) -> list[dict[str, Any]]:
    """The terms of each class added up, the largest first.

    Where some are outside the calibrated shapes, the largest of those is shown with the nearest.
    """
    kinds: dict[str, list[int]] = {}
    for place, term in enumerate(terms):
        kinds.setdefault(term.kind, []).append(place)
    rows = []
    for kind, members in sorted(kinds.items(), key=lambda k: -sum(terms[i].us for i in k[1])):
        row: dict[str, Any] = {
            "kind": kind,
            "n": len(members),
            "us": round(sum(terms[i].us for i in members), 6),
            "basis": sorted({terms[i].basis for i in members}),
            "inside": sum(terms[i].inside for i in members),
        }
        outside = [i for i in members if not terms[i].inside]
        if outside:
            worst = kernels[max(outside, key=lambda i: terms[i].us)]
            hull = law_for(worst, calibration, form, True)[0].hull
            nearest, apart = hull.nearest(points_of([worst])) if hull else ({}, 0.0)
            row["outside"] = dict(worst.sizes)
            if nearest:
                row |= {"nearest": nearest, "apart": round(apart, 3)}
        rows.append(row)
    return rows
