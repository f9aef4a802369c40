"""Polyhistor: adapters of several tasks, made by one small network from what a task is.

Liu et al. 2022 (arXiv 2210.03265). Theirs: a hyper-network takes an embedding of the task and of
the layer; it is a product of thin matrices; it makes a small template, and each layer's scaling
kernel makes the template as wide as the layer, so that one hyper-network serves every width of a
hierarchical network. No source gives shapes. Ours: the template has as many channels as all adapted
layers' widths have in common (their greatest common divisor), and is widened by a Kronecker product
with the layer's scaling kernel; the embeddings have 8 numbers and the thin matrices 4 rows.

A task with several `parts` has one image and one answer for each part. The network runs once for
each, with that part's adapters, and each run gives its slice of the outputs. What another task
would add is its embedding and its slice of the head. Deployed, the made weights are constants; the
adapters have an activation, so they stay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nas.core.errors import NasError
from nas.transforms.adapt.adapted import Adapted, Part
from nas.transforms.adapt.beside import Beside, channels_last_axis
from nas.transforms.adapt.seen import Layer

EMBEDDED, THIN = 8, 4


class Templates(Part):
    """Makes two templates, down `(hidden, C0)` and up `(C0, hidden)`, for a task and a layer.

    Args:
        tasks, layers: how many there are. hidden: of every adapter. channels: C0.
    """

    def __init__(self, tasks: int, layers: int, hidden: int, channels: int) -> None:
        super().__init__()
        self.hidden, self.channels = hidden, channels
        self.tasks = nn.Parameter(torch.randn(tasks, EMBEDDED))
        self.layers = nn.Parameter(torch.randn(layers, EMBEDDED))
        size = hidden * channels
        self.into = nn.Parameter(torch.randn(2, 2 * EMBEDDED, THIN) / math.sqrt(2 * EMBEDDED))
        self.down = nn.Parameter(torch.randn(THIN, size) / math.sqrt(THIN * channels))
        self.up = nn.Parameter(torch.zeros(THIN, size))

    def forward(self, task: int, layer: int) -> tuple[Tensor, Tensor]:
        """The templates of one adapter."""
        what = torch.cat([self.tasks[task], self.layers[layer]])
        down, up = what @ self.into[0] @ self.down, what @ self.into[1] @ self.up
        return down.view(self.hidden, self.channels), up.view(self.channels, self.hidden)


class Made(Part):
    """A serial bottleneck whose weights are made for the task at hand.

    Args:
        templates: the network's one hyper-network; not a part of this.
        number: this layer's. channels: of what it takes, a multiple of the templates'.
        maps: whether that is maps `(B, C, H, W)`.
    """

    def __init__(self, templates: Templates, number: int, channels: int, maps: bool) -> None:
        super().__init__()
        self.number, self.maps = number, maps
        self.task = 0
        times = channels // templates.channels
        self.widen = nn.Parameter(torch.ones(2, times))
        self._templates = [templates]  # in a list, so that it is registered in one place

    def weights(self, task: int) -> tuple[Tensor, Tensor]:
        """Down `(hidden, C)` and up `(C, hidden)`."""
        down, up = self._templates[0](task, self.number)
        wide = self.widen[0, None, :, None] * down[:, None]
        tall = self.widen[1, :, None, None] * up
        return wide.flatten(1), tall.flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return _through(x, *self.weights(self.task), self.maps)


class Constant(Part):
    """The same bottleneck with the weights of every task made once and for all."""

    down: Tensor
    up: Tensor

    def __init__(self, made: Made, tasks: int) -> None:
        super().__init__()
        self.maps = made.maps
        self.task = 0
        pairs = [made.weights(task) for task in range(tasks)]
        self.register_buffer("down", torch.stack([d.detach() for d, _ in pairs]))
        self.register_buffer("up", torch.stack([u.detach() for _, u in pairs]))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return _through(x, self.down[self.task], self.up[self.task], self.maps)


def _through(x: Tensor, down: Tensor, up: Tensor, maps: bool) -> Tensor:
    last = x.movedim(1, -1) if maps else x
    moved = torch.relu(last @ down.T) @ up.T
    return x + (moved.movedim(-1, 1) if maps else moved)


class Several(Adapted):
    """A network that is run once for each of several tasks, with that task's adapters.

    Args:
        parts: how many of the outputs are each task's, in order.
        templates: the hyper-network.
    """

    def __init__(
        self, network: nn.Module, head: str, parts: Sequence[int], templates: Templates
    ) -> None:
        super().__init__(network, head)
        self.parts = tuple(parts)
        self.templates = templates

    def forward(self, x: Tensor) -> Tensor:
        """`(B, ...)` to `(B, outputs)`, the tasks' outputs one after the other."""
        return answered(self.network, self.parts, x)

    def extra_bytes(self) -> int:
        """What another task adds: its embedding, and its share of the head."""
        head = self.network.get_submodule(self.head)
        held = sum(p.numel() * p.element_size() for p in head.parameters()) / len(self.parts)
        return round(EMBEDDED * self.templates.tasks.element_size() + held)


class Answering(nn.Module):
    """The deployed form: a run for each task, with constants."""

    def __init__(self, network: nn.Module, parts: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.parts = tuple(parts)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, ...)` to `(B, outputs)`."""
        return answered(self.network, self.parts, x)


def answered(network: nn.Module, parts: Sequence[int], x: Tensor) -> Tensor:
    """Each task's slice of the outputs, from a run with its own adapters."""
    found, start = [], 0
    adapters = [m for m in network.modules() if isinstance(m, Made | Constant)]
    for task, size in enumerate(parts):
        for adapter in adapters:
            adapter.task = task
        found.append(network(x)[:, start : start + size])
        start += size
    return torch.cat(found, 1)


def several(
    network: nn.Module, head: str, layers: Sequence[Layer], parts: Sequence[int], hidden: int
) -> tuple[Several, list[str]]:
    """Puts made adapters behind layers, and says where."""
    axes = [_axis(network.get_submodule(layer.path), layer) for layer in layers]
    widths = [layer.output[axis] for layer, axis in zip(layers, axes, strict=True)]
    if not widths:
        raise NasError("no residual branch to put Polyhistor's adapters behind", "leave it out")
    templates = Templates(len(parts), len(layers), hidden, math.gcd(*widths))
    whole = Several(network, head, parts, templates)
    said = []
    for number, (layer, axis, width) in enumerate(zip(layers, axes, widths, strict=True)):
        made = Made(templates, number, width, maps=axis == 1)
        network.set_submodule(layer.path, Beside(network.get_submodule(layer.path), behind=made))
        said.append(f"{layer.path}: an adapter of {hidden}, made for each task")
    return whole, said


def _axis(module: nn.Module, layer: Layer) -> int:
    return -1 if channels_last_axis(module, layer.output) else 1


def constant(whole: Several) -> Answering:
    """The deployed form, in place of the made adapters constants."""
    for module in list(whole.network.modules()):
        if isinstance(module, Beside) and isinstance(module.behind, Made):
            module.behind = Constant(module.behind, len(whole.parts))
    return Answering(whole.network, whole.parts)
