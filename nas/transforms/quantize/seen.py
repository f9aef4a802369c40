"""What a network's plain layers are to the axis: their order, their multiply-adds, their inputs."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas.networks.parts.merge import BatchNorm
from nas.transforms.fold import fold
from nas.transforms.quantize.learned import LEARNED
from nas.transforms.quantize.plan import Layer, sections_of
from nas.transforms.running import watched

Plain = nn.Conv2d | nn.Linear
ALIKE = 1e-3  # how far apart rounding in float32 leaves what is the same factor


@dataclass(frozen=True)
class Call:
    """A plain layer, by its path, and what its first call was given and made."""

    path: str
    layer: Plain
    given: int
    places: int

    @property
    def macs(self) -> float:
        """Multiply-adds for one example."""
        return float(self.layer.weight.numel() * self.places)


def calls(module: nn.Module, examples: Tensor) -> list[Call]:
    """The plain layers that run, in that order; `given` is the same where two read one tensor.

    Layers of classes of their own are not plain, nor is one whose weight another part reads.
    """
    found: dict[str, Call] = {}
    read: list[Tensor] = []  # kept, so that no two have one identity

    def note(path: str, layer: Any, inputs: tuple[Tensor, ...], _: Any, output: Tensor) -> None:
        places = output[0].numel() // len(layer.weight)
        read.append(inputs[0])
        found.setdefault(path, Call(path, layer, id(inputs[0]), places))

    kinds = {*LEARNED, *LEARNED.values()}
    plain = [(path, layer) for path, layer in module.named_modules() if type(layer) in kinds]
    with watched(module, plain, leaves=note), torch.no_grad():
        module(examples)
    return list(found.values())


def described(found: Sequence[Call]) -> list[Layer]:
    """The calls as the layers of a plan."""
    sections = sections_of([call.macs for call in found])
    return [
        Layer(
            call.path, f"{call.path}.weight", call.macs, section, _depthwise(call.layer),
            i in (0, len(found) - 1), isinstance(call.layer, nn.Linear),
        )
        for i, (call, section) in enumerate(zip(found, sections, strict=True))
    ]  # fmt: skip


def _depthwise(layer: Plain) -> bool:
    return isinstance(layer, nn.Conv2d) and 1 < layer.groups == layer.out_channels


def off_grid(module: nn.Module, shape: tuple[int, ...], found: Sequence[Call]) -> dict[str, str]:
    """The layers whose weights would not stay on a grid of steps by row, with the reason.

    Folding may multiply a row by a factor, no more. What it really does is tried on a copy with
    random weights and norms.
    """
    copy = deepcopy(module)
    if any(tensor.is_meta for tensor in copy.state_dict().values()):
        return {}
    numbers = torch.Generator().manual_seed(0)
    _shake(copy, [call.path for call in found], numbers)
    before = {call.path: _weight(copy, call.path).detach().clone() for call in found}
    folded, _ = fold(copy, shape)
    return {
        path: why
        for path, weight in before.items()
        if (why := _changed(folded, path, weight)) is not None
    }


def _weight(module: nn.Module, path: str) -> Tensor:
    weight = module.get_submodule(path).weight
    assert isinstance(weight, Tensor)
    return weight


def _shake(copy: nn.Module, paths: Sequence[str], numbers: torch.Generator) -> None:
    """Gives layers and norms numbers that show whatever folding does to them."""
    with torch.no_grad():
        for path in paths:
            _weight(copy, path).normal_(generator=numbers)
        for norm in (m for m in copy.modules() if isinstance(m, BatchNorm)):
            for tensor in (norm.weight, norm.running_var):
                if tensor is not None:
                    tensor.uniform_(0.5, 2.0, generator=numbers)
            for tensor in (norm.bias, norm.running_mean):
                if tensor is not None:
                    tensor.normal_(generator=numbers)


def _changed(folded: nn.Module, path: str, before: Tensor) -> str | None:
    """Why a folded layer's rows are no multiples of what they were, or None."""
    try:
        layer = folded.get_submodule(path)
    except AttributeError:
        return "merged with other branches"
    after = getattr(layer, "weight", None)
    if not isinstance(after, Tensor) or after.shape != before.shape:
        return "merged with other branches"
    factors = (after / before).flatten(1)
    if (factors - factors[:, :1]).abs().max() > ALIKE * factors.abs().max():
        return "the norm before it is folded into it"
    return None
