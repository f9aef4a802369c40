"""What published recipes add: weights of examples, orthogonal kernels, other targets, drops.

What is added to the loss is an `Addition` (`nas.transforms.stages`); the axis `recipe` chooses
among them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.core.errors import NasError
from nas.networks.mixers.depthwise import Depthwise
from nas.networks.parts.residual import DropPath
from nas.transforms.stages import Addition, Criterion

ALPHA = BETA = 0.3  # published
SPREAD = "bias_loss_spread"  # the buffer with the smallest and the largest variance seen


# --- bias loss (Abrahamyan et al., arXiv 2107.11170) ----------------------------------------------


def prepare_bias_loss(module: nn.Module) -> None:
    """Gives a module the memory that the bias loss needs: the range of variances so far."""
    module.register_buffer(SPREAD, torch.tensor([torch.inf, -torch.inf]))


def bias_loss(network: nn.Module) -> Addition:
    """Cross-entropy in which examples whose last maps vary little count for less.

    An example's factor is `exp(0.3 * v) - 0.7`, `v` the variance of the last convolution's output,
    scaled to [0, 1] by the smallest and largest seen so far; no gradient goes through it.
    """
    seen: dict[str, Tensor] = {}

    def note(_: nn.Module, __: Any, output: Tensor) -> None:
        if output.dim() == 4:
            seen["last"] = output.detach()

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | Depthwise):
            layer.register_forward_hook(note)  # `train` takes it off again

    def wrap(_: Criterion) -> Criterion:
        def loss(module: nn.Module, inputs: Tensor, target: Any) -> Tensor:
            output = module(inputs)
            if "last" not in seen or not isinstance(target, Tensor) or target.dim() != 1:
                raise NasError(
                    "the bias loss weighs images by their last maps, and classes are its targets",
                    "choose recipe.loss = plain for a network without convolutions",
                )
            # of a mixed batch the network answers once, and is asked for two targets
            variance = seen["last"].float().flatten(1).var(1)
            spread = getattr(network, SPREAD)
            spread.copy_(torch.stack([
                torch.minimum(spread[0], variance.min()), torch.maximum(spread[1], variance.max())
            ]))  # fmt: skip
            scaled = (variance - spread[0]) / (spread[1] - spread[0]).clamp(min=1e-12)
            each = F.cross_entropy(output, target, reduction="none")
            return (example_weights(scaled) * each).mean()

        return loss

    return Addition(criterion=wrap)


def example_weights(scaled: Tensor) -> Tensor:
    """The bias loss's factor of each example, of its variance in [0, 1].

    >>> [round(float(w), 3) for w in example_weights(torch.tensor([0.0, 1.0]))]
    [0.3, 0.65]
    """
    return torch.exp(BETA * scaled) - 1.0 + ALPHA


# --- binary cross-entropy (ResNet strikes back, arXiv 2110.00476) ---------------------------------


def binary_loss() -> Addition:
    """Each class asked for by itself: binary cross-entropy with one-hot targets, mean of all."""

    def wrap(_: Criterion) -> Criterion:
        def loss(module: nn.Module, inputs: Tensor, target: Any) -> Tensor:
            output: Tensor = module(inputs)
            if isinstance(target, Tensor) and target.dim() == 1:
                target = F.one_hot(target, output.shape[1])
            return F.binary_cross_entropy_with_logits(output, target.to(output))

        return loss

    return Addition(criterion=wrap)


# --- orthogonal convolutions (Achour et al., arXiv 2108.05623) ------------------------------------


def orthogonality(module: nn.Module, strength: float) -> Addition:
    """Adds `strength` times how far the kernels are from orthogonal, the first layer's left out."""
    layers = [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.groups == 1][1:]

    def wrap(before: Criterion) -> Criterion:
        def loss(module: nn.Module, inputs: Tensor, target: Any) -> Tensor:
            found = before(module, inputs, target)
            for layer in layers:
                found = found + strength * apart(layer.weight, layer.stride[0])
            return found

        return loss

    return Addition(criterion=wrap)


def apart(weight: Tensor, stride: int) -> Tensor:
    """How far a convolution `(M, C, k, k)` is from orthogonal: a norm, 0 where it is.

    `||conv(K, K, padding P, stride S) - I||` over all displacements at which two kernels meet in
    strides of S, `P = floor((k - 1) / S) * S`: with a smaller padding the displacement 0 is never
    looked at. Where there are more kernels than inputs that they could span, columns are meant and
    what cannot be avoided is taken off. For 1x1 kernels it is `||W W^T - I||` of the shorter side.
    """
    outputs, inputs, taps, _ = weight.shape
    if taps == 1:
        rows = weight.flatten(1)
        rows = rows if outputs <= inputs else rows.T
        unit = torch.eye(len(rows), dtype=weight.dtype, device=weight.device)
        distance: Tensor = torch.linalg.vector_norm(rows @ rows.T - unit)
        return distance
    padding = (taps - 1) // stride * stride
    meet = F.conv2d(weight, weight, None, stride, padding)
    target = torch.zeros_like(meet)
    centre = meet.shape[-1] // 2
    target[:, :, centre, centre] = torch.eye(outputs, dtype=weight.dtype, device=weight.device)
    excess = max(0, outputs - stride**2 * inputs)
    squared = (meet - target).square().sum() - excess
    return squared.clamp(min=1e-12).sqrt()


# --- how often branches and numbers are dropped ---------------------------------------------------


def regularise(module: nn.Module, drop_path: float, dropout: float) -> list[str]:
    """Sets how often a network drops; 0 leaves what it was built with. Returns what it cannot.

    Args:
        drop_path: chance that the last block's branch is dropped; earlier ones in proportion
            (Huang et al., arXiv 1603.09382).
        dropout: of its last `Dropout`.
    """
    paths = [m for m in module.modules() if isinstance(m, DropPath)]
    drops = [m for m in module.modules() if isinstance(m, nn.Dropout)]
    if drop_path:
        for i, path in enumerate(paths):
            path.rate = drop_path * i / max(1, len(paths) - 1)
    if dropout and drops:
        drops[-1].p = dropout
    said = ["stochastic depth: the network has no branch to drop"] * bool(drop_path and not paths)
    return said + ["dropout: the network has no such layer"] * bool(dropout and not drops)
