"""Guidance: a network kept near the representations of another, trained or not (arXiv 2410.20035).

Subramaniam et al. 2024: what a guide's layers make of a batch is compared with what the network's
make of it by linear centred kernel alignment (Kornblith et al. 2019), and the distance is added to
the loss. An untrained guide hands on what its structure alone prefers. The published batch is 256;
alignment is the larger by chance the smaller a batch is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nas.core.errors import NasError
from nas.networks.mixers.depthwise import Depthwise
from nas.training.mixing import Once
from nas.transforms.stages import Addition, Criterion

Layer = nn.Conv2d | nn.Linear | Depthwise


def guidance(module: nn.Module, guide: nn.Module, strength: float = 1.0) -> Addition:
    """Adds to the loss how far the network's layers are from the guide's, summed over pairs.

    Layers are convolutions and linear layers; those of the shorter network are each paired with
    the layer of the longer one that is as far along.

    Args:
        module: the network in training.
        guide: moved to its device; it is not trained, and answers in evaluation.
        strength: what the sum of `1 - alignment` is multiplied by.

    Raises: NasError where one of them has no such layer.
    """
    seen = [_watched(network) for network in (module, guide)]
    guide.to(next(module.parameters()).device).eval()
    for parameter in guide.parameters():
        parameter.requires_grad_(False)
    asked = Once(guide)

    def guided(before: Criterion) -> Criterion:
        def loss(module: nn.Module, inputs: Tensor, target: Any) -> Tensor:
            found = before(module, inputs, target)
            with torch.no_grad():
                asked(inputs)
            apart = [1 - alignment(own, other) for own, other in paired(*seen)]
            return found + strength * torch.stack(apart).sum()

        return loss

    return Addition(criterion=guided)


def _watched(network: nn.Module) -> dict[str, Tensor]:
    """What each layer of a network answered last, by its path, in the order of the forward pass."""
    seen: dict[str, Tensor] = {}

    def note(path: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            seen[path] = output

        return hook

    layers = {path: m for path, m in network.named_modules() if isinstance(m, Layer)}
    if not layers:
        raise NasError(
            "guidance compares convolutions and linear layers, and a network has none",
            "choose recipe.guide = none",
        )
    for path, layer in layers.items():
        layer.register_forward_hook(note(path))  # `train` takes it off again
    return seen


def paired(own: dict[str, Tensor], other: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """The answers of layers that are as far along in two networks, first to last.

    >>> [pair for pair in paired({"a": 1, "b": 2}, {c: c for c in "vwxyz"})]
    [(1, 'v'), (2, 'z')]
    """
    lists = list(own.values()), list(other.values())
    count = min(map(len, lists))
    at = [[round(i * (len(one) - 1) / max(1, count - 1)) for i in range(count)] for one in lists]
    return [(lists[0][i], lists[1][j]) for i, j in zip(*at, strict=True)]


def alignment(one: Tensor, other: Tensor) -> Tensor:
    """Linear centred kernel alignment of two answers to the same `n` examples, from 0 to 1.

    `|Y^T X|^2 / (|X^T X| |Y^T Y|)` of centred rows `(n, ...)`, by their Gram matrices `(n, n)`.

    >>> x = torch.randn(5, 3)
    >>> round(float(alignment(x, 2 * x + 1)), 4)
    1.0
    """
    grams = []
    for answer in (one, other):
        rows = answer.flatten(1)
        rows = rows if rows.dtype == torch.float64 else rows.float()
        rows = rows - rows.mean(0)
        grams.append(rows @ rows.T)
    first, second = grams
    both: Tensor = (first * second.to(first)).sum()
    sizes: Tensor = (first.norm() * second.norm().to(first)).clamp(min=1e-12)
    return both / sizes
