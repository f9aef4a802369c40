"""LAMB: steps whose length is a share of each layer's own (You et al., arXiv 1904.00962)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Lamb(torch.optim.Optimizer):
    """Adam, whose step of each tensor is as long as the tensor, times the rate.

    Decay is part of the step before its length is taken. Tensors without decay (norms, biases)
    keep Adam's length, as in the optimizer that ResNet strikes back was trained with.

    Args:
        params: as every optimizer takes them.
        lr, betas, eps, weight_decay: as AdamW's.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ) -> None:
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
                    self._move(parameter, group)
        return found

    def _move(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        count, (first, second) = float(state["step"]), group["betas"]
        mean, square = state["exp_avg"], state["exp_avg_sq"]
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
