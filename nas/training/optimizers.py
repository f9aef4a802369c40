"""Optimizers that torch has not: Adam's two moments, put to other uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class _Moments(torch.optim.Optimizer):
    """A mean of each gradient and of a square, both running, corrected for their start.

    Args:
        params: as every optimizer takes them.
        lr, betas, eps, weight_decay: as AdamW's; `eps` by default as the paper has it.
    """

    EPS = 1e-8

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float | None = None,
        weight_decay: float = 0.01,
    ) -> None:
        eps = self.EPS if eps is None else eps
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what the closure returns."""
        found = None
        if closure is not None:
            with torch.enable_grad():
                found = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return found

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        raise NotImplementedError

    def _kept(self, parameter: Tensor) -> tuple[float, Tensor, Tensor]:
        """The steps so far, this one included, and the two moments before it."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        return float(state["step"]), state["exp_avg"], state["exp_avg_sq"]


class AdaBelief(_Moments):
    """Steps as long as the gradient is as expected (Zhuang et al., arXiv 2010.07468).

    The second moment is of the gradient's distance from its own mean. Decay is decoupled, as in
    AdamW; `eps` is added to the second moment at every step, and to its root.
    """

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        (first, second), (count, mean, spread) = group["betas"], self._kept(parameter)
        mean.lerp_(gradient, 1 - first)
        away = gradient - mean
        spread.mul_(second).addcmul_(away, away, value=1 - second).add_(group["eps"])
        root = (spread / (1 - second**count)).sqrt().add_(group["eps"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.addcdiv_(mean, root, value=-group["lr"] / (1 - first**count))


class Lamb(_Moments):
    """Adam, whose step of each tensor is as long as the tensor, times the rate (arXiv 1904.00962).

    Decay is part of the step before its length is taken. Tensors without decay (norms, biases)
    keep Adam's length, as in the optimizer that ResNet strikes back was trained with.
    """

    EPS = 1e-6

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        (first, second), (count, mean, square) = group["betas"], self._kept(parameter)
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        root = (square / (1 - second**count)).sqrt().add_(group["eps"])
        step = mean / (1 - first**count) / root
        decay = group["weight_decay"]
        if decay:
            step.add_(parameter, alpha=decay)
            own, length = parameter.norm(), step.norm()
            trusted = torch.where((own > 0) & (length > 0), own / length, torch.ones_like(own))
            step.mul_(trusted)
        parameter.add_(step, alpha=-group["lr"])
