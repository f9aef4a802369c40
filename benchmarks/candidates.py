"""Twenty fixed candidates, trained as `nas` trains them and as plain PyTorch would be written.

    python benchmarks/candidates.py [--large] [--minutes 7] [--accuracy] [--fresh]

The candidates are the first twenty draws of the space `largekernel` on `digits` on which plain
PyTorch spends no more than a few seconds a step. With `--large` only those count whose first stage
has a square kernel of at least 21 taps a side: what the layer is worth where large kernels are most
of the work, not over the space. `plain` is the same network from the same weights with
`nn.Conv2d` for every depthwise layer, in planes, with PyTorch's own AdamW in the usual loop:
forward, zero_grad, backward, clip, step. `nas` is the layer and loop of
`nas.training.train`, in a process started as workers are.

Steps of both are run in turn, each way in a process of its own and on one thread; the least
processor time of each is taken, batches included. Throughput is images a second; the ratio of all
twenty is that of their total times. `--accuracy` trains each candidate both ways, with one recipe,
seed and order of batches, for one epoch of half the digits, and compares the scores; after so few
steps running averages still lag, so the norms of both look at some images again (PyTorch's
`update_bn`). What is in the result is not run again, so that `--minutes` at a time it is
completed.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import date
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from nas.catalog import load_space
from nas.core.architecture import Architecture
from nas.core.fidelity import Fidelity
from nas.core.task import Task
from nas.networks.largekernel.convolution import convolve
from nas.networks.largekernel.kept import of_device
from nas.networks.mixers.depthwise import Depthwise
from nas.networks.mixers.peripheral import PeripheralMixer
from nas.training.allocator import forget_preloaded, kept_memory, preloaded
from nas.training.products import quick
from nas.training.recipe import Recipe, brief
from nas.training.scoring import of_module, score
from nas.training.tasks import load_task
from nas.training.train import RungReport, _optimizer, _Training, epoch_seed, steps_in, train

COUNT, LEAST_KERNEL, MOST_MACS = 20, 21, 2.5e9
SQUARE = ("depthwise", "smallkernel", "peripheral")
FIDELITY = Fidelity(epochs=1, data=0.5)
ROUNDS, ENOUGH_S = 12, 12.0
SETTLED_ON = 256  # examples from which norms take their statistics after a training this short
RESULT = Path(__file__).parent / "results" / "candidates.json"


def candidates(task: Task, only_large: bool) -> Iterator[tuple[int, Architecture]]:
    """The seeds of the twenty draws, with what they drew."""
    space = load_space("largekernel").at(task)  # type: ignore[arg-type]
    found = 0
    for seed in range(10_000):
        drawn = space.sample(np.random.default_rng(seed))
        large = drawn.choices.get("stages.0.kernel", 0) >= LEAST_KERNEL
        square = drawn.choices["stages.0.mixer"] in SQUARE
        if (only_large and not (large and square)) or wasted(drawn, task) > MOST_MACS:
            continue
        yield seed, drawn
        found += 1
        if found == COUNT:
            return


def wasted(drawn: Architecture, task: Task) -> float:
    """Multiplications of the large kernels for a batch of 16, padding included."""
    chosen, total = drawn.choices, 0.0
    for i in range(4):
        side = task.input[1] // chosen["stem.stride"] // 2**i
        kernel = chosen.get(f"stages.{i}.kernel", 1)
        area = kernel * (10 if chosen[f"stages.{i}.mixer"] == "stripe" else kernel)
        width = chosen[f"stages.{i}.width"] * chosen.get(f"stages.{i}.fraction", 1.0)
        total += 16 * side**2 * area * width * chosen[f"stages.{i}.depth"]
    return total


def plainly(module: nn.Module) -> nn.Module:
    """The network with PyTorch's own layers, in place: `nn.Conv2d` where ours would choose."""
    for name, layer in list(module.named_children()):
        if isinstance(layer, Depthwise):
            setattr(module, name, as_conv2d(layer))
        elif isinstance(layer, PeripheralMixer):
            layer.forward = partial(expanded, layer)  # type: ignore[method-assign]
        else:
            plainly(layer)
    return module


