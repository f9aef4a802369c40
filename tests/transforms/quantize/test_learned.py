"""Learned steps: gradients and their scale against the paper's formulas, in float64."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from nas.transforms.quantize.codes import codes, double_rounded
from nas.transforms.quantize.learned import (
    LearnedConv2d,
    Rounding,
    Steps,
    first_step,
    learn,
    learned_round,
    learning,
    lsq_start,
    settle,
)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("low", "high"), [(-127, 127), (-7, 7), (0, 255), (-2, 1)])
def test_gradients_are_the_papers(low: int, high: int) -> None:
    values = (3 * drawn(6, 40)).requires_grad_()
    step = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    weights = drawn(6, 40, seed=1)
    count = values.numel()
    rounded = learned_round(values, step, low, high, count)
    torch.testing.assert_close(
        rounded, torch.clamp(torch.round(values / step), low, high) * step, rtol=0, atol=1e-12
    )
    (rounded * weights).sum().backward()  # type: ignore[no-untyped-call]
    scaled = (values / step).detach()
    inside = (scaled > low) & (scaled < high)
    torch.testing.assert_close(values.grad, weights * inside)
    slope = torch.where(inside, scaled.round() - scaled, scaled.clamp(low, high))
    expected = (weights * slope).sum() / math.sqrt(count * high)
    assert step.grad is not None
    torch.testing.assert_close(step.grad, expected)


def test_the_gradient_of_a_step_is_the_slope_of_the_surrogate() -> None:
    """Rounding counts as adding what it added: finite differences with that part held fixed."""
    values, high, count = 2 * drawn(50), 7, 50
    at, move = 0.5, 1e-6
    added = torch.round(values / at) - values / at
    inside = (values / at).abs() < high

    def surrogate(step: float) -> float:
        codes = torch.where(inside, values / step + added, (values / at).clamp(-high, high))
        return float((codes * step).square().sum())

    slope = (surrogate(at + move) - surrogate(at - move)) / (2 * move)
    step = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    loss = learned_round(values, step, -high, high, count).square().sum()
    (found,) = torch.autograd.grad(loss, step)
    assert float(found) * math.sqrt(count * high) == pytest.approx(slope, rel=1e-6)


def test_each_channels_step_is_scaled_by_its_own_count() -> None:
    """A step of one channel must not shrink with the size of the whole tensor."""
    weight = drawn(4, 3, 3, 3)
    step = torch.full((4, 1, 1, 1), 0.1, dtype=torch.float64, requires_grad=True)
    learned_round(weight, step, -127, 127, weight[0].numel()).sum().backward()
    alone = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    learned_round(weight[:1], alone, -127, 127, 27).sum().backward()
    assert step.grad is not None and alone.grad is not None
    torch.testing.assert_close(step.grad[0].reshape(()), alone.grad)


def test_the_first_step_is_lsqs_unless_that_reaches_too_far() -> None:
    values = drawn(4, 100).abs()
    mean, most = values.mean(1), values.amax(1)
    torch.testing.assert_close(lsq_start(mean, 7), 2 * mean / math.sqrt(7))
    assert torch.equal(first_step(mean, most, 127), most / 127)
    assert torch.equal(first_step(mean, most, 1), torch.minimum(2 * mean, most))


@pytest.mark.parametrize("bits", [8, 6, 4, 2])
def test_a_layer_with_bits_of_its_own_learns_as_lsq_does(bits: int) -> None:
    layer = nn.Conv2d(3, 5, 3).double()
    learn(layer, bits)
    assert isinstance(layer, LearnedConv2d)
    steps, high, count = layer.steps, 2 ** (bits - 1) - 1, 27
    steps.begin(layer.weight)
    rows = 3 * drawn(5, count)  # some beyond the largest code
    weight = rows.view(5, 3, 3, 3).requires_grad_()
    with torch.no_grad():
        steps.weight_start.copy_(rows.abs().mean(1) / high / 2 ** (8 - bits))
        steps.weight_log.copy_(drawn(5, seed=2) / 10)
    step = (rows.abs().mean(1) / high * (drawn(5, seed=2) / 10).exp())[:, None]
    scaled = rows / step
    expected = scaled.round().clamp(-high, high) * step
    rounded = steps.of_weight(weight)
    torch.testing.assert_close(rounded.flatten(1), expected, rtol=0, atol=1e-12)
    pull = drawn(5, count, seed=1)
    (rounded.flatten(1) * pull).sum().backward()  # type: ignore[no-untyped-call]
    inside = scaled.abs() < high
    assert weight.grad is not None and steps.weight_log.grad is not None
    torch.testing.assert_close(weight.grad.flatten(1), pull * inside)
    slope = torch.where(inside, scaled.round() - scaled, scaled.clamp(-high, high))
    of_step = (pull * slope).sum(1) / math.sqrt(count * high)
    torch.testing.assert_close(steps.weight_log.grad, of_step * step[:, 0])  # step = start * e^log


@pytest.mark.parametrize("bits", [8, 6, 4, 2])
def test_fewer_bits_are_the_stored_codes_rounded_again(bits: int) -> None:
    layer = nn.Conv2d(3, 5, 3).double()
    learn(layer, bits, shared=True)
    assert isinstance(layer, LearnedConv2d)
    steps = layer.steps
    steps.look(drawn(2, 3, 8, 8))
    steps.begin(layer.weight)
    steps.eval()
    rows = layer.weight.detach().flatten(1).numpy()
    step = steps.weight_step().detach().numpy()
    stored = codes(rows, step)
    expected = stored if bits == 8 else double_rounded(stored, bits)
    lost = 2 ** (8 - bits)
    found = steps.of_weight(layer.weight).detach().flatten(1).numpy()
    torch.testing.assert_close(found, expected * step[:, None] * lost, rtol=1e-9, atol=1e-12)


def test_a_layer_is_itself_until_it_begins_and_plain_operators_at_the_end() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 4), torch.randn(3, 6)
    plain = deepcopy(layer)
    learn(layer, 8)
    torch.testing.assert_close(layer(x), plain(x))
    [(_, learned, steps)] = learning(nn.Sequential(layer))
    assert not steps.on and float(steps.input_most) == pytest.approx(float(x.abs().max()))
    assert bool(steps.signed)
    steps.begin(learned.weight)
    rounded = layer.eval()(x)
    assert not torch.equal(rounded, plain(x))
    settle(learned, keep_input=True)
    assert isinstance(learned.rounding, Rounding) and set(learned.state_dict()) == {
        "weight", "bias", "rounding.step",
    }  # fmt: skip
    torch.testing.assert_close(layer(x), rounded)


def test_inputs_that_were_never_negative_use_all_their_codes() -> None:
    steps = Steps(nn.Linear(4, 2), 8)
    steps.look(torch.rand(8, 4))
    steps.begin(torch.ones(2, 4))
    steps.eval()
    step = steps.input_step().detach()
    x = torch.linspace(0, 300, 50).view(1, -1) * step
    with torch.no_grad():
        assert float(steps.of_input(x).max() / step) == pytest.approx(255, rel=1e-5)
        assert float(steps.of_input(-x).min()) == 0
