"""Single weights at zero: which layers, how many, and the mask through a training.

A mask is a buffer beside its weight, `weight_mask`, and everything that decides the next one is a
buffer too, so that a training that is resumed goes on bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nas.networks.mixers.depthwise import Depthwise
from nas.networks.parts.merge import is_plain, own_kind
from nas.transforms.report import Report
from nas.transforms.running import watched
from nas.transforms.sparsify import allocate, patterns
from nas.transforms.sparsify.distortion import curves, examples_for
from nas.transforms.sparsify.dynamic import acquisition, moved
from nas.transforms.sparsify.held import Held
from nas.transforms.sparsify.plan import M, N, Plan
from nas.transforms.sparsify.schedules import dropped_in
from nas.transforms.stages import Addition, Given
from nas.transforms.unnamed import weighted, with_rest

Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
Maskable = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear | Transposed
DEPTHWISE = "depthwise: a few weights for each channel, which branches may be merged into"
BLOCK = 32, 64  # outputs and inputs that 2:4 kernels take multiples of, in 16 bits (CUTLASS)
KERNEL = "the device's 2:4 kernels take matrices of {} by {} and their multiples".format(*BLOCK)
BUFFERS = ("weight_mask", "weight_rounds", "mask_round", "mask_count")
# Densities that a layer's curve is measured at.
DENSITIES = (1.0, 0.6, 0.35, 0.2, 0.12, 0.07, 0.04, 0.02, 0.01, 0.003)


@dataclass(frozen=True, eq=False)
class Masked:
    """A layer with a mask: buffers hold the mask, its round, and how many weights stay in the end.

    `mask_count` is -1 until an allocation has been asked.
    """

    path: str
    layer: nn.Module

    @property
    def weight(self) -> nn.Parameter:
        """The weight that is masked: under what other axes make of it while they train."""
        if parametrize.is_parametrized(self.layer, "weight"):
            return cast(nn.Parameter, cast(Any, self.layer).parametrizations["weight"].original)
        return cast(nn.Parameter, self.layer.weight)

    def buffer(self, name: str) -> Tensor:
        """One of the layer's buffers by name."""
        return self.layer.get_buffer(name)

    def mask(self) -> Tensor:
        """True where the weight lives."""
        return self.buffer("weight_mask")

    @property
    def live(self) -> int:
        """How many weights the mask leaves."""
        return int(self.mask().sum())


@torch.no_grad()
def zero(found: Sequence[Masked]) -> None:
    """Zeroes what is masked."""
    for m in found:
        m.weight.mul_(m.mask())


def prepare(module: nn.Module, given: Given, plan: Plan) -> tuple[nn.Module, Report]:
    """Gives every layer that may be masked its mask; the weights go at once where they shall."""
    if given.shapes:
        plan = _unmeasured(plan)
    layers, skipped = maskable(module, given, plan)
    for _, layer in layers:
        shape, device = layer.weight.shape, layer.weight.device
        layer.register_buffer("weight_mask", torch.ones(shape, dtype=torch.bool, device=device))
        if plan.schedule.moves:
            rounds = torch.zeros(shape, dtype=torch.int32, device=device)
            layer.register_buffer("weight_rounds", rounds)
        layer.register_buffer("mask_round", torch.tensor(0, dtype=torch.int32))
        layer.register_buffer("mask_count", torch.tensor(-1, dtype=torch.int64))
    found = masked(module)
    if plan.schedule.share_in(0):
        choose(module, found, plan, given, 0)
        zero(found)
    touched = [f"{m.path}: {_planned(m, plan, given)}" for m in found]
    report = Report("sparsity", tuple(touched), tuple(skipped))
    return module, with_rest(report, weighted(module), "it has weights that no mask is made for")


def during(module: nn.Module, given: Given, plan: Plan) -> Addition:
    """Keeps masked weights at zero, and chooses masks where the schedule says so."""
    found, schedule = masked(module), plan.schedule
    held = Held([(m.weight, m.mask) for m in found], dense=schedule.moves)

    def after(over: float) -> None:
        due = schedule.round_at(over)
        if found and due > int(found[0].buffer("mask_round")):
            if schedule.moves:
                move(found, plan, held, due)
            else:
                choose(module, found, plan, given, due)
            if schedule.forgets:
                held.forget()
        held.hold()

    return Addition(after=after, begin=held.begin)


