"""Teaching the prediction about a device: from its own measurements here, or from a CSV file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from nas.catalog import DEVICES, load_space
from nas.core.architecture import Choices
from nas.core.errors import NasError
from nas.core.task import TaskSpec
from nas.hardware.agent.workplace import workplace
from nas.hardware.device import Device, attached, host_id, named
from nas.hardware.lease import Lease, default_folder
from nas.hardware.prediction.calibrate import (
    FEWEST,
    UNLIKE,
    add_laws,
    choose_kernels,
    choose_networks,
    first_kernels,
    fit_networks,
    with_times,
)
from nas.hardware.prediction.calibration import FOLDER, Calibration, find, peaks_of, write
from nas.hardware.prediction.kernels import Form, Lowered, lower
from nas.hardware.prediction.law import Peaks
from nas.hardware.prediction.measured import read
from nas.hardware.prediction.microbench import time_kernels
from nas.hardware.prediction.predict import form_of
from nas.hardware.timing import measure, runtime_version

# For a device without datasheet: about one core's of a processor, about a small card's (a T4's).
NOMINAL = {"cpu": Peaks(gflops=100.0, gbs=30.0), "cuda": Peaks(8141.0, 320.0, 40)}
NETWORKS = 12
SIDES = (32, 48, 64)


def calibrate(
    device: str,
    csv: str | Path | None = None,
    *,
    space: str = "largekernel",
    networks: int = NETWORKS,
    output: str | Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Fits what predictions for a device rest on, and writes it where they look for it.

    With `csv`, from the measured networks or operators listed there (columns: see
    `nas.hardware.prediction.measured`), which need not have been measured here; three networks are
    enough to anchor a device. Without, the device must be here, or at the host that ssh reaches:
    single kernels of sampled networks of the space are timed, then `networks` whole ones. Under
    onnxruntime kernels are its own; under torch they are timed eager, and the networks as the
    device runs them. That was tried on processors; on a CUDA device, where nothing but the session
    differs, it is unproven. Returns what was fitted and the file
    written, by default `hardware_profiles/calibrations/DEVICE.json` in the working folder.
    """
    known = named(device)
    if csv is not None:
        found = _from_csv(known, Path(csv))
    elif attached(known):
        found = _from_here(known, space, networks, seed)
    else:
        raise NasError(
            f"device {device!r} ({known.title}) is not attached to this host",
            f"measure three networks on it, then  nas calibrate {device} --csv FILE",
        )
    path = Path(output) if output else Path.cwd() / DEVICES[0] / FOLDER / f"{known.label}.json"
    write(found, path)
    fit = found.networks
    return {
        "device": device,
        "file": str(path),
        "form": found.form,
        "source": found.source,
        "laws": {kind: law.n for kind, law in found.laws.items()},
        "kernels": len(found.table),
        "networks": fit.n if fit else 0,
        "left_out_errors": list(fit.residuals) if fit else [],
    }


def _form(device: Device) -> Form:
    """What single kernels are timed in: torch's are timed eager, however networks are run."""
    return form_of(_alone(device))


def _alone(device: Device) -> Device:
    """The device as it runs single kernels: torch eager, in the layout of its networks."""
    if device.runtime not in ("torch", "tensorrt"):
        return device
    last = device.engine.layout == "channels_last"
    return device.under("torch:channels_last" if last else "torch")


def _peaks(device: Device) -> Peaks:
    try:
        return peaks_of(device, None)
    except NasError:
        return NOMINAL[device.kind]


def _own(device: Device) -> str | None:
    """The host a calibration is bound to: a profile without names is whatever host this is."""
    return host_id(device) if device.kind == "cpu" and not device.names else None


def _start(device: Device, source: str) -> Calibration:
    """What is known so far, under a new source."""
    known = find(device)
    if known is None:
        return Calibration(
            (device.profile,), _form(device), source, _peaks(device), host=_own(device)
        )
    return replace(known, devices=(device.profile,), source=f"{known.source}; {source}")


def _from_csv(device: Device, path: Path) -> Calibration:
    today = date.today().isoformat()
    start = _start(device, f"{path.name}, read {today}")
    native = device.address is None and attached(device)
    found = read(path, start.form, native=native)
    if found.operators:
        us = [1e3 * ms for ms in found.latencies_ms]
        laws = add_laws(start.laws, found.operators, us, peaks_of(device, start))
        if not laws:
            raise NasError(
                f"{path} has fewer than three operators of every class",
                "time each at three sizes or more",
            )
        # Whole networks were fitted to the laws as they were before: they must be given again.
        return replace(start, laws={**start.laws, **laws}, networks=None, networks_form=None)
    # Single operators are timed eager; networks ran as the device runs them by default.
    whole = form_of(device)
    if whole != start.form:
        found = read(path, whole, native=native)
    return fit_networks(
        replace(start, networks_form=whole), device, found.networks, found.latencies_ms
    )


