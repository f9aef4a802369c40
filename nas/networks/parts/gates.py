"""Gates: whole-map statistics that scale or shift channels. They stay in the deployed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.core.errors import unknown
from nas.networks.parts.activations import make_activation
from nas.networks.parts.layout import traced
from nas.networks.parts.norms import ChannelNorm
from nas.networks.parts.pooling import spatial_mean

SQUASHES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
}


class SqueezeExcite(nn.Module):
    """Scales each channel by a sigmoid of all channels' means (arXiv 1709.01507).

    Args:
        channels: number of channels.
        ratio: share of the channels that the bottleneck has.
        hidden: its size where it is no such share.
        activation: inside the bottleneck.
        squash: `sigmoid` or `hardsigmoid` (MobileNetV3).
    """

    def __init__(
        self, channels: int, ratio: float, hidden: int | None = None, activation: str = "relu",
        squash: str = "sigmoid",
    ) -> None:  # fmt: skip
        super().__init__()
        hidden = hidden or max(1, int(channels * ratio))
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.activation = make_activation(activation)
        self.excite = nn.Conv2d(hidden, channels, 1)
        self.squash = squash

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        pooled = spatial_mean(x, keepdim=True)
        return x * SQUASHES[self.squash](self.excite(self.activation(self.squeeze(pooled))))


class EffectiveSqueeze(nn.Module):
    """Squeeze-and-excitation in one layer, without a bottleneck (VoVNetV2, arXiv 1911.06667)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.excite = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        return x * F.hardsigmoid(self.excite(spatial_mean(x, keepdim=True)))


class EfficientChannel(nn.Module):
    """A sigmoid of a short convolution across neighbouring channels' means (arXiv 1910.03151).

    The kernel grows with the channels: about `(log2(C) + 1) / 2`, odd, at least 3.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        taps = int(abs(math.log2(channels) + 1) / 2)
        taps = max(3, taps if taps % 2 else taps + 1)
        self.mix = nn.Conv1d(1, 1, taps, padding=taps // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        shares = torch.sigmoid(self.mix(spatial_mean(x).unsqueeze(1)))
        return x * shares.transpose(1, 2).unsqueeze(3)


class SpatialChannel(nn.Module):
    """The larger of a gate on channels and a gate on pixels (scSE, arXiv 1803.02579)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel = SqueezeExcite(channels, 1 / 2)
        self.pixel = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        return torch.maximum(self.channel(x), x * torch.sigmoid(self.pixel(x)))


class GlobalContext(nn.Module):
    """Adds to every pixel what a softmax over pixels picks out of the map (arXiv 1904.11492)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // 8)
        self.attend = nn.Conv2d(channels, 1, 1)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.norm = ChannelNorm(hidden)
        self.excite = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        weights = self.attend(x).flatten(2).softmax(2)
        picked = (x.flatten(2) @ weights.transpose(1, 2)).unsqueeze(3)
        hidden = torch.relu(self.norm(self.squeeze(picked)))
        y: Tensor = x + self.excite(hidden)
        return y


class ResponseNorm(nn.Module):
    """Global response normalisation (ConvNeXt V2, arXiv 2301.00808).

    `y = x * (gain * n + 1) + shift`, `n` a channel's L2 norm over the channels' mean.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(channels))
        self.shift: nn.Parameter | None = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        quickly = self.training and self.shift is not None and not traced()
        if quickly:
            found: Tensor = _Response.apply(x, self.gain, self.shift, self.eps)  # type: ignore[no-untyped-call]
            return found
        norm = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)
        y: Tensor = x * _factor(norm, self.gain, self.eps)
        return y if self.shift is None else y + self.shift[:, None, None]

    def absorb_shift(self, following: nn.Module) -> bool:
        """Moves the shift into the bias of the 1x1 convolution that follows: `b' = b + W shift`.

        False, and nothing, where something else follows, such as one with an adapter around it.
        """
        if not isinstance(following, nn.Conv2d | nn.Linear):
            return False
        assert self.shift is not None
        weight = following.weight.detach().double().flatten(1)
        bias = weight @ self.shift.detach().double()
        if following.bias is not None:
            bias = bias + following.bias.detach().double()
        following.bias = nn.Parameter(bias.to(following.weight))
        self.shift = None
        return True


_ZERO = 1e-15  # no map has a smaller norm but one of zeros, whose gradient is zero


def _factor(norm: Tensor, gain: Tensor, eps: float) -> Tensor:
    """What `ResponseNorm` multiplies channels of these norms by. `(B, C, 1, 1)` to the same."""
    return gain[:, None, None] * (norm / (norm.mean(1, keepdim=True) + eps)) + 1


def _summed(x: Tensor) -> Tensor:
    """Sums over a map, in float32 at least. `(B, C, H, W)` to `(B, C, 1, 1)`"""
    wide = torch.promote_types(x.dtype, torch.float32)
    return x.sum((2, 3), keepdim=True, dtype=wide)


def _norm(x: Tensor) -> Tensor:
    """`torch.linalg.vector_norm`, whose own takes several times as long on maps channels last.

    Of zeros it is next to none.
    """
    return _summed(x * x).clamp_min(_ZERO**2).sqrt()


class _Response(torch.autograd.Function):
    """`ResponseNorm` in training: half as many passes over its maps as one function after another.

    Maps of fewer bits stay so, their norms and the parameters do not.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, shift: Tensor, eps: float) -> Tensor:
        """The output in the type of `x`."""
        norm = _norm(x)
        factor = _factor(norm, gain, eps)
        ctx.save_for_backward(x, gain, shift, norm, factor)
        ctx.eps = eps
        return torch.addcmul(shift[:, None, None].to(x.dtype), x, factor.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of input, gain and shift."""
        x, gain, shift, norm, factor = ctx.saved_tensors
        if torch.is_grad_enabled():  # gradients of gradients are asked for
            y = x * _factor(_norm(x), gain, ctx.eps) + shift[:, None, None]
            return *torch.autograd.grad(y, (x, gain, shift), grad, create_graph=True), None
        mean = norm.mean(1, keepdim=True) + ctx.eps
        along = _summed(grad * x)
        of_norm = along * gain[:, None, None] / mean
        of_norm -= (of_norm * norm).mean(1, keepdim=True) / mean
        dx = grad * factor.to(grad.dtype)
        dx.addcmul_(x, (of_norm / norm).where(norm > _ZERO, 0.0).to(grad.dtype))
        return dx, (along * norm / mean).sum((0, 2, 3)), grad.sum((0, 2, 3)), None


GATES = ("none", "se", "eca", "ese", "scse", "gc", "grn")


def make_gate(
    name: str, channels: int, ratio: float = 1 / 16, hidden: int | None = None
) -> nn.Module:
    """A gate of `channels` maps by name; the bottleneck of `se` has their `ratio`, or `hidden`.

    Raises: NasError for another name.
    """
    gates: dict[str, Callable[[], nn.Module]] = {
        "none": nn.Identity,
        "se": lambda: SqueezeExcite(channels, ratio, hidden or max(1, round(channels * ratio))),
        "eca": lambda: EfficientChannel(channels),
        "ese": lambda: EffectiveSqueeze(channels),
        "scse": lambda: SpatialChannel(channels),
        "gc": lambda: GlobalContext(channels),
        "grn": lambda: ResponseNorm(channels),
    }
    if name not in gates:
        raise unknown("gate", name, GATES)
    return gates[name]()
