"""A network of the user's own, tried once before a study of it begins."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nas.catalog import import_object
from nas.core.errors import NasError
from nas.core.study import StudySpec
from nas.deploy import forms
from nas.hardware.device import named
from nas.training.recipe import Recipe
from nas.training.scoring import rows
from nas.training.tasks import is_function, load_task
from nas.transforms.running import ALONE, evaluating
from nas.transforms.tracing import theirs

EXAMPLES = 8  # of a task of the user's that its loss is tried on


def try_network(spec: StudySpec, traced: bool = False) -> None:
    """Builds a study's network, runs it once and holds what it returns against the task.

    Images need one number for each class. What else a task of the user's takes its own loss
    decides, on the first training examples.

    Args:
        traced: write the network's file as well, which takes seconds.

    Raises: NasError for what every trial would fail of.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        module = _built(spec)
        if is_function(spec.task.source):
            _of_loss(spec, module)
        else:
            _of_classes(spec, module)
    if traced:
        device = named(spec.device).under(spec.runtime)
        with TemporaryDirectory() as folder:
            forms.write(module.eval(), spec.task.input, Path(folder) / "network", device)


def _built(spec: StudySpec) -> nn.Module:
    """What the user's function returns. Raises: NasError where that is no network as needed."""
    assert spec.network is not None
    with theirs(f"{spec.network} fails", "it is called with the task"):
        module = import_object(spec.network, "network")(spec.task)
    if not isinstance(module, nn.Module):
        raise NasError(
            f"{spec.network} returned {module!r:.60}, not a torch.nn.Module", "return one from it"
        )
    if isinstance(module, torch.jit.ScriptModule):
        raise NasError(
            f"{spec.network} returned a ScriptModule, which torch.export cannot trace",
            "return the module as it was before torch.jit",
        )
    lazy = [name for name, p in module.named_parameters() if is_lazy(p)]
    if lazy:
        raise NasError(
            f"{lazy[0]} of {spec.network} is lazy: it has no shape before the network has run",
            "run it before it is returned: net(torch.zeros(2, *task.input))",
        )
    return module


def _of_classes(spec: StudySpec, module: nn.Module) -> None:
    outputs = _answer(spec, module, torch.zeros((2, *spec.task.input)))
    if tuple(outputs.shape) != (2, spec.task.outputs):
        raise NasError(
            f"{spec.network} returns {tuple(outputs.shape)} for 2 images of {spec.task.outputs} "
            f"classes, not (2, {spec.task.outputs})",
            "end it in one number for each class: nn.Linear(width, task.outputs)",
        )


def _of_loss(spec: StudySpec, module: nn.Module) -> None:
    task = load_task(spec.task.source, Recipe.from_json(spec.recipe))
    with theirs(
        f"the task {spec.task.source} has no training batch", "see its batches(split, seed)"
    ):
        inputs, targets = next(iter(task.batches("train", spec.seed)))
        few = torch.arange(len(inputs)) < EXAMPLES
        inputs, targets = rows(inputs, few), rows(targets, few)
    outputs = _answer(spec, module, inputs)
    shape = tuple(outputs.shape)
    with theirs(
        f"the loss of {spec.task.source} does not take what {spec.network} returns, {shape}",
        f"return what its loss takes; the task has {spec.task.outputs} outputs",
    ):
        task.loss(outputs, targets)


def _answer(spec: StudySpec, module: nn.Module, inputs: Tensor) -> Tensor:
    """What a network returns for some examples. Raises: NasError where that is not one tensor."""
    held = next(module.parameters(), inputs)
    hint = f"its forward must take float32 of ({', '.join(map(str, ('B', *spec.task.input)))})"
    if held.dtype != inputs.dtype:
        hint += (
            f", and its weights are {str(held.dtype).removeprefix('torch.')}: return net.float()"
        )
    size = "x".join(map(str, spec.task.input))
    problem = f"{spec.network} does not run on {len(inputs)} examples of {size}"
    with theirs(problem, hint), evaluating(module), torch.no_grad():
        found: Any = module(inputs.to(held.device))
    if not isinstance(found, Tensor):
        raise NasError(f"{spec.network} returns {type(found).__name__}, not one tensor", ALONE)
    return found.cpu()
