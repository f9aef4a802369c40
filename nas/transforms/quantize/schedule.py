"""When layers begin to round while they train, and with how many bits each step tries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas.transforms.quantize.codes import BITS
from nas.transforms.quantize.learned import learning
from nas.transforms.stages import Addition, Criterion

START = 0.5  # of the training: before, it is plain, and inputs are looked at
OPTIONS = (8, 6, 4, 2)


def rounding(module: nn.Module) -> Addition:
    """Layers that learn steps begin to round in the middle of the training.

    From then on batch norms keep their statistics, as the file will have them multiplied in. Steps
    are in training whatever their layers are in: a frozen backbone is in evaluation, and learns how
    it is rounded all the same.
    """

    def criterion(loss: Criterion) -> Criterion:
        def rounded(network: nn.Module, inputs: Tensor, target: Any) -> Tensor:
            for _, _, steps in learning(network):
                steps.train()
            if begun(network):
                freeze(network)
            return loss(network, inputs, target)

        return rounded

    def after(share: float) -> None:
        if share >= START and not begun(module):
            begin(module)

    return Addition(criterion, after)


def begun(module: nn.Module) -> bool:
    """Whether the layers round already."""
    return any(steps.on for _, _, steps in learning(module))


def begin(module: nn.Module) -> None:
    """Gives every layer its first steps."""
    for _, layer, steps in learning(module):
        steps.begin(layer.weight)


def freeze(module: nn.Module) -> None:
    """Batch norms in evaluation, whatever the rest of the network is in."""
    for norm in module.modules():
        if isinstance(norm, _BatchNorm):
            norm.eval()


def switching(
    module: nn.Module,
    options: Sequence[int] = OPTIONS,
    sensitivities: Callable[[Sequence[Tensor]], Sequence[float]] | None = None,
    seed: int = 0,
) -> Addition:
    """One training of codes that serve with 8, 6, 4 and 2 bits: Double Rounding.

    Each step of the optimizer tries one number of bits for the whole network, in turn: the paper's
    immediate steps, with a batch each where it has one batch for all. Steps learn at the rate that
    `share_of_rate` leaves them; a depthwise convolution never tries 2 bits.

    Args:
        sensitivities: where layers are to have bits of their own in the end: given their weights,
            how much the loss minds each being moved. Then each layer draws its bits (`chances`).
    """
    plain = rounding(module)
    before: dict[str, list[Tensor]] = {}

    def criterion(loss: Criterion) -> Criterion:
        assert plain.criterion is not None
        inner = plain.criterion(loss)

        def tried(network: nn.Module, inputs: Tensor, target: Any) -> Tensor:
            listed = list(learning(module))  # by the paths that `after` knows
            mean = float(np.mean([float(s.trace) for _, _, s in listed]))
            for i, (path, layer, steps) in enumerate(listed):
                depthwise = getattr(layer, "groups", 1) > 1
                allowed = [b for b in options if b > 2 or not depthwise]
                turn = int(steps.turn)
                if sensitivities is None:
                    steps.trial = allowed[turn % len(allowed)]
                else:
                    drawn = np.random.default_rng((seed, turn, i))
                    odds = chances(allowed, float(steps.trace) >= mean)
                    steps.trial = int(drawn.choice(allowed, p=odds))
                before[path] = [p.detach().clone() for p in steps.parameters()]
            return inner(network, inputs, target)

        return tried

    def after(share: float) -> None:
        if begun(module):
            _slow(module, before)
            for _, _, steps in learning(module):
                steps.turn += 1
            return
        assert plain.after is not None
        plain.after(share)
        if begun(module) and sensitivities is not None:
            listed = list(learning(module))
            for (_, _, steps), trace in zip(
                listed, sensitivities([layer.weight for _, layer, _ in listed]), strict=True
            ):
                steps.trace.fill_(trace)

    return Addition(criterion, after)


def chances(options: Sequence[int], sensitive: bool) -> list[float]:
    """How likely a layer tries each number of bits: a sensitive one the more likely, the more bits.

    >>> chances((8, 6, 4, 2), True), chances((8, 4), False)
    ([0.4, 0.3, 0.2, 0.1], [0.5, 0.5])
    """
    weights = options if sensitive else [1] * len(options)
    return [w / sum(weights) for w in weights]


def _slow(module: nn.Module, before: Mapping[str, Sequence[Tensor]]) -> None:
    """Takes back the part of the move of all steps, inputs' too, that their layer's bits forbid."""
    listed = list(learning(module))
    gradients = [s.weight_log.grad for _, _, s in listed if s.weight_log.grad is not None]
    mean = float(np.mean([clipped_most(g) for g in gradients])) if gradients else 0.0
    with torch.no_grad():
        for path, _, steps in (each for each in listed if each[0] in before):
            part = share_of_rate(steps.trial or BITS, mean)
            for log, was in zip(steps.parameters(), before[path], strict=True):
                log.copy_(was + part * (log - was))


def clipped_most(gradient: Tensor) -> float:
    """The largest entry of a gradient whose norm is clipped to one; one at most."""
    norm = float(gradient.norm())
    return min(float(gradient.abs().max()) / max(norm, 1.0), 1.0)


def share_of_rate(bits: int, gradient: float) -> float:
    """The part of the learning rate at which steps learn while `bits` are tried (ALRS).

    The paper's rate is `eta * (rate - g)`, `g` the mean over layers of the largest clipped
    gradient, and `eta` 1, 0.1, 0.01, 0.001 for 8, 6, 4 and 2 bits (`5 * 10^-(lost + 1)/2` for odd
    losses). With its own rate of 5e-4 that is negative as soon as `g` exceeds it; so `g` is taken
    as a share of the rate, and nothing is learned where it reaches one: our choice.

    >>> [round(share_of_rate(bits, 0.0), 4) for bits in (8, 7, 6, 4, 2)], share_of_rate(8, 2.0)
    ([1.0, 0.5, 0.1, 0.01, 0.001], 0.0)
    """
    lost = BITS - bits
    eta = 5 * 10 ** (-(lost + 1) / 2) if lost % 2 else 10 ** (-lost / 2)
    return float(eta * max(0.0, 1.0 - gradient))
