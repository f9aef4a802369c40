"""From a point of a front to what runs: a package with its numbers, or the module itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nas.api.files import file_of, restored
from nas.api.places import artifacts_of, storage_url
from nas.api.study import chosen
from nas.core.errors import NasError, unknown
from nas.core.front import score_measurement, seed_deviation
from nas.core.job import Workload
from nas.core.measurement import Measurement
from nas.core.study import StudySpec
from nas.core.trial import Trained, Trial, measurement_name
from nas.hardware.device import Device, attached
from nas.hardware.lease import Lease, default_folder
from nas.hardware.runtimes import KINDS
from nas.hardware.ssh import Unreachable
from nas.store.store import Store

if TYPE_CHECKING:
    from torch import nn

    from nas.evaluate import Place

FORMATS = ("onnx",)
PROCESSES = 3


def export(
    study: str, trial: int, output: str | Path, format: str = "onnx", storage: str | None = None
) -> dict[str, Any]:
    """Writes a trained trial as a package: the network, its card, how to load it.

    The latency on the card is measured now, on the very file that ships, where the study's device
    is attached; otherwise it is the search's, of the same bytes. A study under torch is shipped as
    ONNX as well: another file than the searched one, so it is scored again, and timed under
    onnxruntime, on a processor.

    Raises:
        NasError: for a trial that was never fully trained, a folder that is not empty, or a file
            that does not agree with its network.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    from nas.deploy.export import examine, read
    from nas.deploy.graph import precision
    from nas.deploy.package import Card, package
    from nas.deploy.parity import check
    from nas.evaluate import deployed_of

    place, trials = _opened(study, storage)
    found = _complete(study, trials, trial)
    device = _onnx(place.device())
    file, _ = file_of(place.spec, place.artifacts, found, device)
    deployed = deployed_of(place, found.architecture, restored(place, found))
    parity = check(deployed, file, place.task, precision(read(file)))
    searched = file.name == found.trained[0].file
    timing = _timed(place, found if searched else None, file, device)
    # of this file alone: other seeds' trainings of the trial are only in the interval
    first = found.trained[0] if searched else _scored(place, found.trained[0], file)
    own = replace(found, trained=(first,))
    score = score_measurement(own, place.spec, seed_deviation(trials))
    size = Measurement.exact("size_mb", file.stat().st_size / 1e6, "10^6 bytes")
    counted = [
        Measurement.exact(n, found.costs[n], u)
        for n, u in (("params", "parameters"), ("macs", "MACs"))
    ]
    card = Card.of_task(
        place.task,
        place.spec.task.source,
        title=f"Trial {trial} of the study {study}",
        exported=examine(file),
        parity=parity,
        measurements=[score, *([timing] if timing else []), size, *counted],
        origin={
            "study": study,
            "trial": trial,
            "space": place.spec.space,
            "key": found.key,
            "choices": dict(found.architecture.choices),
            "epochs": found.rungs[-1].epochs if found.rungs else 0,
            "share_of_data": place.spec.fidelity.data,
        },
        device={"name": place.spec.device},
    )
    document = package(Path(output), file, card)
    return {
        "study": study,
        "trial": trial,
        "output": str(output),
        "format": format,
        "parity": parity.to_json(),
        "sha256": document["sha256"],
        **{m.objective: m.to_json() for m in card.measurements},
    }


def load(
    study: str,
    trial: int,
    form: Literal["training", "deployed"] = "deployed",
    storage: str | None = None,
) -> nn.Module:
    """The trained module of a trial: as it was trained, or folded as it ships."""
    from nas.evaluate import deployed_of

    if form not in ("training", "deployed"):
        raise unknown("form", form, ("training", "deployed"))
    place, trials = _opened(study, storage)
    found = _complete(study, trials, trial)
    module = restored(place, found)
    return module if form == "training" else deployed_of(place, found.architecture, module)


def _opened(study: str, storage: str | None) -> tuple[Place, list[Trial]]:
    from nas.evaluate import Place

    url = storage_url(storage)
    with Store(url, read_only=True) as store:
        spec = store.spec(study)
        trials = store.trials(study)
    return Place(spec, artifacts_of(url), default_folder()), trials


def _complete(study: str, trials: list[Trial], number: int) -> Trial:
    trial = chosen(study, trials, number)
    if not trial.trained:
        said = trial.error or f"it is {trial.state}, so it has no trained file"
        raise NasError(
            f"trial {number} of {study!r} cannot ship: {said}", f"type nas front {study}"
        )
    return trial


def _onnx(device: Device) -> Device:
    """The device, or where its runtime takes no ONNX file, the same under onnxruntime."""
    if device.engine.suffix == ".onnx":
        return device
    return replace(device, runtime="onnxruntime", options=())


def _scored(place: Place, trained: Trained, file: Path) -> Trained:
    """What a training is worth in another file than the one it was searched in."""
    import torch

    from nas.hardware.runtimes import Runtime, opened
    from nas.training.scoring import score

    run = opened(file, Runtime("onnxruntime"))
    found = score(lambda x: torch.from_numpy(run(x.contiguous().numpy())), place.task)
    search, confirm = found["search"], found["confirm"]
    return replace(
        trained, file=file.name,
        score=search.score, score_se=search.se, score_n=search.n,
        confirm=confirm.score, confirm_se=confirm.se, confirm_n=confirm.n,
    )  # fmt: skip


def _timed(place: Place, trial: Trial | None, file: Path, device: Device) -> Measurement | None:
    """The latency of the file that ships: measured now, or what the search measured of it.

    `trial` is None where the search measured another file.
    """
    spec: StudySpec = place.spec
    try:
        here = attached(device)
    except Unreachable:  # the host is switched off: what the search measured of these bytes stands
        here = False
    if here and device.kind in KINDS[device.runtime]:
        from nas.hardware.timing import measure

        lease = Lease(default_folder(), device.seat)
        [timing] = measure(
            [file], device, lease, Workload(), processes=PROCESSES, basis="trained file"
        )
        if isinstance(timing, str):
            raise NasError(f"the file cannot be timed: {timing}", "export another trial")
        return timing
    if trial is None:
        return None
    return trial.measurements.get(measurement_name("latency_ms", spec.device, "b1", "trained"))
