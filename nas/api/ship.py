"""From a point of a front to what runs: a package with its numbers, or the module itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nas.api.files import restored
from nas.api.gate import recorded
from nas.api.places import artifacts_of, storage_url
from nas.api.shipment import Form, Shipment
from nas.api.study import chosen
from nas.core.errors import NasError, unknown
from nas.core.finished import Finished, finished, on_test_images
from nas.core.job import Workload
from nas.core.known import score_measurement, seed_deviation
from nas.core.measurement import Measurement
from nas.core.study import StudySpec
from nas.core.trial import Trial, measurement_name
from nas.hardware.agent.workplace import workplace
from nas.hardware.device import attached
from nas.hardware.lease import Lease, default_folder
from nas.hardware.runtimes import KINDS
from nas.hardware.ssh import Unreachable
from nas.store.store import Store

if TYPE_CHECKING:
    from torch import nn

    from nas.evaluate.place import Place

PROCESSES = 3
SHIPPED = 16  # of them in the package, for `nas verify`
SHIPPED_BYTES = 4_000_000


def export(
    study: str,
    trial: int,
    output: str | Path,
    format: str = "onnx",
    storage: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Writes a trained trial as a package: the network, its card, how to load it.

    The weights are those of the last `nas train` of the trial, else the search's; the card says
    which. The file is held against the trained network on validation images (the gate), scored, and
    timed where the study's device is attached; otherwise its latency is the search's, of the same
    bytes. Where the point's own form fails the gate, the study records it, and the point leaves the
    front until it passes.

    Args:
        study: its name. trial: the number. output: a new folder. storage: the database.
        format, options: the fields of `Form`.

    Raises:
        NasError: for a trial that was never fully trained, a format that its form cannot be
            written in, a folder that is not empty, or a file that fails the gate.
    """
    from nas.deploy.formats import FORMATS
    from nas.deploy.package import vacant

    form = Form(format, **options)
    vacant(Path(output))
    if form.format not in FORMATS:
        raise unknown("format", form.format, FORMATS)
    place, trials, done = _opened(study, storage)
    found = _complete(study, trials, trial)
    with workplace("export") as folder:
        shipment = Shipment(place, found, None if form.searched else done.get(trial), form, folder)
        parity = shipment.parity
        if shipment.own:
            recorded(storage_url(storage), study, found, parity, shipment.written.about)
        elif not parity.passed:
            raise NasError(
                f"trial {trial} as {shipment.said} differs from its network: {parity.said}",
                "export it in another format or precision; its own form is untouched",
            )
        return _packaged(shipment, trials, Path(output))


def _packaged(shipment: Shipment, trials: list[Trial], output: Path) -> dict[str, Any]:
    """Measures the gated file, and writes the package; what `export` returns."""
    from nas.api.twin import slower
    from nas.deploy.export import Exported, examine
    from nas.deploy.package import Card, package

    place, trial, written = shipment.place, shipment.trial, shipment.written
    trained, test = shipment.score
    own = replace(trial, trained=(trained,))
    score = score_measurement(own, place.spec, seed_deviation(trials))
    tested = on_test_images(test, place.spec)
    timing, twin = _timed(shipment)
    known = [timing] if isinstance(timing, Measurement) else []
    size = Measurement.exact("size_mb", written.bytes / 1e6, "10^6 bytes")
    counted = [
        Measurement.exact(n, trial.costs[n], u)
        for n, u in (("params", "parameters"), ("macs", "MACs"))
    ]
    exported = (
        examine(shipment.onnx)
        if written.format != "pt2"
        else Exported(trial.build or "", written.bytes, 0)
    )
    card = Card.of_task(
        place.task,
        place.spec.task.source,
        title=f"Trial {trial.number} of the study {place.spec.name}",
        exported=exported,
        parity=shipment.parity,
        measurements=[tested or score, *known, size, *counted],
        origin=_origin(shipment),
        device={"name": place.spec.device},
        format=written.format,
        about=written.about,
        runtime={"name": written.runtime.name, "options": list(written.runtime.options)},
        precision=written.precision,
        in_graph=shipment.form.preprocess_in_graph,
        training=_training(shipment),
    )
    document = package(output, written.paths, card, _examples(shipment))
    blame = None
    if isinstance(timing, Measurement) and isinstance(twin, Measurement):
        blame = slower(shipment, timing, twin)
    return {
        "study": place.spec.name,
        "trial": trial.number,
        "output": str(output),
        "format": written.format,
        "runtime": str(written.runtime),
        "weights": card.origin["weights"],
        "parity": shipment.parity.to_json(),
        "sha256": document["sha256"],
        **{m.objective: m.to_json() for m in card.measurements},
        **({"slower": blame} if blame else {}),
        **({"not_timed": timing} if isinstance(timing, str) else {}),
    }


