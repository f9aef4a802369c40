"""AdaBelief: steps as long as the gradient is as expected (Zhuang et al., arXiv 2010.07468)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class AdaBelief(torch.optim.Optimizer):
    """Adam, whose second moment is of the gradient's distance from its own mean.

    Decay is decoupled, as in AdamW. Both moments are corrected for their start; `eps` is added to
    the second one at every step, and to its root.

    Args:
        params: as every optimizer takes them.
        lr, betas, eps, weight_decay: as AdamW's.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
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
            state["exp_avg_var"] = torch.zeros_like(parameter)
        state["step"] += 1
        count, (first, second) = float(state["step"]), group["betas"]
        mean, spread = state["exp_avg"], state["exp_avg_var"]
        mean.lerp_(gradient, 1 - first)
        away = gradient - mean
        spread.mul_(second).addcmul_(away, away, value=1 - second).add_(group["eps"])
        root = (spread / (1 - second**count)).sqrt().add_(group["eps"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.addcdiv_(mean, root, value=-group["lr"] / (1 - first**count))
