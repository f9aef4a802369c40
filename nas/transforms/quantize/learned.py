"""Layers that round their weights and inputs while they train, by steps that are learned.

Learned Step Size Quantization (Esser et al. 2020, arXiv 1902.08153), and the rounding to fewer bits
of codes of 8 that Double Rounding trains (Huang et al. 2025, arXiv 2502.01199). A step is
`start * exp(log)`: it stays positive, and an optimizer with a rate for each parameter moves it by a
share of itself. Steps belong to output channels, for weights, and to a layer's whole input.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.transforms.quantize.codes import BITS, largest

UNSIGNED = 255  # the largest code of an input that is never negative
SIGNED = (-128, 127)
MOMENTUM = 0.1  # of the running mean and maximum of inputs


def learned_round(
    values: Tensor, step: Tensor, low: int, high: int, count: int, lost: int = 0
) -> Tensor:
    """`values` rounded to multiples of `step`, with LSQ's gradients for both.

    Args:
        step: of `values`, broadcast against them.
        low, high: the smallest and the largest code.
        count: how many values share a step: its gradient is multiplied by `1 / sqrt(count * high)`.
        lost: bits that the codes are rounded away by afterwards; `low` and `high` are of the codes
            before.
    """
    factor = 1 / math.sqrt(count * high)
    scaled = step * factor + (step - step * factor).detach()
    codes = _rounded((values / scaled).clamp(low, high))
    if lost:
        most = largest(BITS - lost)
        codes = _rounded((codes / 2**lost).clamp(-most, most)) * 2**lost
    return codes * scaled


def _rounded(values: Tensor) -> Tensor:
    """The nearest whole numbers, ties to even, with the gradient of the identity."""
    return values + (values.round() - values).detach()


def lsq_start(mean: Tensor, high: int) -> Tensor:
    """LSQ's first step, from the mean of absolute values."""
    return 2 * mean / math.sqrt(high)


def first_step(mean: Tensor, most: Tensor, high: int) -> Tensor:
    """LSQ's first step, or the one that just reaches the largest value where that is shorter.

    With 8 bits LSQ's reaches several times too far, which a brief training does not make up for.
    The choice between the two is ours.
    """
    return torch.minimum(lsq_start(mean, high), most / high).clamp(min=1e-8)


class Steps(nn.Module):
    """What a layer has learned of its steps; until it is begun, the layer runs as it is.

    `bits` is what the weights are deployed with, `shared` whether other bits are trained too, of
    the same codes, and `turn` counts its steps; `trace` is how much the loss minds weights that are
    moved. `trial` is what the present step of such a training tries, and no state.
    """

    started: Tensor
    weight_start: Tensor
    input_start: Tensor
    input_mean: Tensor
    input_most: Tensor
    signed: Tensor
    bits: Tensor
    turn: Tensor
    trace: Tensor

    def __init__(self, layer: nn.Conv2d | nn.Linear, bits: int, shared: bool = False) -> None:
        super().__init__()
        self.shared = shared
        each = torch.zeros_like(layer.weight.detach().flatten(1)[:, 0])
        one = torch.zeros_like(each[:1])
        self.weight_log = nn.Parameter(each)
        self.input_log = nn.Parameter(one)
        self.register_buffer("weight_start", torch.ones_like(each))
        for name in ("input_start", "input_mean", "input_most", "trace"):
            self.register_buffer(name, torch.zeros_like(one))
        for name in ("signed", "started"):
            self.register_buffer(name, torch.zeros_like(one, dtype=torch.bool))
        # No state: networks that differ in their bits alone may share a training.
        self.register_buffer("bits", torch.full_like(one, bits, dtype=torch.long), persistent=False)
        self.register_buffer("turn", torch.zeros_like(one, dtype=torch.long))
        self.trial: int | None = None

    @property
    def on(self) -> bool:
        """Whether the layer rounds."""
        return self.started.device.type != "meta" and bool(self.started)

    def begin(self, weight: Tensor) -> None:
        """Takes first steps from the weights, and from the inputs seen so far."""
        with torch.no_grad():
            flat = weight.detach().flatten(1).abs()
            lost = 0 if self.shared else BITS - int(self.bits)
            high = largest(BITS - lost)
            steps = first_step(flat.mean(1), flat.amax(1), high)
            self.weight_start.copy_(steps / 2**lost)
            high = SIGNED[1] if bool(self.signed) else UNSIGNED
            self.input_start.copy_(first_step(self.input_mean, self.input_most, high))
            self.started.fill_(True)

    def weight_step(self) -> Tensor:
        """`(outputs,)`, of codes with 8 bits."""
        return self.weight_start * self.weight_log.exp()

    def input_step(self) -> Tensor:
        """One step, of codes with 8 bits."""
        return self.input_start * self.input_log.exp()

    def of_input(self, x: Tensor) -> Tensor:
        """The layer's input, rounded; before the beginning, as it is, and looked at."""
        if not self.on:
            if self.training:
                self.look(x)
            return x
        low, high = SIGNED if bool(self.signed) else (0, UNSIGNED)
        return learned_round(x, self.input_step(), low, high, x[0].numel())

    def of_weight(self, weight: Tensor) -> Tensor:
        """The layer's weight, rounded to the bits that are tried or deployed.

        Codes that are shared lose bits after they were rounded to 8, as Double Rounding does; the
        others are codes of their own bits at once, as LSQ's are.
        """
        if not self.on:
            return weight
        bits = self.trial if self.training and self.trial else int(self.bits)
        lost, again = (0, BITS - bits) if self.shared else (BITS - bits, 0)
        step, high = self.weight_step() * 2**lost, largest(BITS - lost)
        across = step.view(-1, *[1] * (weight.dim() - 1))
        return learned_round(weight, across, -high, high, weight[0].numel(), again)

    def look(self, x: Tensor) -> None:
        """Keeps running figures of the inputs."""
        with torch.no_grad():
            mean, most = x.abs().mean(), x.abs().amax()
            first = bool(self.input_most == 0)
            for kept, seen in ((self.input_mean, mean), (self.input_most, most)):
                kept.copy_(seen if first else kept + MOMENTUM * (seen - kept))
            self.signed |= x.amin() < 0