def expanded(mixer: PeripheralMixer, x: Tensor) -> Tensor:
    """Peripheral convolution as its paper's code has it: the kernel written out, then convolved."""
    return convolve(x, mixer.weight, mixer.bias(), cells=mixer.cells)


def as_conv2d(layer: Depthwise) -> nn.Conv2d:
    """The same weights in an `nn.Conv2d`."""
    channels, (tall, wide), d = layer.weight.shape[0], layer.kernel, layer.dilation
    conv = nn.Conv2d(
        channels, channels, (tall, wide), padding=(tall // 2 * d, wide // 2 * d), dilation=d,
        groups=channels, bias=layer.bias is not None,
    )  # fmt: skip
    conv.load_state_dict(layer.state_dict())
    return conv


def built(drawn: Architecture, task: Task) -> nn.Module:
    """The candidate's module under one seed."""
    torch.manual_seed(0)
    module: nn.Module = load_space("largekernel").at(task).build(drawn.choices, task)  # type: ignore[arg-type]
    return module


class Plain:
    """The usual loop, written out."""

    def __init__(self, module: nn.Module, task: Task, recipe: Recipe) -> None:
        self.module, self.task, self.recipe = plainly(module).train(), task, recipe
        weights = [p for p in module.parameters() if p.ndim >= 2]
        others = [p for p in module.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": weights, "weight_decay": recipe.decay},
             {"params": others, "weight_decay": 0.0}], lr=recipe.rate,
        )  # fmt: skip

    def step(self, batch: tuple[Tensor, Tensor], rate: float) -> None:
        """One step on a batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        inputs, target = batch
        loss = self.task.loss(self.module(inputs.contiguous()), target)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.clip)
        self.optimizer.step()

    def train(self) -> float:
        """Trained as `nas` would; the score."""
        seed = epoch_seed(0, 0)
        torch.manual_seed(seed)
        count = steps_in(self.task.batches("train", seed), FIDELITY.data)
        batches = iter(self.task.batches("train", seed))
        for number in range(count):
            self.step(next(batches), self.recipe.rate_at((number + 0.5) / count))
        again = islice(self.task.batches("train", seed), SETTLED_ON // self.recipe.batch)
        update_bn((inputs for inputs, _ in again), self.module)
        return score(of_module(self.module.eval()), self.task, ("all",))["all"].score


def by_nas(module: nn.Module, task: Task, recipe: Recipe) -> Callable[[tuple[Tensor, Tensor]], Any]:
    """A step of `nas.training.train`'s own loop."""
    module.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    under_way = _Training(
        module,
        task,
        recipe,
        FIDELITY,
        0,
        _optimizer(module, recipe),
        None,
        (),  # type: ignore[arg-type]
    )
    parameters = list(module.parameters())

    def step(batch: tuple[Tensor, Tensor]) -> None:
        under_way.optimizer.zero_grad(set_to_none=True)
        with quick(module) if recipe.precision != "float32" else nullcontext():
            under_way._descend(*batch)
        under_way._move(1e-3, parameters)

    return step


def serve(pipe: Connection, name: str, recipe: Recipe) -> None:
    """Trains one way for as long as it is told to: a network begins one, None is one step more."""
    forget_preloaded()
    torch.set_num_threads(1)
    task = load_task("digits", recipe)
    with kept_memory() if name == "nas" else nullcontext():
        while True:
            asked = pipe.recv()
            if asked is not None:
                module = built(Architecture.from_json(asked), task)
                plain = Plain(module, task, recipe) if name == "plain" else None
                run = by_nas(module, task, recipe) if plain is None else partial(usual, plain)
                batches = iter(task.batches("train", 0))
            started = time.thread_time()
            run(next(batches))
            pipe.send(time.thread_time() - started)


def usual(plain: Plain, batch: tuple[Tensor, Tensor]) -> None:
    """A step of the usual loop."""
    plain.step(batch, 1e-3)


