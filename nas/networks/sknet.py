"""SKNet's convolution: two receptive fields that compete for each channel (arXiv 1903.06586)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.networks.parts.layers import conv, conv_norm, named, norm_act
from nas.networks.parts.pooling import spatial_mean


class SelectiveKernel(nn.Module):
    """A 3x3 convolution and one dilated by two, weighted per channel by a softmax over both.

    Args:
        inputs, outputs: channels.
        groups: of both convolutions.
        stride: of both.
        halves: whether each sees one half of the input (timm's basic blocks), not all of it.
        activation, norm: after the convolutions and inside the attention.
    """

    def __init__(
        self, inputs: int, outputs: int, groups: int, stride: int, halves: bool, activation: str,
        norm: str,
    ) -> None:  # fmt: skip
        super().__init__()
        self.halves = halves
        seen = inputs // 2 if halves else inputs
        self.paths = nn.ModuleList(
            conv_norm(seen, outputs, 3, stride, activation, norm, groups, dilation)
            for dilation in (1, 2)
        )
        hidden = max(16, outputs // 8) if halves else max(32, outputs // 16)
        self.attend = named(
            squeeze=conv(outputs, hidden),
            **dict(norm_act(hidden, activation, norm).named_children()),
            excite=conv(hidden, 2 * outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, H / stride, W / stride)`."""
        seen = torch.split(x, x.shape[1] // 2, 1) if self.halves else (x, x)
        near, far = (path(part) for path, part in zip(self.paths, seen, strict=True))
        scores = self.attend(spatial_mean(near + far, keepdim=True))
        first, second = torch.split(scores, scores.shape[1] // 2, 1)
        share = torch.sigmoid(first - second)  # a softmax over two
        y: Tensor = far + (near - far) * share
        return y
