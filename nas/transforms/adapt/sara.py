"""SaRA: only the smallest entries of the pretrained weights are trained, as numbers beside them.

Hu et al. 2024 (arXiv 2409.06633). The paper's threshold is an absolute one of one network; here it
is the quantile of each layer's |W| that a share gives, because the scale of W differs between
networks. Half-way through the training entries that have grown out of the threshold are frozen, and
never thawed. To the loss comes a penalty on the nuclear norm of the trained entries of one layer
drawn anew in every step; the authors' code penalises layers of more than 64 rows and columns, ours
of at least 16, since the networks here are smaller. What a task must store is the trained entries:
which they are follows from the pretrained weights and the share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nas.transforms.adapt.adapted import Part
from nas.transforms.adapt.weights import Function, adapt

PENALISED_FROM = 16
PENALTY = 5e-4
Loss = Callable[[nn.Module, Tensor, Any], Tensor]


class SmallEntries(Function):
    """W with what training added to its smallest entries.

    Args:
        weight: the pretrained one.
        share: of its entries that are trained.
    """

    places: Tensor
    start: Tensor
    kept: Tensor
    frozen: Tensor
    limit: Tensor

    def __init__(self, weight: Tensor, share: float) -> None:
        super().__init__()
        count = max(1, round(share * weight.numel()))
        small = weight.detach().abs().flatten().topk(count, largest=False)
        self.register_buffer("places", small.indices.sort().values)
        self.register_buffer("limit", small.values.max())
        start = weight.detach().flatten()[self.places]
        self.values = nn.Parameter(torch.zeros_like(start))
        self.register_buffer("start", start)
        self.register_buffer("kept", torch.zeros_like(start))
        self.register_buffer("frozen", torch.zeros_like(start, dtype=torch.bool))

    def added(self) -> Tensor:
        """What is added to the trained entries; to frozen ones what it was when they froze."""
        return torch.where(self.frozen, self.kept, self.values)

    def forward(self, tensor: Tensor) -> Tensor:
        """The adapted weight."""
        flat: Tensor = tensor.flatten().index_add(0, self.places, self.added().to(tensor.dtype))
        return flat.view(tensor.shape)

    def trained(self, shape: torch.Size) -> Tensor:
        """The trained entries in their places, `shape`, zero elsewhere."""
        values = self.start + self.added()
        flat: Tensor = values.new_zeros(shape.numel()).index_add(0, self.places, values)
        return flat.view(shape)

    @torch.no_grad()
    def freeze(self) -> None:
        """Freezes the entries that are no longer below the threshold."""
        grown = (self.start + self.values).abs() > self.limit
        self.kept.copy_(self.added())
        self.frozen |= grown


class Progress(Part):
    """Whether the half of the training is over, kept with its checkpoints."""

    halved: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("halved", torch.zeros((), dtype=torch.bool))


def small_entries(layer: nn.Module, share: float) -> str:
    """Trains the smallest entries of a layer's weight."""
    fused = isinstance(layer, nn.MultiheadAttention)
    name = "in_proj_weight" if fused else "weight"
    function = SmallEntries(getattr(layer, name), share)
    adapt(layer, name, function)
    return f"its {len(function.values):,} smallest entries are trained"


def penalised(loss: Loss, module: nn.Module) -> Loss:
    """The loss with the nuclear norm of one layer's trained entries."""
    found = [
        (one, shape)
        for layer in module.modules()
        for one, shape in _matrices(layer)
        if min(shape[0], shape[1:].numel()) >= PENALISED_FROM
    ]

    def with_penalty(module: nn.Module, inputs: Tensor, target: Any) -> Tensor:
        total = loss(module, inputs, target)
        if not found:
            return total
        one, shape = found[int(torch.randint(len(found), (), device="cpu"))]
        norm = torch.linalg.matrix_norm(one.trained(shape).flatten(1), ord="nuc")
        with_rank: Tensor = total + PENALTY * norm
        return with_rank

    return with_penalty


def _matrices(layer: nn.Module) -> Sequence[tuple[SmallEntries, torch.Size]]:
    stacks = getattr(layer, "parametrizations", None)
    return [
        (one, stack.original.shape)
        for stack in (stacks.values() if stacks is not None else ())
        for one in stack
        if isinstance(one, SmallEntries) and stack.original.dim() >= 2
    ]


def halve(module: nn.Module, share: float) -> None:
    """Freezes grown entries, once, when half of the training is over."""
    progress = next(m for m in module.modules() if isinstance(m, Progress))
    if share >= 0.5 and not progress.halved:
        progress.halved.fill_(True)
        for one in module.modules():
            if isinstance(one, SmallEntries):
                one.freeze()
