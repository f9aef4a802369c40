"""Dyn-Adapter: early heads that learn beside the adapters, and leaving at one of them.

Zhang et al. 2024 (ECCV, arXiv 2407.14302) publish neither code nor constants. Theirs: heads at
evenly spaced depths; heavier ones at the shallow exits, lighter ones at the deep (balanced); early
exits' share of the loss falls while the late ones' grows; sparsity both ways, a larger dropout in
shallow adapters forwards, a random mask on adapters' gradients backwards; an example leaves at the
first exit whose largest probability is above a threshold. Our choices: features are means over
places behind a layer norm; in the first half of the depth a head is a perceptron of half the width,
later one linear layer; the weights of `balance`; drop rates falling linearly with depth to zero.

What is deployed leaves at one fixed exit: one graph, without branches, whose time does not depend
on the example. What leaving by confidence would bring is counted on the validation images, for many
thresholds, from one trained network (`sweep`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nas.core.errors import NasError
from nas.core.task import Task
from nas.transforms.adapt.adapted import Adapted, Part, put
from nas.transforms.adapt.beside import own_or
from nas.transforms.adapt.seen import Block, Seen

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
Loss = Callable[[nn.Module, Tensor, Any], Tensor]


class EarlyHead(Part):
    """From a block's output to the task's outputs.

    Args:
        channels, outputs: of what it takes and returns.
        axis: of the channels; means are taken over every axis behind the batch but this.
        deep: a linear layer alone; else a perceptron of half the width.
    """

    def __init__(self, channels: int, outputs: int, axis: int, deep: bool) -> None:
        super().__init__()
        self.axis = axis
        self.norm = nn.LayerNorm(channels)
        hidden = max(1, channels // 2)
        self.layers = nn.Linear(channels, outputs) if deep else nn.Sequential(
            nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, outputs)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """`(B, ..., C, ...)` to `(B, outputs)`."""
        places = [a for a in range(1, x.dim()) if a != self.axis % x.dim()]
        found: Tensor = self.layers(self.norm(x.mean(places) if places else x))
        return found


class Dynamic(Adapted):
    """An adapted network with early heads.

    Args:
        head: path of the network's own.
        behind: for each quarter of the multiply-adds, the block that its early head is behind.
        axis: says of a block which axis its output has its channels on.
        outputs: of every head.
    """

    progress: Tensor

    def __init__(
        self, network: nn.Module, head: str, behind: Mapping[int, Block],
        axis: Callable[[Block], int], outputs: int,
    ) -> None:  # fmt: skip
        super().__init__(network, head)
        blocks = list(dict.fromkeys(behind.values()))
        self.exits = tuple(block.path for block in blocks)
        self.of_quarter = {quarter: blocks.index(block) for quarter, block in behind.items()}
        depth = len(blocks) + 1
        self.heads = nn.ModuleList(
            EarlyHead(block.output[axis(block)], outputs, axis(block), deep=2 * (i + 1) > depth)
            for i, block in enumerate(blocks)
        )
        self.register_buffer("progress", torch.zeros(()))
        self.said: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """What the last head answers; in training, `said` has what the others did."""
        if not self.training:
            return super().forward(x)
        *self.said, last = self.answers(x)
        return last

    def answers(self, x: Tensor) -> list[Tensor]:
        """What every head answers, the first exit's first."""
        said: list[Tensor] = []

        def heard(head: nn.Module) -> Any:
            return lambda block, inputs, output: said.append(head(first(output)))

        hooks = [
            self.network.get_submodule(path).register_forward_hook(heard(head))
            for path, head in zip(self.exits, self.heads, strict=True)
        ]
        try:
            last = self.network(x)
        finally:
            for hook in hooks:
                hook.remove()
        return [*said, last]


def first(output: Any) -> Tensor:
    """The first tensor of what a block returns."""
    found: Tensor = output if isinstance(output, Tensor) else output[0]
    return found


def placed(seen: Seen, quarters: Sequence[int]) -> dict[int, Block]:
    """For each quarter of the multiply-adds, the block behind which its early head is.

    That is the last block that ends before the quarter does, never the network's last; in a network
    of few blocks two quarters may have the same.

    Raises: NasError where there is no such block.
    """
    found = {}
    for quarter in quarters:
        before = [block for block in seen.blocks[:-1] if block.section < quarter]
        if before or len(seen.blocks) > 1:
            found[quarter] = before[-1] if before else seen.blocks[0]
    if not found:
        raise NasError(
            "an early head is put behind a residual block, and the network has none before its end",
            "leave early heads out for this network: adapter.heads = 0",
        )
    return found


def balance(share: float, count: int) -> list[float]:
    """The weights of the losses of `count` heads, the network's own last; their sum is 1.

    They begin falling with depth and end rising with it, linearly in the share of the training
    that is over: the paper's property, our line.

    >>> [round(w, 2) for w in balance(0.0, 3)], [round(w, 2) for w in balance(1.0, 3)]
    ([0.5, 0.33, 0.17], [0.17, 0.33, 0.5])
    """
    raw = [(1 - share) * (count - i) + share * (i + 1) for i in range(count)]
    return [w / sum(raw) for w in raw]


