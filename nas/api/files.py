"""The file of a trial: what was stored, or what is made again from its choices and weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nas.core.errors import NasError
from nas.core.study import StudySpec
from nas.core.trial import Trial
from nas.hardware.device import Device, engine_of
from nas.hardware.lease import default_folder
from nas.store.artifacts import Artifacts

if TYPE_CHECKING:
    from torch import nn

    from nas.evaluate.place import Place


def file_of(
    spec: StudySpec, artifacts: Artifacts, trial: Trial, device: Device
) -> tuple[Path, str]:
    """The file that a trial ships as on a device, and its build; the one place that knows.

    It is of the trial's own first training where the study trains. A stored file is taken as it is,
    without torch, where it is what the device's runtime takes. One that is not, or was removed, is
    made again from the trial's choices and its checkpoint, in the first case of the same bytes.

    Raises: NasError where the weights are gone too, or a changed space builds another network.
    """
    name = (trial.trained[0].file if trial.trained else trial.file) or ""
    engine = engine_of(device)
    plain = engine.suffix == ".onnx" and engine.precision == "float32"
    same = Path(name).suffix == engine.suffix and (plain or device.name == spec.device)
    if same and artifacts.sound(name):
        return artifacts.path(name), trial.build or ""
    from nas.evaluate.modules import write_again
    from nas.evaluate.place import Place

    place = Place(spec, artifacts, default_folder())
    stem = place.scratch(f"again-{trial.number}")
    made = write_again(place, trial.architecture, restored(place, trial), stem, device)
    if same and made.build != trial.build:
        raise NasError(
            f"the choices of trial {trial.number} now build another network than was searched",
            f"bring the space {spec.space!r} back to what it was",
        )
    return artifacts.path(artifacts.put(made.path)), made.build


def restored(place: Place, trial: Trial, finished: str | None = None) -> nn.Module:
    """The trial's module with the weights of its own first training; untrained where it has none.

    `finished` is the artifact of other weights, that a later training left.

    Raises: NasError where the stored weights are gone.
    """
    from nas.evaluate.modules import module_of
    from nas.training.checkpoint import restore

    module = module_of(place, trial.architecture, place.spec.seed)
    if trial.trained:
        last = max((r for r in trial.rungs if not r.repeat), key=lambda r: r.rung, default=None)
        weights = finished or (last.checkpoint if last else None)
        if weights is None or not place.artifacts.holds(weights):
            raise NasError(
                f"the weights of trial {trial.number} are not in {place.artifacts.folder}",
                "run the search again without --fresh: it trains only what is missing",
            )
        restore(place.artifacts.path(weights), module)
    return module.eval()


def resized(
    spec: StudySpec, artifacts: Artifacts, trial: Trial, device: Device, side: int
) -> tuple[Path, str]:
    """The file of a trained trial for square inputs of another side, and its build.

    The network is that of the study's own resolution, its weights unchanged. The file is for timing
    and is kept under its content like any other.

    Raises: NasError where the weights are gone, or the network takes no such inputs.
    """
    from nas.evaluate.modules import resize
    from nas.evaluate.place import Place

    place = Place(spec, artifacts, default_folder())
    named, module = f"trial {trial.number}", restored(place, trial)
    written = resize(place, trial.architecture, module, device, side, named)
    return artifacts.path(artifacts.put(written.path)), written.build
