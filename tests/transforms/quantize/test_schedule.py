"""When rounding begins, what a step tries, and how fast steps may learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.transforms.quantize import schedule
from nas.transforms.quantize.learned import learn, learning
from nas.transforms.quantize.schedule import (
    START,
    begun,
    clipped_most,
    rounding,
    share_of_rate,
    switching,
)
from nas.transforms.stages import Addition

INPUTS = torch.randn(16, 3, 6, 6, generator=torch.Generator().manual_seed(0))
TARGET = torch.arange(16) % 4


def network(shared: bool = False) -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8),
        nn.ReLU(), nn.Flatten(), nn.Linear(32, 4),
    )  # fmt: skip
    for layer in list(made.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            learn(layer, 8, shared)
    return made


def steps_taken(
    module: nn.Module, addition: Addition, count: int, look: Callable[[int], None]
) -> None:
    def plain(network: nn.Module, inputs: Tensor, target: Any) -> Tensor:
        return F.cross_entropy(network(inputs), target)

    assert addition.criterion is not None and addition.after is not None
    loss = addition.criterion(plain)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2, weight_decay=0)
    for step in range(count):
        module.train()
        optimizer.zero_grad()
        loss(module, INPUTS, TARGET).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        addition.after((step + 1) / count)
        look(step)


def test_layers_begin_in_the_middle_and_norms_keep_their_statistics_from_then_on() -> None:
    module = network()
    norm = module[1]
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
    seen: list[tuple[bool, Tensor]] = []
    steps_taken(
        module, rounding(module), 10,
        lambda step: seen.append((begun(module), norm.running_mean.clone())),
    )  # fmt: skip
    first = int(START * 10) - 1
    assert [on for on, _ in seen] == [step >= first for step in range(10)]
    assert not torch.equal(seen[0][1], seen[first][1])
    assert all(torch.equal(mean, seen[first][1]) for _, mean in seen[first:])
    moved = [float(s.weight_log.detach().abs().max()) for _, _, s in learning(module)]
    assert all(m > 0 for m in moved)


class Frozen(nn.Module):
    """A network whose `train` leaves its backbone in evaluation, as many a user's does."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(4, 4)

    def train(self, mode: bool = True) -> Frozen:
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


@pytest.mark.parametrize("shared", [False, True])
def test_a_frozen_backbone_learns_how_it_is_rounded(shared: bool) -> None:
    module, tried = Frozen(network(shared)), []
    module.eval()
    before = module(INPUTS).detach()

    def look(step: int) -> None:
        layer, steps = module.backbone[0], next(learning(module))[2]
        tried.append(steps.of_weight(layer.weight).unique().numel())

    steps_taken(module, switching(module) if shared else rounding(module), 16, look)
    assert all(s.input_most > 0 and s.input_log != 0 for _, _, s in learning(module))
    if shared:  # codes of 8, 6, 4 and 2 bits in turn
        assert tried[8] > tried[9] > tried[10] > tried[11]
    module.eval()
    assert module(INPUTS).std(0).mean() > 0.3 * before.std(0).mean()


def test_a_training_that_is_resumed_knows_that_it_rounds() -> None:
    module, again = network(), network()
    steps_taken(module, rounding(module), 4, lambda step: None)
    again.load_state_dict(module.state_dict())
    module.eval(), again.eval()
    assert begun(again) and torch.equal(module(INPUTS), again(INPUTS))


def test_switching_tries_every_number_of_bits_in_turn() -> None:
    module, tried = network(shared=True), []
    steps_taken(
        module, switching(module), 16,
        lambda step: tried.append([s.trial for _, _, s in learning(module)]),
    )  # fmt: skip
    late = tried[8:]
    assert [t[0] for t in late] == [8, 6, 4, 2, 8, 6, 4, 2]
    assert {t[1] for t in late} == {8, 6, 4}  # a depthwise convolution has no 2 bits


def test_steps_are_slowed_whatever_is_around_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mixed batch or a running average asks another module, which has the network inside."""
    module, known = network(shared=True), list[set[str]]()
    slow = schedule._slow
    monkeypatch.setattr(
        schedule, "_slow", lambda m, before: known.append(set(before)) or slow(m, before)
    )
    addition = switching(module)
    assert addition.criterion is not None and addition.after is not None
    loss = addition.criterion(lambda m, x, y: m(x).square().mean())
    for _ in range(12):
        loss(nn.Sequential(module), INPUTS, None).backward()
        addition.after(0.9)
    assert known and known[-1] == {path for path, _, _ in learning(module)}


def test_sensitive_layers_are_tried_with_more_bits() -> None:
    module, tried = network(shared=True), []
    addition = switching(module, sensitivities=lambda weights: [100.0, 1.0, 1.0], seed=3)
    steps_taken(
        module, addition, 400, lambda step: tried.append([s.trial for _, _, s in learning(module)])
    )
    late = torch.tensor(tried[210:], dtype=torch.float)
    assert float(late[:, 0].mean()) == pytest.approx(6.0, abs=0.5)  # 0.4 x 8 + 0.3 x 6 + ...
    assert float(late[:, 2].mean()) == pytest.approx(5.0, abs=0.5)


def test_fewer_bits_and_larger_gradients_learn_steps_more_slowly() -> None:
    rates = [share_of_rate(bits, 0.2) for bits in (8, 7, 6, 5, 4, 3, 2)]
    assert rates == sorted(rates, reverse=True) and rates[-1] > 0
    assert [share_of_rate(8, g) for g in (0.0, 0.5, 1.0)] == [1.0, 0.5, 0.0]
    assert clipped_most(torch.tensor([3.0, 4.0])) == pytest.approx(0.8)
    assert clipped_most(torch.tensor([0.3, 0.4])) == pytest.approx(0.4)


@pytest.mark.parametrize("name", ["weight_log", "input_log"])
def test_the_steps_move_by_their_share_of_the_rate(name: str) -> None:
    """AdamW's second move of a step is at most its rate; with 6 bits a tenth of that, and less."""
    module, moves = network(shared=True), []
    logs: list[Tensor] = []

    def look(step: int) -> None:
        steps = next(learning(module))[2]
        logs.append(getattr(steps, name).detach().clone())
        if step >= 5:
            moves.append((steps.trial, logs[-1] - logs[-2]))

    steps_taken(module, switching(module), 12, look)
    largest = {bits: float(move.abs().max()) for bits, move in moves[1:5]}
    assert largest[8] <= 1.1e-2 and 0 < largest[6] <= 1.1e-3
    assert largest[4] <= 1.1e-4 and largest[2] <= 1.1e-5
