"""Convolving a share of the channels and leaving the rest alone (InceptionNeXt, PeLK)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.networks.mixers.depthwise import Size, deploy
from nas.networks.parts.layout import with_dense_gradient
from nas.networks.parts.log import Log


class Partial(nn.Module):
    """The last `convolved` channels go through `mixer`; the others pass unchanged, in place."""

    def __init__(self, channels: int, convolved: int, mixer: nn.Module) -> None:
        super().__init__()
        self.passed = channels - convolved
        self.convolved = convolved
        self.mixer = mixer

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        passed, convolved = torch.split(x, [self.passed, self.convolved], 1)
        return torch.cat((passed, with_dense_gradient(self.mixer(convolved))), 1)

    def deployed(self, path: str, size: Size, log: Log) -> nn.Module:
        """Merges what is inside."""
        self.mixer = deploy(self.mixer, f"{path}.mixer", size, log)
        return self