def finish(module: nn.Module, given: Given, plan: Plan) -> tuple[nn.Module, Report]:
    """Applies the final masks for good and removes them; an untrained network gets them now.

    Distortions of weights that will be others once they go are not measured: there the zeros are
    spread evenly, which is the same graph.
    """
    found = masked(module)
    if found and plan.schedule.share_in(int(found[0].buffer("mask_round"))) < 1:
        plan = _unmeasured(plan)
        choose(module, found, plan, given, plan.schedule.rounds)
    zero(found)
    assert plan.pattern != "2:4" or all(patterns.obeys(m.weight, N, M) for m in found)
    touched, lives = [], [m.live for m in found]
    for m in found:
        zeros = 1 - m.live / m.weight.numel()
        touched.append(f"{m.path}: {_what(plan)}, {zeros:.1%} zeros, {_worth(plan, m, given)}")
        for name in BUFFERS:
            if hasattr(m.layer, name):
                delattr(m.layer, name)
    if found:
        total, live = sum(m.weight.numel() for m in found), sum(lives)
        touched.insert(0, f"all of them: {1 - live / total:.1%} of {total} weights are zero")
    return module, Report("sparsity", tuple(touched), ())


def _unmeasured(plan: Plan) -> Plan:
    """The plan without measured distortions: other zeros in the same graph."""
    return replace(plan, allocation="uniform") if plan.allocation == "rd" else plan


def masked(module: nn.Module) -> list[Masked]:
    """The layers with a mask, in the order of the network's text."""
    return [
        Masked(path, layer)
        for path, layer in module.named_modules()
        if isinstance(getattr(layer, "weight_mask", None), Tensor)
    ]


def maskable(
    module: nn.Module, given: Given, plan: Plan
) -> tuple[list[tuple[str, Maskable]], list[tuple[str, str]]]:
    """The layers that the plan masks, in the order in which they run, and why not the others."""
    order: list[str] = []
    layers = [(path, m) for path, m in module.named_modules() if isinstance(m, Maskable)]
    tensor = next(iter(module.parameters()), torch.zeros(()))
    with watched(module, layers, leaves=lambda path, *_: order.append(path)), torch.no_grad():
        module(given.examples(1).to(tensor))
    ran = list(dict.fromkeys(order))
    owners: dict[int, str] = {}
    found, skipped = [], []
    for path in ran:
        layer = module.get_submodule(path)
        assert isinstance(layer, Maskable)
        first = owners.setdefault(id(layer.weight), path)
        end = path in (ran[0], ran[-1]) and not plan.ends
        why = _why_not(layer, plan, given)
        if first != path:
            why = f"its weights are those of {first}"
        elif end:
            why = "the first and the last layer stay dense"
        if why is None:
            found.append((path, layer))
        else:
            skipped.append((path, why))
    for path, layer in module.named_modules():
        if isinstance(layer, Maskable) and path not in ran:
            skipped.append((path, "it did not run on an example"))
        elif isinstance(layer, nn.MultiheadAttention):
            skipped.append((path, "its packed projection is no layer of its own"))
        elif isinstance(layer, Depthwise):
            skipped.append((path, DEPTHWISE))
    return found, skipped


def _why_not(layer: Maskable, plan: Plan, given: Given) -> str | None:
    if parametrize.is_parametrized(layer, "weight"):
        return "its weights are computed by a parametrization"
    if not is_plain(layer):  # it may compute with other numbers than its weight's
        return own_kind(layer)
    if isinstance(layer, Transposed):
        if plan.pattern == "2:4":
            return "transposed: its weight has no rows of inputs, which 2:4 is made of"
        return DEPTHWISE if layer.groups == layer.in_channels > 1 else None
    inputs = layer.weight.shape[1]
    if inputs == 1:
        return DEPTHWISE
    if plan.pattern == "2:4" and inputs % M:
        return f"{inputs} inputs are no multiple of {M}"
    if plan.pattern == "2:4" and "2:4" in given.kernels and not _multiplied(layer.weight):
        return f"{KERNEL}: zeros would cost accuracy and save no time"
    return None


def _multiplied(weight: Tensor) -> bool:
    """Whether the kernels of the pattern 2:4 take a layer of this weight."""
    outputs, inputs, *taps = weight.shape
    rows, columns = BLOCK
    return all(t == 1 for t in taps) and outputs % rows == 0 and inputs % columns == 0


# --- choosing masks ------------------------------------------------------------------------------


