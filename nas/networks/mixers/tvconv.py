"""A depthwise convolution with a kernel of its own at every place (TVConv, arXiv 2203.10489)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.networks.mixers.depthwise import Size
from nas.networks.parts.log import Log

AFFINITIES = 4


class VariantConvolution(nn.Module):
    """Kernels that vary with the place and not with the image, emitted from learned maps.

    Args:
        channels: of the map.
        kernel: odd taps a side.
        size: rows and columns, which are fixed: for images with a layout, such as faces.
        inner: channels between the maps and the kernels. layers: how many 3x3 convolutions.
    """

    def __init__(
        self, channels: int, kernel: int, size: Size, inner: int = 16, layers: int = 1
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.maps = nn.Parameter(torch.ones(1, AFFINITIES, *size))
        emit: list[nn.Module] = []
        for i in range(layers):
            first = AFFINITIES if i == 0 else inner
            emit += [nn.Conv2d(first, inner, 3, padding=1, bias=False),
                     nn.LayerNorm((inner, *size)), nn.ReLU()]  # fmt: skip
        emit.append(nn.Conv2d(inner, channels * kernel**2, 3, padding=1, bias=False))
        self.emit: nn.Module = nn.Sequential(*emit)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        weights = self.emit(self.maps)
        size = (x.shape[1], self.kernel**2, x.shape[-2] * x.shape[-1])
        patches = F.unfold(x, self.kernel, padding=self.kernel // 2)
        mixed: Tensor = (torch.unflatten(patches, 1, size[:2]) * weights.reshape(1, *size)).sum(2)
        return mixed.reshape(x.shape)

    def deployed(self, path: str, size: Size, log: Log) -> nn.Module:
        """The kernels of all places as numbers, which may be more than the rest of the network."""
        self.maps = nn.Parameter(self.emit(self.maps).detach())
        self.emit = nn.Identity()
        log.touch(path, f"{self.maps.numel()} weights of all places kept as numbers")
        return self
