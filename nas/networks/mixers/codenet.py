"""Deformable convolutions with hardware in mind (CoDeNet, arXiv 2006.08357)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OFFSETS = ("original", "bounded", "square", "square depthwise")
BOUND = 8.0


class DeformableConvolution(nn.Module):
    """A 3x3 convolution whose taps lie where the image says.

    Every tap reads between four pixels, zeros outside the map. `original`: two offsets a tap,
    anywhere; `bounded`: no further than 8 pixels; `square`: one number a place, 0 to 8, by which
    the nine taps move apart.

    Args:
        inputs, outputs: channels.
        offsets: one of `OFFSETS`; `square depthwise` is `square` on each channel alone.
    """

    template: Tensor

    def __init__(self, inputs: int, outputs: int, offsets: str = "bounded") -> None:
        super().__init__()
        self.square = offsets.startswith("square")
        self.bounded = offsets != "original"
        self.groups = inputs if offsets.endswith("depthwise") else 1
        self.offset = nn.Conv2d(inputs, 1 if self.square else 18, 3, padding=1)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]
        self.weight = nn.Parameter(torch.empty(outputs, inputs // self.groups, 9))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        steps = torch.tensor([-1.0, 0.0, 1.0])
        grid = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).reshape(9, 2)
        self.register_buffer("template", grid, persistent=False)

    def places(self, x: Tensor) -> Tensor:
        """Where each tap reads, `(B, 9, 2, H, W)`: rows and columns from the output's pixel."""
        offset: Tensor = self.offset(x)
        template = self.template.to(x)[None, :, :, None, None]
        if self.square:
            apart = offset.clamp(0.0, BOUND) if self.bounded else offset
            moved: Tensor = template * (1.0 + apart[:, :, None])
            return moved
        if self.bounded:
            offset = offset.clamp(-BOUND, BOUND)
        return template + torch.unflatten(offset, 1, (9, 2))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, H, W)`."""
        height, width = x.shape[-2:]
        places = self.places(x)
        rows = torch.arange(height, device=x.device, dtype=x.dtype)[:, None]
        columns = torch.arange(width, device=x.device, dtype=x.dtype)[None, :]
        read = []
        for tap in range(9):
            row, column = places[:, tap, 0] + rows, places[:, tap, 1] + columns
            # `grid_sample` counts from -1 to 1 between the outer edges of the map.
            grid = torch.stack(((2 * column + 1) / width - 1, (2 * row + 1) / height - 1), -1)
            read.append(F.grid_sample(x, grid, padding_mode="zeros", align_corners=False))
        patches = torch.stack(read, 2)  # (B, inputs, 9, H, W)
        if self.groups > 1:
            return (patches * self.weight.view(1, -1, 9, 1, 1)).sum(2)
        kernel = self.weight.flatten(1)[:, :, None, None]
        return F.conv2d(patches.flatten(1, 2), kernel)


class DeformableMixer(nn.Module):
    """A deformable convolution of each channel, and a pointwise one where it is depthwise."""

    def __init__(self, channels: int, offsets: str) -> None:
        super().__init__()
        self.spatial = DeformableConvolution(channels, channels, offsets)
        self.leave = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        y: Tensor = self.leave(self.spatial(x))
        return y
