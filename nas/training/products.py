"""Convolutions in bfloat16 on a processor, each in the way that is fast there.

oneDNN multiplies matrices in bfloat16 up to twice as fast as it convolves with one tap, and takes
ten to sixty times as long for the gradients of a strided depthwise convolution as it does in
float32 (torch 2.13, Zen 5).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@contextmanager
def quick(module: nn.Module) -> Iterator[None]:
    """Within, convolutions of a module on a processor take those ways under autocast.

    Weights, names and results stay as they are, to rounding; so do layers of another kind.
    """
    layers = [m for m in module.modules() if type(m) is nn.Conv2d and m.weight.device.type == "cpu"]
    for layer in layers:
        layer.__class__ = _kind(layer)
    try:
        yield
    finally:
        for layer in layers:
            if type(layer) in (_Product, _Strided):
                layer.__class__ = nn.Conv2d


def _kind(layer: nn.Conv2d) -> type[nn.Conv2d]:
    if layer.weight.shape[1] == 1 < layer.groups and max(layer.stride) > 1:
        return _Strided
    pointwise = set(layer.kernel_size) == {1} == set(layer.stride)
    return _Product if pointwise and layer.groups == 1 and not any(layer.padding) else nn.Conv2d


class _Product(nn.Conv2d):
    """One tap: a matrix product, where maps are channels last."""

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, D, H, W)`."""
        lower = torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()
        last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
        if not (lower and last):
            return super().forward(x)
        y = F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
        return y.permute(0, 3, 1, 2)


class _Strided(nn.Conv2d):
    """A strided depthwise convolution: in float32, and back."""

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C, h, w)`."""
        if not torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            y = super().forward(x.float())
        return y.to(torch.get_autocast_dtype("cpu"))