class Said(nn.Module):
    """Stands in for a network that has answered already."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor) -> Tensor:
        """The answer."""
        return self.output


def balanced(loss: Loss) -> Loss:
    """The loss of every head, weighted by `balance`."""

    def total(module: nn.Module, inputs: Tensor, target: Any) -> Tensor:
        if not isinstance(module, Dynamic):
            return loss(module, inputs, target)
        last = loss(module, inputs, target)
        said, module.said = module.said, []
        weights = balance(float(module.progress), len(said) + 1)
        early = [loss(Said(output), inputs, target) for output in said]
        return torch.stack([w * one for w, one in zip(weights, [*early, last], strict=True)]).sum()

    return total


def advance(module: nn.Module, share: float) -> None:
    """Tells a network how much of its training is over; it keeps that with its checkpoints."""
    assert isinstance(module, Dynamic)
    module.progress.fill_(share)


def masked_gradients(module: nn.Module, share: float) -> None:
    """Leaves a share of each adapter's gradient out, drawn anew every step; heads keep theirs."""

    def mask(gradient: Tensor) -> Tensor:
        return gradient * (torch.rand_like(gradient) >= share) / (1 - share)

    for part in module.modules():
        if isinstance(part, Part) and not isinstance(part, EarlyHead):
            for parameter in part.parameters():
                if parameter.requires_grad:
                    parameter.register_hook(mask)  # type: ignore[no-untyped-call]


class _Left(Exception):
    """Carries the answer of an early head out of the network."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output


class _Exit(nn.Module):
    """A block behind which the network is left."""

    def __init__(self, block: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.head = head

    def __getattr__(self, name: str) -> Any:
        """What this does not have itself is the block's."""
        return own_or(self, name, "block")

    def forward(self, x: Tensor, *rest: Any, **named: Any) -> Tensor:
        raise _Left(self.head(first(self.block(x, *rest, **named))))


class Leaving(nn.Module):
    """A network that is always left at one exit; what would have come after is not in it.

    What lies behind the exit is never run, so it may be of any form; tracing sees the same.

    Args:
        network: changed in place. path: of the block. head: the exit's.
        shape: of one example.
    """

    def __init__(
        self, network: nn.Module, path: str, head: nn.Module, shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        put(network, path, _Exit(network.get_submodule(path), head))
        self.network = network
        self.eval()
        _drop(network, _read(self, shape))

    def forward(self, x: Tensor) -> Tensor:
        """What the early head answers."""
        try:
            self.network(x)
        except _Left as left:
            return left.output
        raise AssertionError("the exit was not reached")


class _Reading(TorchFunctionMode):
    """Which tensors any operation reads."""

    def __init__(self) -> None:
        super().__init__()
        self.read: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in [*args, *(kwargs or {}).values()]:
            listed = value if isinstance(value, tuple | list) else [value]
            self.read |= {id(v) for v in listed if isinstance(v, Tensor)}
        return func(*args, **(kwargs or {}))


def _read(module: nn.Module, shape: tuple[int, ...]) -> set[int]:
    held = next(module.parameters())
    # With gradients on, torch's attention runs the layers it is made of.
    reading = _Reading()
    with reading, torch.enable_grad():
        module(torch.zeros((1, *shape), device=held.device, dtype=held.dtype))
    return reading.read


def _drop(module: nn.Module, read: set[int]) -> None:
    """Takes out every part of which no weight is read."""
    for name, child in list(module.named_children()):
        tensors = [*child.parameters(), *child.buffers()]
        if tensors and not any(id(t) in read for t in tensors):
            setattr(module, name, nn.Identity())
        else:
            _drop(child, read)


@dataclass(frozen=True)
class Swept:
    """What leaving by confidence gives at one threshold.

    Args:
        score: in the task's reported unit. left: share of the examples that leave at each exit,
            the network's own head last. n: how many examples.
    """

    threshold: float
    score: float
    left: tuple[float, ...]
    n: int


def sweep(
    module: Dynamic, task: Task, batches: Iterable[tuple[Tensor, Any]],
    thresholds: Sequence[float] = THRESHOLDS,
) -> list[Swept]:  # fmt: skip
    """Scores a trained network at many thresholds, from one pass over some batches.

    An example leaves at the first exit whose largest softmax probability is above the threshold.
    """
    module.eval()
    sure, right = [], []
    for inputs, target in batches:
        with torch.no_grad():
            answers = module.answers(inputs)
        sure.append(torch.stack([a.softmax(1).amax(1) for a in answers]))
        right.append(torch.stack([task.score(a, target).float() for a in answers]))
    confidence, scores = torch.cat(sure, 1), torch.cat(right, 1)
    return list(_at(confidence, scores, thresholds, task.score_scale))


def _at(
    confidence: Tensor, scores: Tensor, thresholds: Sequence[float], scale: float
) -> Iterator[Swept]:
    heads, count = confidence.shape
    for threshold in thresholds:
        leaves = confidence > threshold
        leaves[-1] = True
        chosen = leaves.int().argmax(0)
        shares = torch.bincount(chosen, minlength=heads) / count
        value = scores.gather(0, chosen[None]).mean()
        yield Swept(threshold, float(value) * scale, tuple(shares.tolist()), count)