@contextmanager
def both(recipe: Recipe) -> Iterator[dict[str, Connection]]:
    """A process for each way."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for name in ("nas", "plain"):
        pipes[name], other = context.Pipe()
        processes.append(context.Process(target=serve, args=(other, name, recipe), daemon=True))
        with patch.dict(os.environ, preloaded() if name == "nas" else {}):
            processes[-1].start()
    try:
        yield pipes
    finally:
        for process in processes:
            process.kill()


def throughput(drawn: Architecture, pipes: dict[str, Connection], recipe: Recipe) -> dict[str, Any]:
    """Least seconds of a step of each way, run in turn."""
    least, spent = dict.fromkeys(pipes, math.inf), 0.0
    for number in range(ROUNDS):
        for name, pipe in pipes.items():
            if name == "plain" and number > 1 and spent > ENOUGH_S:
                continue
            pipe.send(None if number else drawn.to_json())
            took = pipe.recv()
            spent += took
            if number:  # the first compiles, and may measure what to choose
                least[name] = min(least[name], took)
    return {
        "images_per_s": {name: round(recipe.batch / took, 2) for name, took in least.items()},
        "step_ms": {name: round(1e3 * took, 2) for name, took in least.items()},
        "ratio": round(least["plain"] / least["nas"], 3),
        "load": round(os.getloadavg()[0], 2),
    }


def accuracy(drawn: Architecture, task: Task, recipe: Recipe) -> dict[str, float]:
    """The scores of both ways, trained alike."""
    module = built(drawn, task)
    plain = Plain(copy.deepcopy(module), task, recipe).train()
    with tempfile.TemporaryDirectory() as folder:

        def on_rung(reached: RungReport) -> bool:
            return True

        train(module, task, recipe, FIDELITY, 0, folder=Path(folder), on_rung=on_rung)
    ours = score(of_module(module), task, ("all",))["all"]
    return {"nas": ours.score, "plain": plain, "n": ours.n}


def summary(done: dict[str, Any]) -> dict[str, Any]:
    """The ratio of all, and the scores' differences."""
    timed = [entry for entry in done.values() if "step_ms" in entry]
    scored = [entry["accuracy"] for entry in done.values() if "accuracy" in entry]
    total = {name: sum(e["step_ms"][name] for e in timed) for name in ("nas", "plain")}
    ratios = [e["ratio"] for e in timed]
    said: dict[str, Any] = {"candidates timed": len(timed)}
    if timed:
        said["times the throughput, all images (asked: 3)"] = round(
            total["plain"] / total["nas"], 2
        )
        said["geometric mean of ratios"] = round(math.exp(float(np.mean(np.log(ratios)))), 2)
        said["least ratio"] = min(ratios)
    if len(scored) > 1:
        gaps = np.array([entry["nas"] - entry["plain"] for entry in scored])
        said["candidates scored"] = len(scored)
        said["mean difference of scores"] = round(float(gaps.mean()), 3)
        said["its standard error"] = round(float(gaps.std(ddof=1) / math.sqrt(len(gaps))), 3)
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--large", action="store_true", help="only large kernels in stage 0")
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--precision", default="float32", help="of nas: float32 or fastest")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    stem = "candidates" + "-large" * given.large + "-fastest" * (given.precision != "float32")
    usual = RESULT.with_stem(stem)
    path = given.output or usual
    recipe = Recipe.from_json({**brief("digits", 1797).to_json(), "precision": given.precision})
    task = load_task("digits", recipe)
    about = {"host": of_device(torch.device("cpu")), "threads": 1, "precision": given.precision}
    result = json.loads(path.read_text()) if path.exists() and not given.fresh else {}
    if {key: result.get(key) for key in about} != about:
        result = {**about, "candidates": {}}
    done = result["candidates"]
    begun = time.perf_counter()
    with nullcontext({}) if given.accuracy else both(recipe) as pipes:
        for seed, drawn in candidates(task, given.large):
            entry = done.get(str(seed), {})
            if ("accuracy" if given.accuracy else "step_ms") in entry:
                continue
            if time.perf_counter() - begun > 60 * given.minutes:
                break
            if given.accuracy:
                entry["accuracy"] = accuracy(drawn, task, recipe)
            else:
                entry |= throughput(drawn, pipes, recipe)
            done[str(seed)] = {**entry, "key": drawn.key}
            result |= {"date": date.today().isoformat(), "summary": summary(done)}
            path.write_text(json.dumps(result, indent=1) + "\n")
            print(seed, json.dumps(entry), flush=True)
    print(json.dumps(result.get("summary"), indent=1))


if __name__ == "__main__":
    main()
