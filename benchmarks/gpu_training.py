"""Candidates trained on the GPU of this machine and on its processor: that all train, and how long.

    python benchmarks/gpu_training.py [--epochs 3] [--only sparsity] [--device cuda]

A network of `largekernel` as it is, and one drawn point of every axis on it, each by the ordinary
training on digits, first here and then there. What fails has its reason in place of numbers.
Written is `benchmarks/results/gpu_training-NAME.json`: seconds, score and what was chosen.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nas.catalog import axes, load_axis, load_space
from nas.core.axis import join
from nas.core.fidelity import Fidelity
from nas.core.task import Task, TaskSpec
from nas.networks.largekernel.kept import of_device
from nas.training.recipe import Recipe
from nas.training.tasks import describe, examples, load_task
from nas.training.train import RungReport, train
from nas.transforms.stages import Given, Pipeline

PRESET = "convnext_a"


def point(axis: str | None, task: TaskSpec) -> tuple[Any, Mapping[str, Any]]:
    """The space with the axis, and what is drawn of the axis on the preset."""
    space = load_space("largekernel")
    joint = (join(space, [load_axis(axis)]) if axis else space).at(task)
    base, rng = dict(joint.preset(PRESET).choices), np.random.default_rng(0)
    drawn = joint.sample(rng).choices
    if axis:
        base |= {name: value for name, value in drawn.items() if name.startswith(f"{axis}.")}
    return joint, joint.repair(base).choices


def trained(axis: str | None, task: Task, spec: TaskSpec, epochs: int, device: str) -> Any:
    """Seconds and the last score of a training, or why there is none."""
    joint, choices = point(axis, spec)
    given = Given(task, partial(examples, task), 0, pretrained=axis == "adapter")
    pipeline = Pipeline(joint.transforms(choices, spec), given)
    scores: list[float] = []

    def at(rung: RungReport) -> bool:
        scores.append(rung.score)
        return True

    torch.manual_seed(0)
    try:
        module = pipeline.prepare(joint.build(choices, spec))[0].to(device)
        recipe = Recipe.from_json(pipeline.recipe(Recipe().to_json()))
        additions, began = pipeline.during(module), time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            train(module, task, recipe, Fidelity(epochs=epochs), 0, folder=Path(folder),
                  on_rung=at, additions=additions)  # fmt: skip
        seconds = time.perf_counter() - began
        pipeline.deploy(module.cpu(), spec.input)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return {"seconds": round(seconds, 2), "score": round(scores[-1], 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--only", help="one axis")
    parser.add_argument("--device", default="cuda", help="where, beside the processor")
    given = parser.parse_args()
    spec, task = describe("digits"), load_task("digits", Recipe())
    where = of_device(torch.device(given.device))
    result: dict[str, Any] = {"device": where, "torch": torch.__version__, "epochs": given.epochs}
    for axis in [given.only] if given.only else [None, *axes()]:
        row = {device: trained(axis, task, spec, given.epochs, device)
               for device in dict.fromkeys(("cpu", given.device))}  # fmt: skip
        result[axis or PRESET] = {"choices": dict(point(axis, spec)[1]), **row}
        print(axis or PRESET, json.dumps(row), flush=True)
    name = re.sub(r"[^A-Za-z0-9]+", "-", where).strip("-").lower()
    path = Path(__file__).parent / "results" / f"gpu_training-{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
