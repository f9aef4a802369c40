"""ResNeSt's convolution: splits that compete for each channel (arXiv 2004.08955)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nas.core.scaling import rounded_width
from nas.networks.parts.activations import make_activation
from nas.networks.parts.layers import conv_norm, named
from nas.networks.parts.norms import make_norm
from nas.networks.parts.pooling import spatial_mean


class SplitAttention(nn.Module):
    """`radix` convolutions of the same input, weighted per channel by a softmax over them.

    Args:
        channels: in and out, a multiple of `groups * radix`.
        radix: number of splits; a single one is weighted by a sigmoid.
        groups: cardinality, of the convolutions and of the attention.
        stride: of the convolutions.
        activation, norm: after the convolutions and inside the attention.
    """

    def __init__(
        self, channels: int, radix: int, groups: int, stride: int, activation: str, norm: str
    ) -> None:
        super().__init__()
        self.radix, self.groups = radix, groups
        self.splits = conv_norm(
            channels, channels * radix, 3, stride, activation, norm, groups * radix
        )
        hidden = rounded_width(channels * radix / 4, math.lcm(8, groups), 32)
        hidden = -(-hidden // groups) * groups
        self.attend = named(
            squeeze=nn.Conv2d(channels, hidden, 1, groups=groups),
            norm=make_norm(norm, hidden),
            activation=make_activation(activation),
            excite=nn.Conv2d(hidden, channels * radix, 1, groups=groups),
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C, H / stride, W / stride)`."""
        splits: Tensor = self.splits(x).unflatten(1, (self.radix, -1))  # (B, radix, C, H, W)
        scores = self.attend(spatial_mean(splits.sum(1), keepdim=True))
        if self.radix == 1:
            return splits[:, 0] * torch.sigmoid(scores)
        # the grouped layers leave the scores ordered by group, then radix
        scores = scores.unflatten(1, (self.groups, self.radix, -1)).transpose(1, 2)
        shares = scores.softmax(1).flatten(2, 3)  # (B, radix, C, 1, 1)
        y: Tensor = (splits * shares).sum(1)
        return y
