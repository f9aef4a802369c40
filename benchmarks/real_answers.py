"""What a brief training brings, asked for as a search asks, and kept: all searches share it.

Every answer is real: the network is built, folded, counted, and trained for three short epochs on
few digits of 16 pixels a side; only the clock is simulated. An answer depends on nothing but the
space and the architecture, so one file of answers serves every strategy, seed and later run.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import update_bn

from nas.catalog import load_space
from nas.core.architecture import Architecture
from nas.core.errors import NasError
from nas.core.fidelity import Fidelity
from nas.core.space import SearchSpace
from nas.core.task import Task, TaskSpec
from nas.hardware.counting import count
from nas.training import data
from nas.training.classification import image_classification
from nas.training.recipe import Recipe
from nas.training.scoring import of_module, score
from nas.training.tasks import brief_recipe
from nas.training.train import RungReport, train
from nas.transforms.fold import fold

SIDE = 16
FIDELITY = Fidelity(epochs=3, data=0.3)  # 57 steps of 16 images: some seconds
SEED = 0


@dataclass(frozen=True)
class Answer:
    """What is found out about one network.

    Args:
        costs: `macs`, `params` and `activations` of the folded network.
        rung: accuracy after the first epoch, on the images that a search ranks by.
        score, confirm: accuracy at the end, there and on the images that it never sees.
        seconds: of processor time that the whole training took.
        error: why there is none.
    """

    costs: Mapping[str, float]
    rung: float = 0.0
    score: float = 0.0
    confirm: float = 0.0
    seconds: float = 0.0
    error: str | None = None


class Answers:
    """The answers of one space, in a file with a line for each network.

    Args:
        space: name of a file in `search_spaces/`.
        folder: where answers are kept.
    """

    def __init__(self, space: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / f"{space}.jsonl"
        self.space: SearchSpace = load_space(space).at(self.task)
        self._known: dict[str, Answer] = {}
        self._counted: dict[str, dict[str, float]] = {}
        if self._file.is_file():
            for line in self._file.read_text().splitlines():
                row = json.loads(line)
                key = row.pop("key")
                self._known[key] = Answer(**row)

    @cached_property
    def task(self) -> TaskSpec:
        """The task as data."""
        return self._loaded.spec("digits")

    @cached_property
    def _loaded(self) -> Task:
        return image_classification(data.load("digits", SIDE), self._recipe)

    @cached_property
    def _recipe(self) -> Recipe:
        return brief_recipe("digits")

    def __call__(self, architecture: Architecture) -> Answer:
        """The answer for an architecture, worked out where nobody asked before."""
        found = self._known.get(architecture.key)
        if found is None:
            found = self._known[architecture.key] = self._found(architecture)
            row: dict[str, Any] = {"key": architecture.key, **asdict(found)}
            with self._file.open("a") as file:
                file.write(json.dumps(row) + "\n")
        return found

    def counts(self, architectures: Sequence[Architecture]) -> list[Mapping[str, float]]:
        """Operations of some architectures, as a strategy asks for them."""
        for architecture in architectures:
            if architecture.key not in self._counted:
                with torch.device("meta"):
                    module = self.space.build(architecture.choices, self.task)
                    found = count(fold(module, self.task.input)[0], self.task.input)
                self._counted[architecture.key] = {"macs": float(found.macs)}
        return [self._counted[architecture.key] for architecture in architectures]

    def _found(self, architecture: Architecture) -> Answer:
        torch.manual_seed(SEED)
        module = self.space.build(architecture.choices, self.task)
        shape = self.task.input
        counts = count(fold(module, shape)[0], shape)
        costs = {
            "macs": float(counts.macs),
            "params": float(counts.params),
            "activations": float(counts.activations),
        }
        began, rungs = time.process_time(), list[float]()

        def at(reached: RungReport) -> bool:
            rungs.append(reached.score)
            return True

        with tempfile.TemporaryDirectory() as folder:
            try:
                train(
                    module, self._loaded, self._recipe, FIDELITY, SEED,
                    folder=Path(folder), on_rung=at,
                )  # fmt: skip
            except NasError as error:
                return Answer(costs, error=error.problem)
        # So few steps leave the running averages of batch norms far behind the weights.
        update_bn((inputs for inputs, _ in self._loaded.batches("train", SEED)), module)
        seconds = time.process_time() - began
        last = score(of_module(module.eval()), self._loaded)
        return Answer(costs, rungs[0], last["search"].score, last["confirm"].score, seconds)
