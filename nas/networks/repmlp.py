"""RepMLPNet: fully connected layers over whole maps, with locality injected (arXiv 2112.11081)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas.networks.mixers.depthwise import Size
from nas.networks.parts.layers import conv, named
from nas.networks.parts.log import Log
from nas.networks.parts.merge import affine, normalised
from nas.networks.parts.pooling import SpatialMean, spatial_mean


@dataclass(frozen=True)
class PerceptronStage:
    """One stage: `depth` units on maps of one size.

    Args:
        width: channels.
        sets: how many matrices the channels share; a divisor of the width.
        kernels: sides of the local convolutions beside the matrices.
        expansion: hidden over outer width of the pointwise layers.
    """

    depth: int
    width: int
    sets: int
    kernels: tuple[int, ...] = (1, 3)
    expansion: int = 4


@dataclass(frozen=True)
class PerceptronNetwork:
    """The network around the stages: patches, stages of halving maps, mean, linear layer."""

    channels: int
    side: int
    outputs: int
    stages: tuple[PerceptronStage, ...]
    patch: int = 4


class InjectedPerceptron(nn.Module):
    """Every pixel of a map to every pixel, by one matrix for each set of channels.

    Beside the matrices run small convolutions, one channel a set, each with its batch norm; they
    become part of the matrices (`deployed`): what a convolution makes of the unit maps is its
    matrix. `(B, C, H, W)` maps of the one size that the layer is made for; channels of a set are
    neighbours' neighbours: channel `c` belongs to set `c % sets`.
    """

    def __init__(self, size: Size, sets: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        self.size, self.sets = size, sets
        pixels = sets * size[0] * size[1]
        self.full = nn.Conv2d(pixels, pixels, 1, groups=sets, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(sets)
        self.convs = nn.ModuleList(conv(sets, sets, k, 1, sets) for k in kernels)
        self.norms = nn.ModuleList(nn.BatchNorm2d(sets) for _ in kernels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        maps = x.reshape(-1, self.sets, *self.size)
        y: Tensor = self.full(maps.reshape(-1, self.full.in_channels, 1, 1)).reshape(maps.shape)
        y = self.norm(y)
        for layer, norm in zip(self.convs, self.norms, strict=True):
            y = y + norm(layer(maps))
        return y.reshape(x.shape)

    def deployed(self, path: str, size: Size, log: Log) -> nn.Module:
        """The norms and the convolutions into the matrices."""
        pixels = self.size[0] * self.size[1]
        scale, shift = affine(self.norm)  # type: ignore[arg-type]
        weight = self.full.weight.detach().double().reshape(self.sets, pixels, pixels)
        weight = weight * scale.view(-1, 1, 1)
        bias = shift.clone()
        unit = torch.eye(pixels, dtype=torch.float64, device=weight.device)
        for layer, norm in zip(self.convs, self.norms, strict=True):
            kernel, more = normalised(layer.weight, layer.bias, norm)  # type: ignore[arg-type]
            maps = unit.reshape(pixels, 1, *self.size).expand(-1, self.sets, -1, -1)
            seen = nn.functional.conv2d(
                maps, kernel, padding=kernel.shape[-1] // 2, groups=self.sets
            )
            weight = weight + seen.flatten(2).permute(1, 2, 0)
            bias = bias + more
        merged = nn.Conv2d(
            self.full.in_channels, self.full.in_channels, 1, groups=self.sets, device="meta"
        )
        like = self.full.weight
        merged.weight = nn.Parameter(weight.reshape(like.shape).to(like))
        bias = bias.repeat_interleave(pixels)
        if self.full.bias is not None:
            bias = bias + self.full.bias.detach().double() * scale.repeat_interleave(pixels)
        merged.bias = nn.Parameter(bias.to(like))
        log.touch(path, f"{len(self.convs)} local convolutions and the norms into the matrices")
        self.full, self.norm = merged, nn.Identity()
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        return self


class PerceptronUnit(nn.Module):
    """The perceptron, scaled by a gate on channels, then pointwise layers; both residual."""

    def __init__(self, stage: PerceptronStage, size: Size) -> None:
        super().__init__()
        width, hidden = stage.width, stage.width * stage.expansion
        self.norm1 = nn.BatchNorm2d(width)
        self.gate = named(
            squeeze=nn.Conv2d(width, width // 4, 1), relu=nn.ReLU(),
            excite=nn.Conv2d(width // 4, width, 1), sigmoid=nn.Sigmoid(),
        )  # fmt: skip
        self.mix = InjectedPerceptron(size, stage.sets, stage.kernels)
        self.pointwise = named(
            norm=nn.BatchNorm2d(width),
            expand=conv(width, hidden), expand_norm=nn.BatchNorm2d(hidden), activation=nn.GELU(),
            project=conv(hidden, width), project_norm=nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        y = self.norm1(x)
        x = x + self.mix(y) * self.gate(spatial_mean(y, keepdim=True))
        z: Tensor = x + self.pointwise(x)
        return z


class PerceptronNet(nn.Module):
    """Patches, stages of units, mean, linear layer."""

    def __init__(self, network: PerceptronNetwork) -> None:
        super().__init__()
        width, side, stages = network.channels, network.side, list[nn.Module]()
        for i, stage in enumerate(network.stages):
            step = 2 if i else network.patch
            side //= step
            embed = [
                nn.Conv2d(width, stage.width, step, step, bias=False),
                nn.BatchNorm2d(stage.width), nn.ReLU(),
            ]  # fmt: skip
            units = [PerceptronUnit(stage, (side, side)) for _ in range(stage.depth)]
            stages.append(nn.Sequential(*embed, *units))
            width = stage.width
        self.stages = nn.Sequential(*stages)
        self.head = named(
            norm=nn.BatchNorm2d(width), pool=SpatialMean(), linear=nn.Linear(width, network.outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images `(B, C, S, S)` to outputs `(B, outputs)`."""
        y: Tensor = self.head(self.stages(x))
        return y
