"""Kernels emitted by a coordinate network and multiplied by the image (HyperZZW, arXiv 2401.17948).

The published network has nine branches and no skips and was not run on large images; this is its
operator as a token mixer: a global and a local branch. How the two are joined is our choice.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.networks.mixers.depthwise import Size
from nas.networks.parts.log import Log

HIDDEN, TAPS = 16, 3


class Coordinates(nn.Module):
    """A network from places to kernels: three sine layers that multiply each other (MAGNet).

    Its input are coordinates in [-1, 1]; its output is divided by the root of how many places
    there are.
    """

    grid: Tensor

    def __init__(self, channels: int, size: Size) -> None:
        super().__init__()
        lines = [torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in size]
        grid = torch.stack(torch.meshgrid(*lines, indexing="ij"), -1)
        self.register_buffer("grid", grid, persistent=False)
        self.waves = nn.ModuleList(nn.Linear(2, HIDDEN) for _ in range(3))
        self.mixes = nn.ModuleList(nn.Linear(HIDDEN, HIDDEN) for _ in range(2))
        self.end = nn.Linear(HIDDEN, channels)
        self.places = size[0] * size[1]

    def forward(self) -> Tensor:
        """A kernel `(channels, H, W)`."""
        first, *later = self.waves
        y = torch.sin(3 * first(self.grid))
        for mix, wave in zip(self.mixes, later, strict=True):
            y = mix(y) * torch.sin(3 * wave(self.grid))
        kernel: Tensor = self.end(y).permute(2, 0, 1) / self.places**0.5
        return kernel


class HyperMixer(nn.Module):
    """The map times an emitted kernel as a matrix for the map, and as weights of a convolution.

    Global: `(kernel * x) x^T x` up to scale: rows of a map weigh rows by what the image has there.
    Local: a 3x3 depthwise convolution whose taps are an emitted kernel times the image's means.

    Args:
        channels: of the map.
        size: its rows and columns.
    """

    def __init__(self, channels: int, size: Size) -> None:
        super().__init__()
        self.far, self.near = Coordinates(channels, size), Coordinates(channels, (TAPS, TAPS))
        self.kernels: nn.ParameterList | None = None
        self.leave = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        if self.kernels is None:
            far, near = self.far(), self.near()
        else:
            far, near = self.kernels[0], self.kernels[1]
        rows = (far * x) @ x.transpose(-2, -1) / x.shape[-1] ** 0.5
        wide = rows @ x / x.shape[-2] ** 0.5
        means = F.adaptive_avg_pool2d(x, 1)
        patches = F.unfold(x, TAPS, padding=TAPS // 2)
        patches = torch.unflatten(patches, 1, (x.shape[1], TAPS**2))
        local = (patches * (near.flatten(1) * means[..., 0])[..., None]).sum(2)
        y: Tensor = self.leave(torch.cat((wide, local.reshape(x.shape)), 1))
        return y

    def deployed(self, path: str, size: Size, log: Log) -> nn.Module:
        """The kernels as numbers: the coordinate networks are run once."""
        kernels = [nn.Parameter(network().detach()) for network in (self.far, self.near)]
        self.kernels = nn.ParameterList(kernels)
        self.far, self.near = nn.Identity(), nn.Identity()  # type: ignore[assignment]
        log.touch(path, "emitted kernels kept as numbers")
        return self
