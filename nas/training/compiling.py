"""A network compiled for its training, where what is left of it is long enough to repay that.

A few steps are timed as the network is. Where the rest, up to the next rung, would take longer
than `REPAID_S`, the network is compiled (`torch.compile`, for one shape of batches), a few steps
are timed so, and the faster of both does the rest. Every step timed is one of the training's own.

On a processor that is done only where a recipe says `always`: compiling a network of a hundred
operators took more than ten minutes of a busy core, longer than a worker may be silent.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

REPAID_S = 600.0
QUICK = ("cuda",)  # devices whose compiler takes a minute, not ten
TIMED = 5  # steps of each form
WORTH = 1.05  # times faster that a compiled step must be
# No graph of another process is loaded, and no pool of processes is begun inside a worker
_OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {
    "fx_graph_cache": False,
    "compile_threads": 1,
    "fallback_random": True,  # what is dropped is as uncompiled: some steps of a training are
}


class Forward:
    """Calls a network in its training, compiled once that pays.

    Args:
        module: the network; its weights are those that are trained, either way.
        mode: as `Recipe.compiled` has it; `always` compiles whatever it takes.
    """

    def __init__(self, module: nn.Module, mode: str) -> None:
        self.left = 0  # steps up to the next rung, as its caller knows
        self._module = module
        self._always = mode == "always"
        self._settled = mode == "never"
        self._compiled: Callable[[Tensor], Any] | None = None
        self._shape: torch.Size | None = None
        self._clock = _Clock()
        self._plain_s = 0.0

    def __call__(self, inputs: Tensor) -> Any:
        """The network's output for a batch `(B, C, H, W)`."""
        if not self._settled:
            self._consider(inputs)
        if self._compiled is not None and inputs.shape == self._shape:
            return self._compiled(inputs)
        return self._module(inputs)

    def give_up(self) -> bool:
        """After an error: goes on as the network is; says whether it was compiled till now."""
        failed, self._compiled, self._settled = self._compiled is not None, None, True
        return failed

    def _consider(self, inputs: Tensor) -> None:
        """Times the step that ends here; compiles, or decides, when enough were timed."""
        seconds = self._clock.step(inputs.device)
        if seconds is None:
            return
        if self._compiled is None:
            self._plain_s, self._clock = seconds, _Clock()
            quick = inputs.device.type in QUICK
            if self._always or (quick and self.left * seconds > REPAID_S):
                self._shape = inputs.shape
                self._compiled = torch.compile(self._module, dynamic=False, options=_OPTIONS)
            else:
                self._settled = True
            return
        self._settled = True
        if not self._always and seconds * WORTH > self._plain_s:
            self._compiled = None


class _Clock:
    """The least time from the beginning of one step to that of the next, of `TIMED` steps."""

    def __init__(self) -> None:
        self._began: list[float] = []

    def step(self, device: torch.device) -> float | None:
        """A step begins; the time, once enough have, without the first, which prepares."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self._began.append(time.monotonic())
        if len(self._began) < TIMED + 2:
            return None
        return min(b - a for a, b in itertools.pairwise(self._began[1:]))
