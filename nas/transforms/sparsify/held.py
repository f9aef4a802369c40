"""Entries that stay zero while a network trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class Held:
    """Parameters whose masked entries are zero: in the weight, its gradient, and the optimizer.

    A mask on the weight alone would let momentum and weight decay move what is masked, and clip the
    gradient's norm by entries that are not there.

    Args:
        masks: each parameter with a function that returns its present mask, true where it lives.
        dense: whether to keep each step's gradient as it was before masking, in `gradients`.
    """

    def __init__(
        self, masks: Sequence[tuple[nn.Parameter, Callable[[], Tensor]]], dense: bool = False
    ) -> None:
        self._masks = list(masks)
        self._optimizer: torch.optim.Optimizer | None = None
        self.gradients: dict[nn.Parameter, Tensor] = {}
        for parameter, mask in self._masks:
            if not parameter.requires_grad:  # frozen by another axis: it has no gradient
                continue
            hook = self._masking(mask, dense)
            parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]

    def begin(self, optimizer: torch.optim.Optimizer) -> None:
        """Takes note of whose memory to hold as well."""
        self._optimizer = optimizer

    @torch.no_grad()
    def hold(self) -> None:
        """Zeroes what is masked."""
        for parameter, mask in self._masks:
            alive = mask()
            parameter.mul_(alive)
            state = self._optimizer.state.get(parameter, {}) if self._optimizer else {}
            for value in state.values():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    value.mul_(alive)

    @torch.no_grad()
    def forget(self) -> None:
        """Starts SGD's momentum anew, of every parameter: it was gathered under another mask."""
        for state in self._optimizer.state.values() if self._optimizer else ():
            momentum = state.get("momentum_buffer")
            if momentum is not None:
                momentum.zero_()

    def _masking(self, mask: Callable[[], Tensor], dense: bool) -> Callable[[Tensor], None]:
        def hook(parameter: Tensor) -> None:
            assert isinstance(parameter, nn.Parameter) and parameter.grad is not None
            if dense:
                self.gradients[parameter] = parameter.grad.detach().clone()
            parameter.grad.mul_(mask())

        return hook
