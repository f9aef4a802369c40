"""Batches that grow while a network is trained, as far as a norm test asks (AdAdaGrad).

Lau, Liu & Kolar (arXiv 2402.11215), after Byrd et al. 2012: where the gradient's noise is large
beside the gradient, a larger batch is taken from then on, and never a smaller one again. The
learning rate follows the examples seen and not the batch: a tenth of them to warm up, then a cosine
down to a tenth of the highest rate. An optimizer that adapts each weight's step (AdaGrad) is what
stands in for scaling the rate with the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nas.core.errors import NasError

BOUND = 0.5  # eta of the authors' residual networks on CIFAR-10 under AdaGrad
RATE, FLOOR, WARMUP = 0.05, 0.1, 0.1  # likewise
PARTS = 4  # gradients that the noise is told from, at least
GROWN = "growth_batches"  # the buffer that says how many of the recipe's batches a step takes


def remember(module: nn.Module) -> None:
    """Gives a module the memory that growing batches need: how many make a step so far."""
    if not hasattr(module, GROWN):
        device = next(module.parameters()).device
        module.register_buffer(GROWN, torch.ones((), dtype=torch.int64, device=device))


class Growth:
    """How many of a recipe's batches make a step, and the gradients that decide it.

    A step's gradient is the mean of its parts'; their spread tells an example's variance, as the
    spread between workers does in the authors' distributed form. A part is a batch of the recipe,
    less while a step is of fewer than four of them.

    Args:
        module: in training; it remembers how far its batches have grown.
        bound: eta. A batch is large enough where the variance of an example's gradient is at most
            `eta^2 * |mean gradient|^2` times its size.
    """

    def __init__(self, module: nn.Module, bound: float) -> None:
        remember(module)
        self.module, self.bound = module, bound
        self._mean: list[Tensor] = []
        self._squares: list[Tensor] = []
        self._size = 0

    @property
    def batches(self) -> int:
        """How many of the recipe's batches the next step takes."""
        return int(getattr(self.module, GROWN))

    def parts(self, inputs: Tensor, target: Any) -> list[tuple[Tensor, Any]]:
        """A batch in equal parts: at least two examples each, enough for four in a step.

        Raises: NasError where targets cannot be parted, being no tensor.
        """
        wanted = math.ceil(PARTS / self.batches)
        count = next(n for n in range(min(wanted, max(1, len(inputs) // 2)), 0, -1)
                     if len(inputs) % n == 0)  # fmt: skip
        if count == 1:
            return [(inputs, target)]
        if not isinstance(target, Tensor):
            raise NasError("growing batches are parted, and these targets are no tensor",
                           "choose recipe.batch = fixed")  # fmt: skip
        return list(zip(inputs.chunk(count), target.chunk(count), strict=True))

    def gather(self, parameters: list[nn.Parameter], size: int) -> None:
        """Takes the gradients of a part of `size` examples from the parameters."""
        found = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        for parameter in parameters:
            parameter.grad = None
        self._size = size
        self._squares.append(torch.stack([g.square().sum() for g in found]).sum())
        if self._mean:
            torch._foreach_add_(self._mean, found)
        else:
            self._mean = found

    def settle(self, parameters: list[nn.Parameter], batch: int) -> None:
        """Leaves the step's gradient in the parameters, and grows where the test says so.

        `batch` is the recipe's.
        """
        count = len(self._squares)
        torch._foreach_div_(self._mean, float(count))
        for parameter, mean in zip(parameters, self._mean, strict=True):
            parameter.grad = mean
        if count > 1:
            length = float(torch.stack([m.square().sum() for m in self._mean]).sum())
            variance = example_variance(torch.stack(self._squares).tolist(), length, self._size)
            wanted = norm_test(variance, length, self.bound)
            if math.isfinite(wanted):
                grown = getattr(self.module, GROWN)
                grown.fill_(max(int(grown), math.ceil(wanted / batch)))
        self._mean, self._squares = [], []


def example_variance(squares: Sequence[float], length: float, size: int) -> float:
    """The variance of one example's gradient, summed over all weights, from a step's parts.

    Args:
        squares: of the norms of the parts' gradients. length: the square of their mean's norm.
        size: examples in a part.

    >>> example_variance([1.0, 1.0], length=0.0, size=3)  # two opposite ones
    6.0
    """
    count = len(squares)
    return size * (sum(squares) - count * length) / (count - 1)


def norm_test(variance: float, length: float, bound: float) -> float:
    """How many examples a batch needs, `variance / (bound^2 * length)`.

    Args:
        variance: of one example's gradient, summed over all weights. length: the square of the
            mean gradient's norm. bound: eta.

    >>> norm_test(variance=2.0, length=0.5, bound=0.5)
    16.0
    """
    return max(0.0, variance) / (bound**2 * length) if length > 0 else math.inf
