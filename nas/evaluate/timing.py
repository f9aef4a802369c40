"""The job that times files, or measures what else a device tells of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path

from nas.core.errors import NasError
from nas.core.job import Measure, Outcome, Source
from nas.core.measurement import Measurement
from nas.evaluate.modules import module_of, resize
from nas.evaluate.place import Place
from nas.hardware.device import Device, attached
from nas.hardware.energy import energy
from nas.hardware.footprint import peak_memory
from nas.hardware.lease import Lease
from nas.hardware.prediction.predict import predict
from nas.hardware.streams import timings
from nas.training.checkpoint import restore

PROBES: dict[str, Callable[..., Measurement | str]] = {
    "peak_memory_mb": peak_memory,
    "energy_mj": energy,
}


def time_files(place: Place, job: Measure) -> Outcome:
    """Times a batch of files on the device, in fresh processes that hold its lease.

    Latencies on a device that is not here are predicted, and say so. What is measured besides time
    is measured of each file by itself.
    """
    device = place.device(job.device)
    files: dict[int, Path] = {}
    found: dict[int, Measurement | str] = {}
    for trial, file, source in zip_longest(job.trials, job.files, job.sources):
        try:
            if source is None:
                files[trial] = place.artifacts.path(file)
            else:
                side = job.workload.resolution or 0
                files[trial] = _of_side(place, trial, source, device, side)
        except NasError as error:
            found[trial] = str(error)
    if not attached(device) and job.objective in PROBES:
        why = f"{device.name} is not attached here, and {job.objective} is not predicted"
        found |= dict.fromkeys(files, why)
    elif not attached(device):
        found |= {trial: _predicted(place, job, device, file) for trial, file in files.items()}
    elif files:
        numbers = _measurements(place, job, device, list(files.values()))
        found |= dict(zip(files, numbers, strict=True))
    values = {
        str(trial): {"error": m} if isinstance(m := found[trial], str) else m.to_json()
        for trial in job.trials
    }
    return Outcome({"measurements": values})


def _measurements(
    place: Place, job: Measure, device: Device, files: Sequence[Path]
) -> list[Measurement | str]:
    """What a job asks of files on a device that is attached, or why there is none."""
    basis = "trained file" if job.form == "trained" else "untrained form"
    lease = Lease(place.locks, device.seat)
    if job.objective not in PROBES:
        return timings(files, device, lease, job.workload, job.processes, basis=basis)
    found = []
    for file in files:
        place.beat()  # each takes up to half a minute
        found.append(PROBES[job.objective](file, device, lease, job.workload, basis=basis))
    return found


def _predicted(place: Place, job: Measure, device: Device, file: Path) -> Measurement | str:
    """The latency of one file on a device that is not here, or why there is none.

    A study is refused what no prediction says, but its device may have left since.
    """
    limits = [c for c in place.spec.constraints if (c.device or place.spec.device) == job.device]
    for limit in limits:
        if limit.quantile and job.workload in limit.workloads:
            return f"{limit}: {device.name} is not attached, and quantiles are not predicted"
    try:
        return predict(file, device, job.workload)
    except NasError as error:
        return str(error)


def _of_side(place: Place, trial: int, source: Source, device: Device, side: int) -> Path:
    """The file of a network for square inputs of another side, made for timing."""
    place.beat()  # building one may take a while
    module = module_of(place, source.architecture, place.spec.seed)
    if source.weights is not None:
        restore(place.artifacts.path(source.weights), module)
    return resize(place, source.architecture, module.eval(), device, side, f"trial {trial}").path