def _origin(shipment: Shipment) -> dict[str, Any]:
    """Where the network comes from, and which weights it has."""
    spec, trial, done = shipment.place.spec, shipment.trial, shipment.done
    epochs = trial.rungs[-1].epochs if trial.rungs else 0
    weights = f"of the search, {epochs} epochs of {spec.fidelity.data:.0%} of the images"
    if done is not None:
        weights = f"of nas train, {done.epochs} epochs after the search's {epochs}"
    return {
        "study": spec.name,
        "trial": trial.number,
        "space": shipment.searched.spec.space,
        "key": shipment.architecture.key,
        "choices": dict(shipment.architecture.choices),
        "weights": weights,
        "epochs": epochs,
        "share_of_data": spec.fidelity.data,
    }


def _training(shipment: Shipment) -> dict[str, Any]:
    """The recipes that the weights went through."""
    spec, done = shipment.place.spec, shipment.done
    found: dict[str, Any] = {"search": dict(spec.recipe)}
    if done is not None:
        found |= {"finished": dict(done.recipe), "teacher": done.teacher}
    return found


def _examples(shipment: Shipment) -> Any:
    """What `nas verify` will run: validation images, or noise of the same statistics."""
    import numpy as np
    import torch

    from nas.deploy.package import Examples

    given, expected, found = shipment.compared
    count = max(1, min(SHIPPED, SHIPPED_BYTES // given[0].nbytes))
    if shipment.form.images:
        what = "images of the validation split" if shipment.place.task.classes else "inputs"
        return Examples(given[:count], expected[:count], found[:count], what)
    shape = (count, *shipment.place.spec.task.input)
    noise = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    inputs = shipment.given(noise)
    with torch.no_grad():
        said = shipment.deployed(torch.from_numpy(noise)).numpy()
    return Examples(inputs, said, np.asarray(shipment.run(inputs)), "inputs of random noise")


def load(
    study: str,
    trial: int,
    form: Literal["training", "deployed"] = "deployed",
    storage: str | None = None,
) -> nn.Module:
    """The trained module of a trial: as it was trained, or folded as it ships.

    The weights are those that `nas export` ships.
    """
    from nas.evaluate.modules import deployed_of

    if form not in ("training", "deployed"):
        raise unknown("form", form, ("training", "deployed"))
    place, trials, done = _opened(study, storage)
    found = _complete(study, trials, trial)
    module = restored(place, found, done[trial].weights if trial in done else None)
    return module if form == "training" else deployed_of(place, found.architecture, module)


def _opened(study: str, storage: str | None) -> tuple[Place, list[Trial], dict[int, Finished]]:
    from nas.evaluate.place import Place

    url = storage_url(storage)
    with Store(url, read_only=True) as store:
        spec = store.spec(study)
        trials, done = store.trials(study), finished(store.events(study))
    return Place(spec, artifacts_of(url, spec), default_folder()), trials, done


def _complete(study: str, trials: list[Trial], number: int) -> Trial:
    trial = chosen(study, trials, number)
    if not trial.trained:
        said = trial.error or f"it is {trial.state}, so it has no trained file"
        raise NasError(
            f"trial {number} of {study!r} cannot ship: {said}", f"type nas front {study}"
        )
    return trial


def _timed(
    shipment: Shipment,
) -> tuple[Measurement | str | None, Measurement | str | None]:
    """The latency of the file that ships, and of its uncompressed twin where it has one.

    Measured now, both interleaved, or why that failed; of a device that is not here, what the
    search measured of the same bytes.
    """
    from nas.api.twin import twin_of

    device, written = shipment.device, shipment.written
    try:
        here = attached(device)
    except Unreachable:  # the host is switched off: what the search measured of these bytes stands
        here = False
    whole = device.address is None or len(written.paths) == 1  # one file is sent to another host
    if here and whole and device.kind in KINDS[device.runtime]:
        from nas.hardware.timing import measure

        twin = twin_of(shipment)
        files = [written.paths[0], *([twin] if twin else [])]
        lease = Lease(default_folder(), device.seat)
        found = measure(files, device, lease, Workload(), PROCESSES, basis="trained file")
        timing, *rest = found
        return timing, rest[0] if rest else None
    return _known(shipment.place.spec, shipment), None


def _known(spec: StudySpec, shipment: Shipment) -> Measurement | None:
    """The search's latency of the very bytes that ship, or None where they are others."""
    same = shipment.own and shipment.done is None and shipment.form.format == "onnx"
    if not same or shipment.form.preprocess_in_graph:
        return None
    name = measurement_name("latency_ms", spec.device, "b1", "trained")
    return shipment.trial.measurements.get(name)
