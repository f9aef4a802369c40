"""Dilated re-parameterised block (UniRepLKNet, arXiv 2311.15599)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.networks.mixers.depthwise import Depthwise, Size, plain
from nas.networks.parts.log import Log
from nas.networks.parts.merge import centred, dilate, folded_branches

# Large kernel -> (small kernel, dilation) of each parallel branch; dilation * (k - 1) + 1 <= K.
BRANCHES: dict[int, tuple[tuple[int, int], ...]] = {
    5: ((3, 1), (3, 2)),
    7: ((5, 1), (3, 2), (3, 3)),
    9: ((5, 1), (5, 2), (3, 3), (3, 4)),
    11: ((5, 1), (5, 2), (3, 3), (3, 4), (3, 5)),
    13: ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5)),
    15: ((5, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    17: ((5, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
}


class DilatedMixer(nn.Module):
    """A KxK depthwise convolution beside small dilated ones, each with its batch norm, summed."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        shapes = ((kernel, 1), *BRANCHES[kernel])
        self.convs = nn.ModuleList(Depthwise(channels, k, d, bias=False) for k, d in shapes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in shapes)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        first, *others = (norm(conv(x)) for conv, norm in zip(self.convs, self.norms, strict=True))
        y: Tensor = first  # a stack of them would lie in planes, whatever the map's layout
        for other in others:
            y = y + other
        return y

    def deployed(self, path: str, size: Size, log: Log) -> nn.Module:
        """Every branch into one KxK kernel: zeros between dilated taps, then around them."""
        folded = folded_branches(self.convs, self.norms)
        dilations = [1, *(dilation for _, dilation in BRANCHES[self.kernel])]
        dense = [dilate(w, d) for (w, _), d in zip(folded, dilations, strict=True)]
        bias = torch.stack([bias for _, bias in folded]).sum(0)
        log.touch(path, f"{len(dense)} branches into one kernel")
        return plain(path, centred(dense).to(next(self.parameters())), bias, size, log)
