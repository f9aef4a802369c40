"""What one more task costs in bytes: what was trained for it and is not in the shared network."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas.transforms.adapt.adapted import Adapted


@runtime_checkable
class Shares(Protocol):
    """A network in which tasks share some of what is trained."""

    def extra_bytes(self) -> int:
        """What one more task adds."""


def task_bytes(module: nn.Module) -> int:
    """Bytes that must be stored for each task, of a network in its training form.

    They are its trained parameters, each once, and the running statistics of batch norms that move
    in training. What is drawn from a seed, or follows from the shared weights (random features,
    masks, which entries are the smallest), is made again. Merging is done where the task is used:
    what is stored are the parameters as they were trained, in their own precision.

    >>> task_bytes(nn.Linear(3, 2))
    32
    """
    if isinstance(module, Shares):
        return module.extra_bytes()
    held = [p for p in module.parameters() if p.requires_grad]
    if not isinstance(module, Adapted):
        norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
        moving = [b for m in norms for b in m.buffers() if b.is_floating_point()]
        held += moving  # type: ignore[arg-type]
    return sum(t.numel() * t.element_size() for t in held)
