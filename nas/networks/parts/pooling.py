"""From maps to vectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nas.networks.parts.layout import layout_of, traced


class SpatialMean(nn.Module):
    """The mean of each map, `(B, C, H, W)` to `(B, C)`.

    Torch's adaptive pooling means the same, but fixes the memory layout of its result, which
    exports as a gather wherever the layer before it left channels last.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C)`."""
        return spatial_mean(x)


def spatial_mean(x: Tensor, keepdim: bool = False) -> Tensor:
    """The mean of each map: `(B, C, H, W)` to `(B, C)`, or `(B, C, 1, 1)`.

    Torch's own gradient of a mean lies in planes. Behind a map that lies channels last every
    gradient before it would then mix both layouts, which takes several times as long.
    """
    mean: Tensor = x.mean((2, 3)) if _by_torch(x) else _Mean.apply(x)  # type: ignore[no-untyped-call]
    return mean[:, :, None, None] if keepdim else mean


def _by_torch(x: Tensor) -> bool:
    """Whether no gradient of a channels-last map is to come, or a graph is being traced."""
    if traced():
        return True
    learning = torch.is_grad_enabled() and x.requires_grad
    return not learning or layout_of(x) != torch.channels_last


class _Mean(torch.autograd.Function):
    """The mean of each map, whose gradient lies as the map does."""

    generate_vmap_rule = True  # for gradients of several outputs at once

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.mean((2, 3))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.shape = inputs[0].shape

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent.mean((2, 3))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        batch, channels, height, width = ctx.shape
        each: Tensor = (grad / (height * width))[:, None, None]
        return each.expand(batch, height, width, channels).contiguous().permute(0, 3, 1, 2)
