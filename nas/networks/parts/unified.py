"""Unified normalisation: a norm for transformers that is affine once trained (arXiv 2208.01313).

Yang et al. 2022. A batch norm's statistics leap about in transformers; here second moments of the
last few batches are smoothed by their geometric mean, gradients by their arithmetic one, and a
batch that is an outlier is not smoothed. No mean is taken off, so that what is deployed is one
factor and one constant a channel, which neighbours take in.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

WINDOW = 4  # batches whose statistics are smoothed
WARMUP = 4000  # batches until they are
KEPT = 0.9  # share of a running statistic that a batch leaves
RATIO = 5.0  # how far gradients are corrected for the batch's scale beside the running one
FEW = 1000  # batches until that correction, where the warm-up is shorter


class UnifiedNorm(nn.Module):
    """`weight * x / sqrt(second moment + eps) + bias`, of each channel.

    While it trains the moment is the batch's, after the warm-up the geometric mean of the last
    four; in evaluation it is the running one. The statistics are part of the state. A training of
    fewer steps than the warm-up never smooths.

    Args:
        channels: how many.
        axis: where they are: 1 in maps, -1 in rows of tokens.
        warmup: batches.
    """

    running_var: Tensor
    running_product: Tensor
    steps: Tensor
    moments: Tensor
    products: Tensor

    def __init__(
        self, channels: int, axis: int = 1, eps: float = 1e-5, warmup: int = WARMUP
    ) -> None:
        super().__init__()
        self.axis, self.eps, self.warmup = axis, eps, warmup
        self.momentum: float | None = 1 - KEPT
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("running_product", torch.zeros(channels))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("moments", torch.zeros(WINDOW, channels))
        self.register_buffer("products", torch.zeros(WINDOW, channels))

    def forward(self, x: Tensor) -> Tensor:
        """`x`, with its channels on `axis`, to the same shape."""
        if not self.training:
            factor = self.weight * (self.running_var + self.eps).rsqrt()
            return x * self._along(factor, x) + self._along(self.bias, x)
        y = x.movedim(self.axis, -1)
        z: Tensor = _Normalised.apply(y, self.weight, self.bias, self)  # type: ignore[no-untyped-call]
        return z.movedim(-1, self.axis)

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"{len(self.weight)}, axis={self.axis}, warmup={self.warmup}"

    def reset_running_stats(self) -> None:
        """Forgets the running moment; the next batches are the only ones it knows."""
        self.running_var.fill_(1.0)
        self.steps.zero_()

    def _along(self, values: Tensor, x: Tensor) -> Tensor:
        shape = [1] * x.dim()
        shape[self.axis] = -1
        return values.view(shape)

    @torch.no_grad()
    def moment(self, square: Tensor) -> tuple[Tensor, Tensor, bool]:
        """What a batch whose second moment is `square` is divided by, squared.

        Also the factor that its gradients are corrected by, and whether it was smoothed. Without a
        momentum the running moment is the plain mean of the batches since it was reset.
        """
        self.steps += 1
        count, slot = int(self.steps), int(self.steps) % WINDOW
        spread = self.moments.sqrt().var()
        self.moments[slot] = square
        outlier = count >= self.warmup and bool((away(self.moments) > WINDOW * spread).any())
        if outlier:
            self.moments[slot] = self.running_var
        smoothed = count > WINDOW and count >= self.warmup and not outlier
        moment = geometric(self.moments) if smoothed else square
        ratio = torch.ones_like(moment)
        if smoothed and count > max(FEW, self.warmup):
            ratio = ((moment + self.eps) / (self.running_var + self.eps)).sqrt()
            ratio = ratio.clamp(1 / RATIO, RATIO)
        self.running_var.lerp_(moment, 1 / count if self.momentum is None else self.momentum)
        return moment, ratio, not outlier

    @torch.no_grad()
    def product(self, batch: Tensor, smooth: bool) -> Tensor:
        """What stands for the mean of gradient times output, of which `batch` is this batch's."""
        count, slot = int(self.steps), int(self.steps) % WINDOW
        self.products[slot] = batch if smooth else self.running_product
        smoothed = count > WINDOW and count >= self.warmup and smooth
        mean = self.products.mean(0) if smoothed else batch
        self.running_product.lerp_(mean, 1 - KEPT)
        return self.running_product.clone() if smooth else mean


def geometric(moments: Tensor) -> Tensor:
    """The geometric mean of each column of `(M, C)`.

    >>> geometric(torch.tensor([[1.0], [4.0]]))
    tensor([2.])
    """
    return moments.log().mean(0).exp()


def away(moments: Tensor) -> Tensor:
    """By how much the arithmetic mean of each column is above the geometric one."""
    return moments.mean(0) - geometric(moments)


class _Normalised(torch.autograd.Function):
    """The norm of `(..., C)` in training, with the gradient that its statistics smooth."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: UnifiedNorm) -> Tensor:
        """Normalises by the norm's smoothed moment."""
        square = x.detach().square().flatten(0, -2).mean(0)
        moment, ratio, smooth = norm.moment(square.to(norm.running_var))
        scale = (moment + norm.eps).rsqrt().to(x)
        z = x * scale
        ctx.save_for_backward(z, scale, weight, ratio.to(x))
        ctx.norm, ctx.smooth = norm, smooth
        return z * weight.to(x) + bias.to(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """The gradient of the input, with the smoothed mean in place of the batch's own."""
        [grad] = grads
        z, scale, weight, ratio = ctx.saved_tensors
        across = tuple(range(grad.dim() - 1))
        inner = grad * weight.to(grad) * ratio
        batch = (inner * z).mean(across)
        mean = ctx.norm.product(batch.to(ctx.norm.running_product), ctx.smooth).to(grad)
        return (
            (inner - mean * z) * scale,
            (grad * ratio * z).sum(across).to(weight),
            grad.sum(across).to(weight),
            None,
        )