def choose(
    module: nn.Module, found: Sequence[Masked], plan: Plan, given: Given, round: int
) -> None:
    """The masks of a round, by magnitude. What is masked is zeroed by who holds it."""
    share = plan.schedule.share_in(round)
    if share and plan.pattern == "unstructured":
        known = all(int(m.buffer("mask_count")) >= 0 for m in found)
        if not known or plan.allocation == "global":
            for m, count in zip(found, final_counts(module, found, plan, given), strict=True):
                m.buffer("mask_count").fill_(count)
    for m in found:
        scores, mask = m.weight.detach().abs(), m.mask()
        if not share:
            mask.fill_(True)
        elif plan.pattern == "2:4":
            mask.copy_(patterns.n_of_m(scores, M - int(share * (M - N) + 1e-9), M))
        else:
            size = scores.numel()
            final = int(m.buffer("mask_count"))
            mask.copy_(patterns.largest(scores, size - round_half(share * (size - final))))
        m.buffer("mask_round").fill_(round)


def round_half(value: float) -> int:
    """To the next whole number."""
    return int(value + 0.5)


def move(found: Sequence[Masked], plan: Plan, held: Held, round: int) -> None:
    """A round of dropping and growing, by the dense gradient of the step just done."""
    for m in found:
        mask, rounds = m.mask(), m.buffer("weight_rounds")
        rounds += mask
        gradient = held.gradients.get(m.weight)
        if gradient is None:  # this step's loss did not depend on the layer
            gradient = torch.zeros_like(m.weight)
        scores = acquisition(gradient, rounds, round, plan.exploration)
        after, _ = moved(m.weight.detach(), mask, scores, dropped_in(round))
        mask.copy_(after)
        m.buffer("mask_round").fill_(round)


def final_counts(module: nn.Module, found: Sequence[Masked], plan: Plan, given: Given) -> list[int]:
    """How many weights each layer keeps in the end, by the plan's allocation.

    `global` and `rd` look at the weights as they are when weights first go: before training where
    the schedule begins there.
    """
    density = 1 - plan.removed
    shapes = [tuple(m.weight.shape) for m in found]
    sizes = [m.weight.numel() for m in found]
    if plan.allocation == "erk":
        densities = allocate.erk(shapes, density)
    elif plan.allocation == "global":
        magnitudes = [m.weight.detach().abs().double().flatten().cpu().numpy() for m in found]
        densities = allocate.by_magnitude(magnitudes, density)
    elif plan.allocation == "rd":
        return _by_distortion(module, found, given, density)
    else:
        densities = allocate.uniform(sizes, density)
    return allocate.counts(densities, sizes, density)


def _by_distortion(
    module: nn.Module, found: Sequence[Masked], given: Given, density: float
) -> list[int]:
    """Rate and distortion: curves of every layer, and the dynamic program over them."""

    names = {id(p): name for name, p in module.named_parameters()}

    def option(m: Masked, kept: float) -> dict[str, Tensor]:
        count = max(1, round(kept * m.weight.numel()))
        return {names[id(m.weight)]: patterns.largest(m.weight.detach().abs(), count)}

    tensor = found[0].weight
    layers = [[lambda m=m, d=d: option(m, d) for d in DENSITIES] for m in found]
    examples = given.examples(examples_for(layers)).to(tensor)
    distortions = curves(module, examples, layers)
    sizes = [m.weight.numel() for m in found]
    costs = [np.maximum(1.0, np.round(np.array(DENSITIES) * size)) for size in sizes]
    budget = float(round(density * sum(sizes)))
    chosen = allocate.rate_distortion(costs, distortions, budget)
    spent = allocate.filled(chosen, costs, distortions, budget)
    return allocate.counts(spent / np.array(sizes), sizes, density)


# --- what is said of it --------------------------------------------------------------------------


def _what(plan: Plan) -> str:
    return "2:4" if plan.pattern == "2:4" else f"unstructured by {plan.allocation}"


def _planned(m: Masked, plan: Plan, given: Given) -> str:
    count = N / M if plan.pattern == "2:4" else int(m.buffer("mask_count")) / m.weight.numel()
    then = f"{1 - count:.1%} zeros" if count >= 0 else "zeros by its magnitudes then"
    return f"{_what(plan)}, {plan.schedule.name}, {then}, {_worth(plan, m, given)}"


def _worth(plan: Plan, m: Masked, given: Given) -> str:
    """Whether zeros are time anywhere on the device, or are only stored."""
    if plan.pattern != "2:4":
        return "storage only: dense kernels compute with zeros too"
    if "2:4" not in given.kernels:
        return "storage only: no 2:4 kernel on this device under this runtime"
    return "for the device's 2:4 kernels"
