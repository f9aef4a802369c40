"""Growing batches: the norm test by its definition, the gradient of many parts, the rate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.core.errors import NasError
from nas.core.fidelity import Fidelity
from nas.core.task import Task
from nas.training.growth import GROWN, Growth, example_variance, norm_test, remember
from nas.training.recipe import Recipe
from nas.training.train import train


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def batch(count: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(count, 3, 2, 2, dtype=torch.float64), torch.arange(count) % 3


def test_the_gradient_is_the_batchs_and_the_variance_that_of_examples() -> None:
    module, (inputs, target) = network(), batch(16)
    parameters = list(module.parameters())
    growth = Growth(module, bound=0.5)
    getattr(module, GROWN).fill_(4)  # four batches of four: each a part
    for part in inputs.split(4):
        [(same, _)] = growth.parts(part, None)
        assert same is part
    each = []
    for i in range(16):  # an example a part is the paper's own test
        module.zero_grad()
        functional.cross_entropy(module(inputs[i : i + 1]), target[i : i + 1]).backward()
        each.append(torch.cat([p.grad.flatten() for p in parameters]))
        growth.gather(parameters, 1)
    rows = torch.stack(each).numpy()
    growth.settle(parameters, batch=1)
    mean = np.concatenate([p.grad.flatten().numpy() for p in parameters])
    np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-12)
    variance = rows.var(0, ddof=1).sum()
    wanted = variance / (0.25 * (rows.mean(0) ** 2).sum())
    assert int(getattr(module, GROWN)) == max(4, int(np.ceil(wanted)))
    module.zero_grad()
    functional.cross_entropy(module(inputs), target).backward()
    whole = np.concatenate([p.grad.flatten().numpy() for p in parameters])
    np.testing.assert_allclose(mean, whole, rtol=1e-9)


def test_parts_spread_as_their_examples_would() -> None:
    rows = 0.3 + np.random.default_rng(0).standard_normal((4000, 8, 20))  # batches of 8 examples
    parts = rows.reshape(4000, 4, 2, 20).mean(2)
    found = [
        example_variance((part**2).sum(1).tolist(), float((part.mean(0) ** 2).sum()), 2)
        for part in parts
    ]
    assert np.mean(found) == pytest.approx(20.0, rel=0.02)  # the variance of one example


def test_batches_never_shrink_and_no_gradient_asks_for_nothing() -> None:
    assert norm_test(0.0, 1.0, 0.5) == 0.0
    module = nn.Linear(2, 1)
    growth = Growth(module, 0.5)
    getattr(module, GROWN).fill_(3)
    for _ in range(4):
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
        growth.gather(list(module.parameters()), 2)
    growth.settle(list(module.parameters()), 8)
    assert growth.batches == 3
    for _ in range(2):
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        growth.gather(list(module.parameters()), 2)
    growth.settle(list(module.parameters()), 8)
    assert growth.batches == 3


def test_targets_that_cannot_be_parted_are_refused() -> None:
    growth = Growth(nn.Linear(2, 1), 0.5)
    with pytest.raises(NasError, match="no tensor"):
        growth.parts(torch.zeros(8, 2), [1] * 8)


class Steps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs.flatten(1))


def noisy() -> Task:
    numbers = torch.Generator().manual_seed(1)
    images = torch.randn(256, 3, 2, 2, generator=numbers)
    labels = torch.randint(3, (256,), generator=numbers)

    def batches(split: str, seed: int) -> list[tuple[Tensor, Tensor]]:
        order = torch.randperm(256, generator=torch.Generator().manual_seed(seed))
        return [(images[part], labels[part]) for part in order.split(8)]

    return Task(
        (3, 2, 2), 3, batches, functional.cross_entropy,
        lambda output, target: (output.argmax(1) == target).float(), digest="d",
    )  # fmt: skip


def test_noise_makes_batches_grow_and_a_resumed_training_is_the_same(tmp_path) -> None:
    recipe = Recipe(batch=8, optimizer="adagrad", rate=0.05, decay=0.0, floor=0.1, growth=0.5)
    fidelity = Fidelity(epochs=9)
    said: dict[int, tuple[object, int]] = {}

    def run(start=None, rung=-1):
        torch.manual_seed(0)
        module = Steps()
        sizes = []

        def told(report):
            sizes.append(int(getattr(module, GROWN)))
            said[report.rung] = (report.checkpoint, sizes[-1])
            return True

        return train(module, noisy(), recipe, fidelity, 3, folder=tmp_path, start=start,
                     from_rung=rung, on_rung=told).state_dict()  # fmt: skip

    whole = run()
    sizes = [size for _, size in said.values()]
    assert sizes == sorted(sizes) and sizes[-1] > 1
    first = said[0][0]
    again = run(first, 0)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_the_rate_follows_the_examples_and_ends_at_its_floor() -> None:
    recipe = Recipe(rate=0.05, warmup=0.1, floor=0.1, growth=0.5)
    assert recipe.rate_at(0.1) == pytest.approx(0.05)
    assert recipe.rate_at(0.55) == pytest.approx(0.05 * 0.55)
    assert recipe.rate_at(1.0) == pytest.approx(0.005)


def test_what_is_remembered_is_remembered_once() -> None:
    module = nn.Linear(2, 1)
    remember(module)
    getattr(module, GROWN).fill_(5)
    remember(module)
    assert int(getattr(module, GROWN)) == 5
