"""Pretrained networks for the studies of adapters, without a download.

    python -m studies.pretrained digits
    python -m studies.pretrained cifar10 --source folder:cifar10.zip

trains a network on the first five classes, as a whole, and writes its weights to
`studies/pretrained-NAME.safetensors`; the recipes `studies/adapter-NAME.toml` adapt it to the other
five. CIFAR-10 is found where `CIFAR10` says, a source such as `folder:cifar10.zip`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

import nas
from nas.core.errors import NasError
from nas.core.fidelity import Fidelity
from nas.training.checkpoint import save_weights
from nas.training.classification import image_classification
from nas.training.data import load, of_classes
from nas.training.recipe import brief
from nas.training.scoring import of_module, score
from nas.training.train import RungReport, train

HERE = Path(__file__).resolve().parent
EPOCHS = {"digits": 30, "cifar10": 12}


def task_of(name: str, late: bool) -> nas.Task:
    """The first five classes of a data set, or the other five."""
    source = "digits" if name == "digits" else os.environ.get("CIFAR10")
    if source is None:
        raise NasError("where is CIFAR-10?", "type export CIFAR10=folder:cifar10.zip")
    dataset = load(source)
    classes = dataset.facts.classes[5:] if late else dataset.facts.classes[:5]
    chosen = of_classes(dataset, classes)
    return image_classification(chosen, brief(source, chosen.facts.images))


digits = partial(task_of, "digits", late=True)
cifar10 = partial(task_of, "cifar10", late=True)


class Attention(nn.Module):
    """Self-attention of tokens `(B, N, C)`, with a layer for each of query, key and value."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (
            nn.Linear(channels, channels) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, N, C)` to the same shape."""
        batch, count, channels = x.shape
        q, k, v = (
            layer(x).view(batch, count, self.heads, channels // self.heads).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        found: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, count, channels))
        return found


class Block(nn.Module):
    """Attention and a perceptron, each behind a norm and beside a shortcut."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = Attention(channels, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.wide = nn.Linear(channels, 2 * channels)
        self.narrow = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, N, C)` to the same shape."""
        x = x + self.attention(self.norm1(x))
        return x + self.narrow(nn.functional.gelu(self.wide(self.norm2(x))))


class Small(nn.Module):
    """Two convolutions with batch norms to an eighth of the side, then transformer blocks."""

    def __init__(self, outputs: int, side: int, channels: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, channels, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(channels),
            nn.ReLU(), nn.Conv2d(channels, channels, 2, stride=2),
        )  # fmt: skip
        self.place = nn.Parameter(torch.zeros(1, (side // 8) ** 2, channels))
        nn.init.trunc_normal_(self.place, std=0.02)
        self.blocks = nn.Sequential(*(Block(channels, 4) for _ in range(depth)))
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to `(B, outputs)`."""
        tokens = self.stem(x).flatten(2).transpose(1, 2) + self.place
        found: Tensor = self.head(self.norm(self.blocks(tokens)).mean(1))
        return found


def small(task: nas.TaskSpec) -> nn.Module:
    """The network of the digits study."""
    return Small(task.outputs, task.input[1])


def larger(task: nas.TaskSpec) -> nn.Module:
    """The network of the CIFAR-10 study."""
    return Small(task.outputs, task.input[1], channels=128, depth=6)


def main() -> None:
    """Trains and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=tuple(EPOCHS))
    parser.add_argument("--source", help="where CIFAR-10 is; $CIFAR10 by default")
    parser.add_argument("--epochs", type=int)
    given = parser.parse_args()
    if given.source:
        os.environ["CIFAR10"] = given.source
    task = task_of(given.name, late=False)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    build = small if given.name == "digits" else larger
    module = build(task.spec(given.name))

    def told(rung: RungReport) -> bool:
        print(f"epoch {rung.epochs}: {task.score_name} {rung.score:.1f} %", flush=True)
        return True

    recipe = brief("digits" if given.name == "digits" else "folder:", task.examples)
    fidelity = Fidelity(epochs=given.epochs or EPOCHS[given.name])
    with tempfile.TemporaryDirectory() as folder:
        train(module, task, recipe, fidelity, 0, folder=Path(folder), on_rung=told)
    path = HERE / f"pretrained-{given.name}.safetensors"
    save_weights(path, module)
    found = score(of_module(module), task, ("all",), "test")["all"]
    print(f"{path.name}: {found.score:.1f} % of {found.n} test images of the first five classes")


if __name__ == "__main__":
    main()
