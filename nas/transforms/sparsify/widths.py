"""How many channels each group keeps: one share in, whole multiples out.

All allocations leave about as many parameters as `uniform` does, so that one number means the same
in all of them and what differs is where the parameters are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from nas.transforms.sparsify import allocate
from nas.transforms.sparsify.distortion import Masks, curves, examples_for
from nas.transforms.sparsify.groups import Group, Layers, spread
from nas.transforms.sparsify.plan import Plan
from nas.transforms.stages import Given

MULTIPLE = 16  # of channels: float32 kernels of AVX512 work on sixteen at once
OPTIONS = 8  # widths of a group that rate and distortion weighs


def multiple(count: int) -> int:
    """What a group's width stays a multiple of: 16, but 8 below 64 channels, less below 16.

    >>> [multiple(c) for c in (256, 64, 48, 12, 6)]
    [16, 16, 8, 4, 2]
    """
    most = MULTIPLE if count >= 4 * MULTIPLE else MULTIPLE // 2
    return int(min(most, 2 ** int(math.log2(max(1, count // 2)))))


def rounded(count: int, share: float) -> int:
    """The multiple next to this share of `count` channels, at least one multiple.

    >>> rounded(100, 0.5), rounded(100, 1.0), rounded(64, 0.1)
    (48, 100, 16)
    """
    if share >= 1:
        return count
    step = multiple(count)
    return min(count, max(step, step * math.floor(share * count / step + 0.5)))


def importance(module: nn.Module, group: Group) -> Tensor:
    """The sum of squares of all that a channel's going would remove, `(count,)`.

    Norms' statistics are left out: they say what came in, not what matters.
    """
    total = torch.zeros(group.count, dtype=torch.float64)
    parameters = dict(module.named_parameters())
    for member in group.members:
        if member.name in parameters:
            weight = parameters[member.name].detach().double().cpu().movedim(member.axis, 0)
            sums = weight.reshape(len(weight), -1).square().sum(1)
            at = member.channels.cpu()
            total.index_add_(0, at[at >= 0], sums[at >= 0])
    return total


@dataclass(frozen=True)
class Budget:
    """Parameters as a function of every group's width.

    `tensors` has one row for each: how many numbers, and the groups along its axes.
    """

    groups: Sequence[Group]
    tensors: Sequence[tuple[int, tuple[int, ...]]]
    fixed: int

    @classmethod
    def of(cls, module: nn.Module, groups: Sequence[Group]) -> Budget:
        """What a module's parameters come to."""
        along: dict[str, list[int]] = {}
        for number, group in enumerate(groups):
            for member in group.members:
                along.setdefault(member.name, []).append(number)
        sizes = {name: p.numel() for name, p in module.named_parameters()}
        tensors = [(sizes[name], tuple(at)) for name, at in along.items() if name in sizes]
        fixed = sum(size for name, size in sizes.items() if name not in along)
        return cls(groups, tensors, fixed)

    def params(self, widths: Sequence[int]) -> float:
        """How many parameters are left at these widths."""
        shares = [w / g.count for w, g in zip(widths, self.groups, strict=True)]
        return self.fixed + sum(n * math.prod(shares[i] for i in at) for n, at in self.tensors)


def widths(module: nn.Module, groups: Sequence[Group], plan: Plan, given: Given) -> list[int]:
    """How many channels each group keeps, by the plan's allocation."""
    even = [rounded(g.count, 1 - plan.removed) for g in groups]
    if plan.allocation == "uniform":
        return even
    budget = Budget.of(module, groups)
    most = budget.params(even)
    if plan.allocation == "rd":
        return _by_distortion(module, groups, budget, most, given)
    if plan.allocation == "global":
        return _by_importance(module, groups, budget, most)
    return _by_layers(module, groups, plan.allocation, budget, most)


def _by_importance(
    module: nn.Module, groups: Sequence[Group], budget: Budget, most: float
) -> list[int]:
    """One threshold for all channels; each group's importance is in units of its mean."""
    scores = [importance(module, g).sqrt().numpy() for g in groups]
    scores = [s / max(s.mean(), 1e-30) for s in scores]
    ranked = np.sort(np.concatenate(scores))[::-1]

    def at(share: float) -> list[int]:
        last = ranked[max(0, math.ceil(share * len(ranked)) - 1)]
        return [
            rounded(g.count, float((s >= last).sum()) / g.count)
            for g, s in zip(groups, scores, strict=True)
        ]

    return allocate.largest_fitting(at, budget.params, most)


def _by_layers(
    module: nn.Module, groups: Sequence[Group], allocation: str, budget: Budget, most: float
) -> list[int]:
    """Widths of layer densities, as both ERK and PreCrop give them.

    A layer whose both sides are cropped to a share has its square of the weights, so a group's
    share is the root of its layers' densities, as their geometric mean: how several layers agree on
    one width is our choice.
    """
    names = {
        f"{path}.weight": layer
        for path, layer in module.named_modules()
        if isinstance(layer, Layers) and isinstance(layer.weight, nn.Parameter)
    }
    shapes = {name: tuple(layer.weight.shape) for name, layer in names.items()}
    places = {name: i for i, name in enumerate(shapes)}

    def at(share: float) -> list[int]:
        if allocation == "erk":
            density = allocate.erk(list(shapes.values()), share)
        else:
            density = allocate.water_filling([math.prod(s) for s in shapes.values()], share)
        found = []
        for group in groups:
            of = sorted({places[m.name] for m in group.members if m.name in places})
            mean = math.exp(float(np.log(density[of]).mean()))
            found.append(rounded(group.count, math.sqrt(mean)))
        return found

    return allocate.largest_fitting(at, budget.params, most)


def _by_distortion(
    module: nn.Module, groups: Sequence[Group], budget: Budget, most: float, given: Given
) -> list[int]:
    """The dynamic program over what the groups' least important channels do to the output.

    The program adds costs up, and a weight between two groups is removed by either; so its budget
    is searched for, by the parameters that are truly left.
    """
    full = [g.count for g in groups]
    choices = [
        sorted({rounded(g.count, (i + 1) / OPTIONS) for i in range(OPTIONS)}, reverse=True)
        for g in groups
    ]
    order = [importance(module, g).argsort(descending=True, stable=True) for g in groups]

    def option(number: int, width: int) -> Masks:
        group = groups[number]
        alive = torch.zeros(group.count, dtype=torch.bool)
        alive[order[number][:width]] = True
        parameters = dict(module.named_parameters())
        masks: dict[str, Tensor] = {}
        for m in group.members:
            if m.name in parameters:
                mask = spread(alive.to(m.channels.device), m, parameters[m.name])
                masks[m.name] = masks[m.name] & mask if m.name in masks else mask
        return masks

    tensor = next(module.parameters())
    layers = [[lambda n=n, w=w: option(n, w) for w in some] for n, some in enumerate(choices)]
    distortions = curves(module, given.examples(examples_for(layers)).to(tensor), layers)
    whole = budget.params(full)
    costs = [
        np.array([whole - budget.params([*full[:n], w, *full[n + 1 :]]) for w in some])
        for n, some in enumerate(choices)
    ]
    spent = [cost.max() - cost for cost in costs]  # the parameters a width keeps of its group's
    everything = sum(float(s.max()) for s in spent)

    def at(share: float) -> list[int]:
        chosen = allocate.rate_distortion(spent, distortions, max(1.0, share * everything))
        return [some[i] for some, i in zip(choices, chosen, strict=True)]

    return allocate.largest_fitting(at, budget.params, most)
