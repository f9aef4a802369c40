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
from torch.utils.flop_counter import FlopCounterMode

from nas.core.errors import NasError
from nas.core.task import Task
from nas.transforms.adapt.adapted import Adapted, Part, parts
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
    of few blocks two quarters may have the same. Where there are no residual blocks, layers that
    multiply stand for them.

    Raises: NasError where there is no layer before the head.
    """
    blocks = list(seen.blocks[:-1]) or [
        Block(layer.path, layer.shape, layer.output, True, layer.section)
        for layer in seen.layers
        if layer.site != "norms"
    ]
    if not blocks:
        raise NasError(
            "the network is nothing but its head: there is nothing an early head could be behind",
            "leave early heads out for this network: adapter.heads = 0",
        )
    found = {}
    for quarter in quarters:
        before = [block for block in blocks if block.section < quarter]
        found[quarter] = before[-1] if before else blocks[0]
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

    adapters = [p for p in parts(module) if not isinstance(p, EarlyHead)]
    for parameter in dict.fromkeys(p for part in adapters for p in part.parameters()):
        if parameter.requires_grad:
            parameter.register_hook(mask)  # type: ignore[no-untyped-call]


class Leaving(nn.Module):
    """A network that is always left at one exit; what would have come after is not in it.

    Modules that run behind the exit are replaced by ones that return zeros of the right shape. What
    the forwards in between still do to those zeros leads to no output, so no exported graph has it.

    Args:
        network: changed in place. path: of the block. head: the exit's.
        shape: of one example.
    """

    def __init__(
        self, network: nn.Module, path: str, head: nn.Module, shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.network = network.eval()
        self.path = path
        self.head = head.eval()
        for behind, template in _behind(network, path, shape).items():
            network.set_submodule(behind, Skipped(template))

    def forward(self, x: Tensor) -> Tensor:
        """What the early head answers."""
        said: list[Tensor] = []
        block = self.network.get_submodule(self.path)
        hook = block.register_forward_hook(lambda _, inputs, output: said.append(first(output)))
        try:
            self.network(x)
        finally:
            hook.remove()
        found: Tensor = self.head(said[0])
        return found


class Skipped(nn.Module):
    """Returns zeros in the shapes that a module returned for one example."""

    def __init__(self, template: Any) -> None:
        super().__init__()
        self.template = template

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Zeros for as many examples as there are in the first tensor."""
        given = next(v for v in (*inputs, *named.values()) if isinstance(v, Tensor))
        return _zeros(self.template, given)


def _zeros(template: Any, given: Tensor) -> Any:
    if isinstance(template, torch.Size):
        batch = given.shape[0] if template[:1] == (1,) else template[0]
        return given.new_zeros((batch, *template[1:]))
    if isinstance(template, tuple | list):
        return type(template)(_zeros(part, given) for part in template)
    return template


def _template(output: Any) -> Any:
    """The shapes of tensors in place of them. Raises: TypeError for what holds others."""
    if isinstance(output, Tensor):
        return output.shape
    if output is None or isinstance(output, bool | int | float):
        return output
    if type(output) in (tuple, list):
        return type(output)(_template(part) for part in output)
    raise TypeError(type(output).__name__)


def _behind(network: nn.Module, exit: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """The outermost modules that run behind an exit and never before, with what they return."""
    before: set[str] = set()
    found: dict[str, Any] = {}
    inside: list[str] = []
    left: list[bool] = []

    def enters(path: str) -> Any:
        def note(module: nn.Module, inputs: Any) -> None:
            if not left:
                before.add(path)
            inside.append(path)

        return note

    def leaves(path: str) -> Any:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            inside.pop()
            if path == exit:
                left.append(True)
            outermost = path not in before and all(p in before for p in inside)
            if left and outermost and isinstance(output, Tensor | tuple | list):
                found[path] = _template(output)

        return note

    hooks = []
    for path, module in network.named_modules():
        hooks.append(module.register_forward_pre_hook(enters(path)))
        hooks.append(module.register_forward_hook(leaves(path)))
    held = next(network.parameters())
    try:
        with torch.no_grad():
            network(torch.zeros((1, *shape), device=held.device, dtype=held.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def paid(module: Dynamic, shape: tuple[int, ...]) -> list[float]:
    """Multiply-adds of one example of `shape` that leaves at each exit, the network's end last.

    The heads that were asked on the way count too.
    """
    held = next(module.parameters())
    example = torch.zeros((1, *shape), device=held.device, dtype=held.dtype)
    found: list[float] = []
    with FlopCounterMode(display=False) as counter, torch.no_grad():

        def note(*_: Any) -> None:
            found.append(counter.get_total_flops() / 2)

        hooks = [head.register_forward_hook(note) for head in module.heads]
        try:
            module.answers(example)
        finally:
            for hook in hooks:
                hook.remove()
        note()
    return found


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
