"""Layers that people write: their classes promise what they do not compute."""

from __future__ import annotations

from torch import Tensor, nn


class Standardised(nn.Conv2d):
    """A convolution by its standardised weight, as BiT's and NFNet's."""

    def forward(self, x: Tensor) -> Tensor:
        """As the convolution's, of filters without their mean."""
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight / weight.std((1, 2, 3), keepdim=True), self.bias)


class Activated(nn.BatchNorm2d):
    """A norm with its activation, as timm's."""

    def forward(self, x: Tensor) -> Tensor:
        """Nothing below zero."""
        return super().forward(x).relu()