def _from_here(device: Device, space: str, count: int, seed: int) -> Calibration:
    """Times kernels of sampled networks, then whole ones, where the device is, under the lease."""
    if device.runtime not in ("onnxruntime", "torch"):
        raise NasError(
            f"calibrating times single operators under onnxruntime or torch, and {device.name} "
            f"runs {device.engine}",
            f"list measured networks or operators in a CSV: nas calibrate {device.name} --csv FILE",
        )
    lease, whole = Lease(default_folder(), device.seat), form_of(device)
    where = f"at {device.address.host}" if device.address else "on this host"
    source = f"{runtime_version(device)} {where}, {date.today().isoformat()}"
    calibration = Calibration(
        (device.profile,), _form(device), source, _peaks(device), host=_own(device)
    )
    native = device.address is None
    with workplace("calibrate") as folder:
        files = sample(space, 2 * count, folder, seed)
        lowered = [lower(path, calibration.form, native=native) for path in files]
        calibration = time_and_fit(calibration, _alone(device), lease, lowered)
        if whole != calibration.form:
            calibration = replace(calibration, networks_form=whole)
            lowered = [lower(path, whole, native=native) for path in files]
        chosen = choose_networks([n.kernels for n in lowered], device, calibration, count)
        timed = measure(
            [_as_run(files[i], device) for i in chosen], device, lease, basis="untrained form"
        )
    kept = {
        place: timing.value
        for place, timing in enumerate(timed)
        if not isinstance(timing, str) and not timing.record.get("noisy")
    }
    if len(kept) < FEWEST:
        raise NasError(
            f"{len(kept)} of {len(chosen)} networks could be timed here: the machine was hardly "
            "ever quiet, or they failed",
            "type it again when nothing else runs",
        )
    kernels = [lowered[chosen[place]].kernels for place in kept]
    unlike = sum(place < UNLIKE for place in kept)  # chosen first
    return fit_networks(calibration, device, kernels, list(kept.values()), unlike)


def _as_run(path: Path, device: Device) -> Path:
    """A sampled network as the file that the device's runtime takes, beside its ONNX file."""
    if device.engine.suffix == path.suffix:
        return path
    from nas.hardware.runtimes.torch import write as write_program

    told = json.loads(path.with_suffix(".json").read_text())
    module, task = _module(told["space"], told["side"], told["choices"], told["seed"])
    program = path.with_suffix(device.engine.suffix)
    write_program(module, task.input, program, device.engine)
    return program


def time_and_fit(
    calibration: Calibration, device: Device, lease: Lease, lowered: Sequence[Lowered]
) -> Calibration:
    """Two rounds of kernels: a few of every class, then those that decide most of the doubt."""
    kernels = {k.signature: k for network in lowered for k in network.kernels}
    times, _ = time_kernels(first_kernels(lowered), device, lease)
    calibration = with_times(calibration, device, kernels, times)
    times, _ = time_kernels(choose_kernels(lowered, device, calibration), device, lease)
    return with_times(calibration, device, kernels, times)


def sample(space: str, count: int, folder: Path, seed: int = 0) -> list[Path]:
    """Exports networks of a space drawn at random, untrained, for inputs of several sizes.

    Files that exist already are kept; each has a JSON beside it with what it is.
    """
    import numpy as np

    from nas.deploy.export import export

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = []
    for place in range(count):
        side = SIDES[place % len(SIDES)]
        architecture = load_space(space).at(_task(side)).sample(rng)
        path = folder / f"{place:03d}-{architecture.key[:12]}.onnx"
        paths.append(path)
        if path.exists():
            continue
        choices = dict(architecture.choices)
        module, task = _module(space, side, choices, seed + place)
        told = {"space": space, "side": side, "seed": seed + place, "choices": choices}
        path.with_suffix(".json").write_text(json.dumps(told))
        export(module, task.input, path)
    return paths


def _task(side: int) -> TaskSpec:
    return TaskSpec("calibration", (3, side, side), 10)


def _module(space: str, side: int, choices: Choices, seed: int) -> tuple[Any, TaskSpec]:
    """A network of a space as it is deployed, untrained, and its task."""
    import torch

    from nas.transforms.fold import fold

    task = _task(side)
    torch.manual_seed(seed)
    return fold(load_space(space).at(task).build(choices, task), task.input)[0], task
