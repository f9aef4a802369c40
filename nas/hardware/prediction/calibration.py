"""What measurements taught about a device, as data: laws by class, a table, a fit on networks.

A calibration is a JSON file `calibrations/NAME.json` beside the device profiles, the working folder
first. It says what it was fitted on and for which form; `nas calibrate` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.catalog import DEVICES, folders
from nas.core.errors import NasError
from nas.hardware.device import Device, host_id
from nas.hardware.prediction.law import Hull, Law, Peaks

if TYPE_CHECKING:  # devices are listed without onnx
    from nas.hardware.prediction.kernels import Form

FOLDER = "calibrations"
RATES = {"fp16": "fp16_tflops", "bf16": "bf16_tflops", "int8": "int8_tops"}
# What the classes have in common when whole networks are fitted.
GROUPS = {
    "conv": "dense", "pointwise": "dense", "gemm": "dense", "bmm": "dense", "grouped": "dense",
    "transposed": "dense", "depthwise": "depthwise", "elementwise": "elementwise",
    "norm": "reducing", "softmax": "reducing", "reduce": "reducing", "fft": "reducing",
    "copy": "moving", "pool": "moving", "resize": "moving",
}  # fmt: skip


@dataclass(frozen=True)
class NetworkFit:
    """What whole networks added to their kernels.

    A factor for each group of terms; a cost for each kernel (negative where kernels were timed
    alone, each with a call of the runtime); a cost for each megabyte of weights beyond those that
    stay in the caches from one call to the next (a kernel timed alone finds its weights there).

    Args:
        scales: factors by group.
        per_kernel_us, fixed_us: added for each kernel, and for each call.
        resident_mb, cold_us: weights that stay cached, and microseconds for each megabyte more.
        residuals: logarithms |measured / predicted| of networks left out of their own fit.
        law_residuals: the same where, besides, no kernel of the network's own had been timed.
        n: networks measured.
        hulls: the shapes of each class that those networks contained.
    """

    scales: Mapping[str, float]
    per_kernel_us: float
    fixed_us: float
    resident_mb: float
    cold_us: float
    residuals: tuple[float, ...]
    law_residuals: tuple[float, ...]
    n: int
    hulls: Mapping[str, Hull] = field(default_factory=dict)

    def us(self, terms: Mapping[str, float], kernels: int, weights_mb: float) -> float:
        """Microseconds of a network from its terms summed by group, its kernels, its weights."""
        scaled = sum(self.scales.get(group, 1.0) * us for group, us in terms.items())
        cold = self.cold_us * max(0.0, weights_mb - self.resident_mb)
        return max(scaled + self.per_kernel_us * kernels + self.fixed_us + cold, 0.1 * scaled)


@dataclass(frozen=True)
class Calibration:
    """Everything fitted for one device and one form.

    Args:
        devices: the profiles it holds for.
        form: what runs the network: `onnxruntime`, `torch eager`, ...
        source: where the measurements come from, with date and versions.
        peaks: fp32 peaks it was fitted against; a device without a datasheet is given these.
        laws: by kind (`conv.3x3/fp32/nchw`), and by bare family for a whole family pooled.
        table: microseconds of single kernels, by signature.
        networks: the fit on whole networks, if any were measured. networks_form: what ran those;
            None where it is `form`.
        host: the host it belongs to, where the profile is no particular processor.
    """

    devices: tuple[str, ...]
    form: Form
    source: str
    peaks: Peaks
    laws: Mapping[str, Law] = field(default_factory=dict)
    table: Mapping[str, float] = field(default_factory=dict)
    networks: NetworkFit | None = None
    host: str | None = None
    networks_form: Form | None = None

    @property
    def whole(self) -> Form:
        """What whole networks ran in, which single kernels were not always timed in."""
        return self.networks_form or self.form

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "devices": list(self.devices),
            "form": self.form,
            "source": self.source,
            "host": self.host,
            "peaks": vars(self.peaks),
            "laws": {kind: law.to_json() for kind, law in self.laws.items()},
            "table": dict(self.table),
            "networks": asdict(self.networks) if self.networks else None,
            "networks_form": self.networks_form,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calibration:
        """The calibration that `to_json` wrote."""
        networks = data.get("networks")
        if networks:
            lists = {k: tuple(networks[k]) for k in ("residuals", "law_residuals")}
            hulls = {kind: Hull.from_json(hull) for kind, hull in networks["hulls"].items()}
            networks = NetworkFit(**{**networks, **lists, "hulls": hulls})
        return cls(
            devices=tuple(data["devices"]),
            form=data["form"],
            source=data["source"],
            peaks=Peaks(**data["peaks"]),
            laws={kind: Law.from_json(law) for kind, law in data["laws"].items()},
            table=data["table"],
            networks=networks or None,
            host=data.get("host"),
            networks_form=data.get("networks_form"),
        )


def read(path: Path) -> Calibration:
    """The calibration of a file. Raises: NasError where it is none."""
    try:
        return Calibration.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NasError(
            f"not a calibration that can be read: {path} ({type(error).__name__}: {error})",
            "remove it, and make it again with  nas calibrate",
        ) from error


def write(calibration: Calibration, path: Path) -> None:
    """Writes a calibration, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(calibration.to_json(), indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def find(device: Device) -> Calibration | None:
    """The calibration that holds for a device here, the working folder's first, or None.

    Raises: NasError where the file named after the device cannot be read; another's is passed over.
    """
    for path in _files():
        try:
            found = read(path)
        except NasError:
            if path.stem in (device.label, device.profile):
                raise
            continue
        if device.profile in found.devices and found.host in (None, host_id(device)):
            return found
    return None


def unreadable() -> dict[Path, NasError]:
    """The calibration files that cannot be read, and why."""
    found = {}
    for path in _files():
        try:
            read(path)
        except NasError as error:
            found[path] = error
    return found


def _files() -> list[Path]:
    return [p for folder in folders(DEVICES) for p in sorted((folder / FOLDER).glob("*.json"))]


def group_of(family: str) -> str:
    """The group of a family, for the fit on networks.

    >>> group_of("depthwise.large"), group_of("conv.3x3")
    ('depthwise', 'dense')
    """
    return GROUPS[family.partition(".")[0]]


def peaks_of(device: Device, calibration: Calibration | None, dtype: str = "fp32") -> Peaks:
    """What the device could reach, by its datasheet, else as its calibration says.

    A processor's datasheet is of all its cores; a run of fewer threads gets that share of the
    operations, and four times that share of the bandwidth, about what one core draws alone.
    Raises: NasError where neither says.
    """
    facts = device.facts
    units = int(facts["multiprocessors"].value) if "multiprocessors" in facts else 1
    rate = RATES.get(dtype, "fp32_tflops")
    rate = rate if rate in facts else "fp32_tflops"
    if rate in facts and "bandwidth_gbs" in facts:
        share = 1.0
        if device.kind == "cpu" and "cores" in facts:
            share = min(1.0, device.threads / facts["cores"].value)
        bandwidth = facts["bandwidth_gbs"].value * min(1.0, 4 * share)
        return Peaks(1e3 * facts[rate].value * share, bandwidth, units)
    if calibration is not None:
        return calibration.peaks
    raise NasError(
        f"nothing is known of the speed of {device.name!r}: no fp32_tflops and bandwidth_gbs",
        f"add them under [facts] in its profile, or type: nas calibrate {device.name} --csv FILE",
    )


def level(device: Device) -> str | None:
    """What predictions for a device start from: `anchored`, `table`, `datasheet`.

    None where there are none: nothing is known of its speed, what is known cannot be read, or its
    runtime computes in a precision that can only be measured.
    """
    try:
        calibration = find(device)
        peaks_of(device, calibration)
    except NasError:
        return None
    if device.engine.precision != "float32":
        return None
    if calibration is None:
        return "datasheet"
    return "anchored" if calibration.networks else "table"
