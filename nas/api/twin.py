"""Whether a compressed file is quicker than its uncompressed twin, and what is to blame if not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.core.job import Workload
from nas.core.measurement import Measurement
from nas.hardware.lease import Lease, default_folder

if TYPE_CHECKING:
    from nas.api.shipment import Shipment

BLAMED = 3
COMPRESSING = ("sparsity", "bitwidth")  # axes that are to make a network smaller or quicker
TOLD_APART = 1.05  # within overlapping intervals a smaller factor is not worth a word


def twin_of(shipment: Shipment) -> Path | None:
    """The file of the same network without what compresses it, untrained; None where nothing does.

    What is not trained has other weights, and the same shapes, which alone decide its latency.
    """
    from nas.deploy import forms
    from nas.evaluate.modules import deployed_of, module_of

    place = shipment.searched
    axes = [axis for axis in place.spec.space.split("+")[1:] if axis in COMPRESSING]
    if not axes or shipment.written.format == "tensorrt":
        return None
    choices = shipment.architecture.choices
    plain = {k: v for k, v in choices.items() if k.partition(".")[0] not in axes}
    bare = place.space.repair(plain)
    if bare.choices == dict(choices):
        return None
    module = module_of(place, bare, place.spec.seed).eval()
    deployed = deployed_of(place, bare, module)
    made = forms.write(deployed, place.spec.task.input, shipment.folder / "twin", shipment.device)
    shipment.twin_files[""] = made.path
    return made.path


def slower(shipment: Shipment, timing: Measurement, twin: Measurement) -> dict[str, Any] | None:
    """Why a compressed file takes longer than its twin, or None where it does not.

    `line` says it in one line; `layers` are those that lose most, in milliseconds.
    """
    sure = timing.low > twin.high
    if timing.value <= twin.value or (not sure and timing.value < TOLD_APART * twin.value):
        return None
    lost = _lost(shipment, timing.value, twin.value)
    worst = sorted(lost.items(), key=lambda pair: -pair[1])[:BLAMED]
    named = ", ".join(f"{name} +{ms:.3g} ms" for name, ms in worst if ms > 0)
    blame = f"; most is lost in {named}" if named else "; no layer of it could be told apart"
    return {
        "line": f"compressed, and {'' if sure else 'perhaps '}slower than its uncompressed twin: "
        f"{timing.value:.3g} ms against {twin.value:.3g} ms{blame}",
        "latency_ms": timing.value,
        "twin_ms": twin.value,
        "layers": {name: ms for name, ms in worst if ms > 0},
    }


def _lost(shipment: Shipment, latency: float, twin: float) -> dict[str, float]:
    """By how much each layer takes longer than in the twin; empty where no kernel is timed."""
    own = _layers(shipment, shipment.written.paths[0], latency)
    other = _layers(shipment, shipment.twin_files[""], twin)
    if not own or not other:
        return {}
    return {name: own.get(name, 0.0) - other.get(name, 0.0) for name in own.keys() | other.keys()}


def _layers(shipment: Shipment, path: Path, latency: float) -> dict[str, float]:
    """Milliseconds of each layer of a file, by its name; empty where its runtime tells none."""
    from nas.deploy.export import export
    from nas.hardware import layers
    from nas.hardware.counting import count

    if path.suffix != ".onnx":
        return {}
    device = shipment.device
    profile = layers.profiled(path, device, Lease(default_folder(), device.seat), Workload())
    if isinstance(profile, str):
        return {}
    shape = shipment.place.spec.task.input
    # the modules of operators are known after an export alone; names are the same in each
    modules = export(shipment.deployed, shape, shipment.folder / "named.onnx").modules
    found = layers.timed(count(shipment.deployed, shape), path, modules, profile, latency)
    return {n: row["latency_ms"] for n, row in found["layers"].items() if n and "latency_ms" in row}
