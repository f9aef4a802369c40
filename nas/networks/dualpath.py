"""Dual-path blocks: a residual and a dense stream in one (arXiv 1707.01629)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.networks.parts.layers import conv, conv_norm, named, norm_act


class DualPathBlock(nn.Module):
    """A bottleneck whose output is partly added, partly appended; norm and activation come first.

    The two streams are one map, the residual channels first.

    Args:
        inputs: channels of both streams.
        spatial: channels of the spatial convolution.
        width: of the residual stream.
        increment: channels appended to the dense stream.
        groups: of the spatial convolution.
        stride: of a stage's first block, which projects both streams; 0 for the others.
        activation: before each convolution.
        gate: of what is added and appended.
    """

    def __init__(
        self, inputs: int, spatial: int, width: int, increment: int, groups: int, stride: int,
        activation: str, gate: nn.Module,
    ) -> None:  # fmt: skip
        super().__init__()
        self.width, self.projects = width, stride > 0
        wide = width + 2 * increment
        first = norm_act(inputs, activation)
        self.project = (
            named(before=norm_act(inputs, activation), conv=conv(inputs, wide, 1, stride))
            if self.projects
            else nn.Identity()
        )
        self.branch = named(
            before=first,
            reduce=conv_norm(inputs, spatial, activation=activation),
            spatial=conv_norm(spatial, spatial, 3, max(1, stride), activation, groups=groups),
            expand=conv(spatial, width + increment),
        )
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, width + dense, H / stride, W / stride)`."""
        skip, branch = self.project(x), self.gate(self.branch(x))
        # slices by index would have gradients in planes, whatever the map's layout
        (kept, old), (more, new) = (
            part.split((self.width, part.shape[1] - self.width), 1) for part in (skip, branch)
        )
        return torch.cat((kept + more, old, new), 1)
