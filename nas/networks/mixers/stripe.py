"""Two stripes and a small square in place of a large square (SLaK, arXiv 2207.03620)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.networks.mixers.depthwise import Depthwise, Size, cut, plain
from nas.networks.parts.log import Log
from nas.networks.parts.merge import Parallel, centred, folded_branches

WIDTH = 5


class StripeMixer(nn.Module):
    """Kx5, 5xK and 5x5 depthwise convolutions, each with its batch norm, summed."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        shapes = ((kernel, WIDTH), (WIDTH, kernel), (WIDTH, WIDTH))
        self.convs = nn.ModuleList(Depthwise(channels, shape, bias=False) for shape in shapes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in shapes)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        y: Tensor = sum(norm(conv(x)) for conv, norm in zip(self.convs, self.norms, strict=True))
        return y

    def deployed(self, path: str, size: Size, log: Log) -> nn.Module:
        """The square into a stripe's centre; both stripes into one kernel where it has fewer taps.

        A dense KxK kernel costs K^2 multiplications a channel against 10K for two stripes, so long
        stripes stay apart.
        """
        folded = folded_branches(self.convs, self.norms)
        like = next(self.parameters())
        tall, wide, square = (cut(path, weight, size, log) for weight, _ in folded)
        bias = torch.stack([bias for _, bias in folded]).sum(0)
        tall, dense = centred([tall, square]), centred([tall, wide, square])
        if dense[0].numel() <= tall[0].numel() + wide[0].numel():
            log.touch(path, "stripes and square into one kernel")
            return plain(path, dense.to(like), bias, size, log)
        log.touch(path, "square into a stripe's centre")
        first = plain(path, tall.to(like), bias, size, log)
        second = plain(path, wide.to(like), None, size, log)
        return Parallel([first, second])