class Rounding(nn.Module):
    """The rounding of an input as plain operators, which the file's writer knows again."""

    step: Tensor
    rounds = True  # what compares networks leaves it out

    def __init__(self, step: Tensor, signed: bool) -> None:
        super().__init__()
        self.register_buffer("step", step.detach().reshape(()).clone())
        self.low, self.high = SIGNED if signed else (0, UNSIGNED)

    def forward(self, x: Tensor) -> Tensor:
        """Multiples of the step."""
        return torch.clamp(torch.round(x / self.step), self.low, self.high) * self.step


def rounds(module: nn.Module) -> bool:
    """Whether a deployed network rounds inputs of its layers by steps that were learned."""
    return any(isinstance(part, Rounding) for part in module.modules())


class LearnedConv2d(nn.Conv2d):
    """A convolution that rounds, by the `steps` or the `rounding` it was given."""

    steps: Steps
    rounding: Rounding

    def forward(self, x: Tensor) -> Tensor:
        """As the convolution, of rounded numbers."""
        if hasattr(self, "rounding"):
            return super().forward(self.rounding(x))
        weight = self.steps.of_weight(self.weight)
        found: Tensor = self._conv_forward(self.steps.of_input(x), weight, self.bias)
        return found


class LearnedLinear(nn.Linear):
    """A linear layer that rounds, by the `steps` or the `rounding` it was given."""

    steps: Steps
    rounding: Rounding

    def forward(self, x: Tensor) -> Tensor:
        """As the layer, of rounded numbers."""
        if hasattr(self, "rounding"):
            return super().forward(self.rounding(x))
        return F.linear(self.steps.of_input(x), self.steps.of_weight(self.weight), self.bias)


LEARNED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: LearnedConv2d, nn.Linear: LearnedLinear,
}  # fmt: skip


def learn(layer: nn.Conv2d | nn.Linear, bits: int, shared: bool = False) -> None:
    """Makes a plain layer one that rounds; its weights keep their names."""
    steps = Steps(layer, bits, shared)
    layer.__class__ = LEARNED[type(layer)]  # type: ignore[assignment]
    layer.steps = steps


def learning(module: nn.Module) -> Iterator[tuple[str, LearnedConv2d | LearnedLinear, Steps]]:
    """Every layer of a network that learns steps, with its path."""
    for path, layer in module.named_modules():
        if isinstance(layer, LearnedConv2d | LearnedLinear) and hasattr(layer, "steps"):
            yield path, layer, layer.steps


def settle(layer: LearnedConv2d | LearnedLinear, keep_input: bool) -> None:
    """Leaves the layer with weights on their grid, and with a fixed rounding of its input.

    Without a rounding to keep it is a plain layer again.
    """
    steps = layer.steps
    steps.eval()
    with torch.no_grad():
        layer.weight.copy_(steps.of_weight(layer.weight))
    del layer.steps
    if keep_input:
        signed = steps.signed.device.type != "meta" and bool(steps.signed)
        layer.rounding = Rounding(steps.input_step(), signed)
    else:
        layer.__class__ = type(layer).__bases__[0]
