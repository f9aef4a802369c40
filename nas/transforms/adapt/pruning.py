"""Structured pruning adapters: channels are dropped while a low-rank update learns.

SPLoRA (Hedegaard et al. 2022, arXiv 2211.10155): W' = (W + columns rows) with masks on rows and
columns; of a convolution the update is added to the central tap alone. Deployed, the update is
merged and the masked rows and columns are really removed, so this is the one adapter that also
makes a network faster. Biases are trained too. Rows begin as a linear layer's do, columns within
1e-4.

Channels are dropped between two dense layers with nothing but what works channel by channel between
them (the hidden channels of a perceptron, a residual block's inner ones): nobody else reads them,
so no sum or head must shrink with them. The mask on the reader's columns makes the masked network
and the smaller one the same function. Which go is decided before training by the sum of
|weights| that make a channel and read it (magnitude), the same share everywhere, in multiples of 8
where a layer is wide enough; schedules and shared groups are the axis `sparsity`'s.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nas.transforms.adapt.lora import least
from nas.transforms.adapt.weights import Function, adapt

REACH = 1e-4
MULTIPLE = 8


class Pruned(Function):
    """(W + columns rows) times a mask on one axis of W.

    Args:
        weight: `(out, in)` or `(out, in, kh, kw)`. rank: of the update.
        mask: `(out,)` or `(in,)`, 1 for what stays; axis: which.
    """

    mask: Tensor

    def __init__(self, weight: Tensor, rank: int, mask: Tensor, axis: int) -> None:
        super().__init__()
        out, inputs = weight.shape[:2]
        self.axis = axis
        self.rank = least(rank, out, inputs)
        self.rows = nn.Parameter(weight.new_empty(self.rank, inputs))
        self.columns = nn.Parameter(weight.new_empty(out, self.rank).uniform_(-REACH, REACH))
        nn.init.kaiming_uniform_(self.rows, a=math.sqrt(5))
        self.register_buffer("mask", mask.to(weight))

    def forward(self, tensor: Tensor) -> Tensor:
        """The adapted weight."""
        update = self.columns @ self.rows
        if tensor.dim() == 4:
            tall, wide = ((n - 1) // 2 for n in tensor.shape[2:])
            after = (tensor.shape[3] - 1 - wide, tensor.shape[2] - 1 - tall)
            update = nn.functional.pad(update[:, :, None, None], (wide, after[0], tall, after[1]))
        shape = [1] * tensor.dim()
        shape[self.axis] = -1
        return (tensor + update) * self.mask.view(shape)


def kept(maker: nn.Module, reader: nn.Module, density: float) -> Tensor:
    """Which of the channels between two layers stay, `(C,)` of 0 and 1."""
    made, read = _weight(maker), _weight(reader)
    importance = made.detach().abs().flatten(1).sum(1)
    importance = importance + read.detach().abs().transpose(0, 1).flatten(1).sum(1)
    mask = torch.zeros_like(importance)
    mask[importance.topk(remaining(len(mask), density)).indices] = 1
    return mask


def remaining(channels: int, density: float) -> int:
    """How many of the channels stay.

    >>> remaining(64, 0.3), remaining(10, 0.3), remaining(3, 0.1)
    (16, 3, 1)
    """
    count = max(1, round(density * channels))
    return MULTIPLE * round(count / MULTIPLE) if count >= 2 * MULTIPLE else count


def prune(maker: nn.Module, reader: nn.Module, rank: int, density: float) -> str:
    """Puts masked low-rank updates on both layers, in place, and says what stays."""
    mask = kept(maker, reader, density)
    adapt(maker, "weight", Pruned(_weight(maker), rank, mask, axis=0))
    adapt(reader, "weight", Pruned(_weight(reader), rank, mask, axis=1))
    for layer in (maker, reader):
        if isinstance(layer.bias, nn.Parameter):
            layer.bias.requires_grad_(True)
    count = remaining(len(mask), density)
    return f"{count} of {len(mask)} channels stay, low-rank updates beside them"


def drop(
    network: nn.Module, maker: str, between: tuple[str, ...], reader: str, density: float
) -> str:
    """Removes the channels that the reader's columns have no weight for, after merging.

    Every layer between is cut alike: norms, and convolutions of one channel each.
    """
    read = network.get_submodule(reader)
    live = _weight(read).detach().abs().transpose(0, 1).flatten(1).sum(1)
    places = live.topk(remaining(len(live), density)).indices.sort().values
    for path in (maker, *between):
        _cut(network.get_submodule(path), places, 0)
    _cut(read, places, 1)
    return f"{len(live) - len(places)} of {len(live)} channels removed"


def _cut(layer: nn.Module, places: Tensor, axis: int) -> None:
    """Keeps these places of an axis of a layer's tensors."""
    for name, tensor in [*layer.named_parameters(recurse=False)]:
        if axis == 0 or name == "weight":
            kept = nn.Parameter(tensor.detach().index_select(axis, places))
            setattr(layer, name, kept)
    count = len(places)
    if isinstance(layer, nn.Linear):
        setattr(layer, ("out_features", "in_features")[axis], count)
    elif isinstance(layer, nn.Conv2d):
        setattr(layer, ("out_channels", "in_channels")[axis], count)
        if layer.groups > 1:
            layer.in_channels = layer.out_channels = layer.groups = count
    elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        layer.num_features = count
        for name, buffer in [*layer.named_buffers(recurse=False)]:
            if buffer.dim():
                setattr(layer, name, buffer.index_select(0, places))


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight
