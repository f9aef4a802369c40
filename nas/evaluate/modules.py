"""A candidate as a module: built, prepared, deployed, and written into its file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from nas.core.architecture import Architecture
from nas.core.errors import NasError
from nas.core.job import Outcome
from nas.deploy import forms
from nas.deploy.parity import Parity, check, validation_inputs
from nas.evaluate.place import Place, built
from nas.hardware.device import Device, engine_of
from nas.hardware.runtimes import Opened
from nas.transforms.quantize.learned import rounds
from nas.transforms.report import Report as Changes

COMPARED = 64  # validation examples on which a file must agree with its network


def module_of(place: Place, architecture: Architecture, seed: int) -> nn.Module:
    """The candidate's module in its training form, initialised from the seed alone.

    A network of the user's starts from the study's weights, where it names any.
    """
    return prepared(place, architecture, seed)[0]


def prepared(
    place: Place, architecture: Architecture, seed: int
) -> tuple[nn.Module, list[Changes]]:
    """`module_of`, and what each axis says of it."""
    return place.pipeline(architecture).prepare(built(place, architecture, seed))


def deployed_of(place: Place, architecture: Architecture, module: nn.Module) -> nn.Module:
    """A deployed copy of a candidate's module."""
    return place.pipeline(architecture).deploy(module, place.spec.task.input)[0]


def written_form(
    place: Place, architecture: Architecture, deployed: nn.Module, stem: Path, device: Device
) -> tuple[forms.Deployed, list[Changes]]:
    """A deployed module's own file with what its axes do to files, and what they say of it."""
    plain = forms.write(deployed, place.spec.task.input, stem, device)
    return changed(place, architecture, plain)


def changed(
    place: Place, architecture: Architecture, plain: forms.Deployed
) -> tuple[forms.Deployed, list[Changes]]:
    """A module's own file once its axes have changed it, where any does, and what they say."""
    pipeline, reports = place.pipeline(architecture), list[Changes]()
    if not pipeline.writes:
        return plain, reports
    return forms.changed(plain, lambda path: reports.extend(pipeline.write(path))), reports


def write_again(
    place: Place, architecture: Architecture, trained: nn.Module, stem: Path, device: Device
) -> forms.Deployed:
    """The file of a trained candidate for a device, as training writes it: of the same bytes."""
    deployed = deployed_of(place, architecture, trained)
    plain = retrained(place, architecture, deployed, stem, device)
    return changed(place, architecture, plain)[0]


def retrained(
    place: Place, architecture: Architecture, deployed: nn.Module, stem: Path, device: Device
) -> forms.Deployed:
    """A trained candidate's own file: in the graph of the untrained one, where no axis changes it.

    `deployed` is the candidate's deployed module.
    """
    shape = place.spec.task.input
    if place.pipeline(architecture).writes:
        return forms.write(deployed, shape, stem, device)
    untrained = module_of(place, architecture, place.spec.seed)
    first = forms.write(deployed_of(place, architecture, untrained), shape, stem, device)
    return forms.rewrite(first.path, deployed, shape, stem, device)


def parity_of(
    place: Place, deployed: nn.Module, written: forms.Deployed, device: Device, run: Opened
) -> Parity:
    """How far a deployed module's own file, opened as `run`, is from the module."""
    precision = "codes" if rounds(deployed) else engine_of(device).precision
    inputs = validation_inputs(place.task, COMPARED)
    return check(deployed, written.path, inputs, precision, run)


def unlike(parity: Parity) -> Outcome:
    """What becomes of a candidate whose own file is too far from its network."""
    return Outcome(error=f"the exported file differs from the trained network: {parity.said}")


def resize(
    place: Place,
    architecture: Architecture,
    module: nn.Module,
    device: Device,
    side: int,
    name: str,
) -> forms.Deployed:
    """A candidate's file for square inputs of another side; its weights unchanged.

    `name` is what errors call it. Raises: NasError where the network takes no such inputs.
    """
    pipeline, shape = place.pipeline(architecture), (place.spec.task.input[0], side, side)
    if pipeline.writes:
        raise NasError(
            f"{name} is quantized with images of {place.spec.task.input[-1]} pixels a side, "
            f"and there are none of {side}",
            "time it at its own resolution",
        )
    try:
        deployed, _ = pipeline.deploy(module, shape)
        with torch.no_grad():
            deployed(torch.zeros(1, *shape))
        stem = place.scratch(f"r{side}-{architecture.key}")
        return forms.write(deployed, shape, stem, device)
    except RuntimeError as error:
        said = " ".join(str(error).split())[:150]
        raise NasError(
            f"{name} takes no inputs of {side}x{side}: {said}", "leave :r out"
        ) from error
