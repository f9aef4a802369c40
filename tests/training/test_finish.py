"""The strong recipe: mixing, averaging, a teacher, and resuming bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.core.task import Task
from nas.networks.parts.merge import is_plain
from nas.training.averaging import Averaged
from nas.training.distill import distilling, divergence
from nas.training.finish import finish
from nas.training.ingredients import SPREAD, bias_loss
from nas.training.mixing import Once, beta, mixing, pasted
from nas.training.recipe import Recipe, Strong
from nas.transforms.stages import Addition

RECIPE = Strong(3, Recipe(batch=8, flip=False, shift=0.0), precision="float32")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.1), nn.Flatten(),
        nn.Linear(4 * 36, 3),
    )  # fmt: skip


def task() -> Task:
    numbers = torch.Generator().manual_seed(1)
    images, labels = torch.randn(48, 3, 6, 6, generator=numbers), torch.arange(48) % 3
    images[:, 0] += labels.view(-1, 1, 1) - 1.0

    def batches(split: str, seed: int) -> list[tuple[Tensor, Tensor]]:
        order = torch.randperm(48, generator=torch.Generator().manual_seed(seed))
        rows = order if split == "train" else torch.arange(48)
        return [(images[part], labels[part]) for part in rows.split(8)]

    return Task(
        (3, 6, 6), 3, batches, functional.cross_entropy,
        lambda output, target: (output.argmax(1) == target).float(), digest="d",
    )  # fmt: skip


def plain(module: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(module(inputs), target)


class Counting(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.seen = module, []

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen.append(inputs)
        return self.module(inputs)


class Killed(Exception):
    pass


def test_a_training_that_was_killed_goes_on_bit_for_bit(tmp_path):
    def run(kept, die_at=None):
        def told(epoch):
            if epoch.epochs == die_at:
                raise Killed

        teacher = nn.Sequential(nn.Flatten(), nn.Linear(108, 3))
        nn.init.eye_(teacher[1].weight), nn.init.zeros_(teacher[1].bias)
        return finish(network(), task(), RECIPE, 5, kept=kept, teacher=teacher, on_epoch=told)

    whole = run(tmp_path / "whole.safetensors").state_dict()
    for epoch in (1, 2):
        with pytest.raises(Killed):
            run(tmp_path / "kept.safetensors", epoch)
    parts = run(tmp_path / "kept.safetensors").state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    again = run(tmp_path / "kept.safetensors").state_dict()  # killed after its last epoch
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert {p.name for p in tmp_path.iterdir()} == {"whole.safetensors", "kept.safetensors"}


def test_it_learns_and_tells_every_epoch(tmp_path):
    told = []
    module = finish(
        network(), task(), Strong(12, RECIPE.plain, precision="float32"), 0,
        kept=tmp_path / "kept.safetensors", on_epoch=told.append,
    )  # fmt: skip
    images = torch.cat([x for x, _ in task().batches("validation", 0)])
    labels = torch.cat([y for _, y in task().batches("validation", 0)])
    assert (module(images).argmax(1) == labels).float().mean() > 0.8
    assert [t.epochs for t in told] == list(range(1, 13))
    assert not module.training


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_a_mixed_loss_is_that_of_both_targets_in_their_shares(mixup, cutmix):
    module = Counting(nn.Sequential(nn.Flatten(), nn.Linear(108, 3)))
    images, labels = torch.randn(6, 3, 6, 6), torch.arange(6) % 3
    criterion = mixing(Strong(1, mixup=mixup, cutmix=cutmix, mixed=1.0)).criterion(plain)
    torch.manual_seed(3)
    found = criterion(module, images, labels)
    [mixed] = module.seen  # one forward pass for both
    logs = module.module(mixed).log_softmax(1)
    # which image went into which, and in what share, is read off the inputs themselves
    shares, partners = [], []
    for i in range(6):
        for j in range(6):
            known = images[i] - images[j]
            share = ((mixed[i] - images[j]) * known).sum() / (known * known).sum() if i != j else 1
            ways = [
                torch.allclose(mixed[i], share * images[i] + (1 - share) * images[j], atol=1e-5)
            ]
            own = (mixed[i] == images[i]).all(0)
            ways.append(bool(((mixed[i] == images[j]).all(0) | own).all()))
            if any(ways):
                partners.append(j)
                shares.append(float(share) if ways[0] else float(own.float().mean()))
                break
    assert len(partners) == 6
    wanted = sum(
        -s * logs[i, labels[i]] - (1 - s) * logs[i, labels[p]]
        for i, (s, p) in enumerate(zip(shares, partners, strict=True))
    )
    assert found.item() == pytest.approx(wanted.item() / 6, abs=1e-4)


def test_batches_that_are_not_mixed():
    images, labels = torch.randn(4, 3, 6, 6), torch.arange(4) % 3
    for recipe in (Strong(1, mixed=0.0), Strong(1, mixup=0.0, cutmix=0.0, mixed=1.0)):
        module = Counting(nn.Sequential(nn.Flatten(), nn.Linear(108, 3)))
        found = mixing(recipe).criterion(plain)(module, images, labels)
        assert module.seen[0] is images and found == plain(module, images, labels)
    rows = torch.randn(4, 108)
    module = Counting(nn.Linear(108, 3))
    mixing(Strong(1, mixup=0.0, mixed=1.0)).criterion(plain)(module, rows, labels)
    assert module.seen[0] is rows


def test_the_rectangle_and_its_share():
    torch.manual_seed(0)
    images = torch.stack([torch.zeros(3, 12, 12), torch.ones(3, 12, 12)])
    for share in (0.1, 0.5, 0.9, 1.0):
        mixed, left = pasted(images, torch.tensor([1, 0]), share)
        assert mixed[0].mean().item() == pytest.approx(1 - left, abs=1e-6)
        assert left >= share - 0.2


def test_beta_has_its_mean_and_variance():
    torch.manual_seed(0)
    draws = np.array([beta(0.2) for _ in range(4000)])
    assert draws.mean() == pytest.approx(0.5, abs=0.03)
    assert draws.var() == pytest.approx(1 / (4 * (2 * 0.2 + 1)), abs=0.01)


def test_the_teacher_sees_what_the_student_sees():
    teacher = Counting(nn.Sequential(nn.Flatten(), nn.Linear(108, 3)))
    student = Counting(nn.Sequential(nn.Flatten(), nn.Linear(108, 3)))
    images, labels = torch.randn(6, 3, 6, 6), torch.arange(6) % 3
    loss = distilling(teacher, 0.7, 2.0).criterion(plain)
    mixed = mixing(Strong(1, mixed=1.0)).criterion(loss)
    mixed(student, images, labels).backward()
    assert len(teacher.seen) == len(student.seen) == 1
    assert teacher.seen[0] is student.seen[0] is not images
    assert all(p.grad is None for p in teacher.parameters())
    own, said = student(images), teacher(images)
    found = loss(student, images, labels)
    wanted = 0.3 * functional.cross_entropy(own, labels) + 0.7 * divergence(own, said, 2.0)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)


def test_the_divergence_by_hand():
    own, said = np.array([[1.0, 2.0, 0.5]]), np.array([[0.0, 3.0, 1.0]])
    p, q = (np.exp(x / 4) / np.exp(x / 4).sum() for x in (said, own))
    wanted = 16 * float((p * np.log(p / q)).sum())
    found = divergence(torch.from_numpy(own), torch.from_numpy(said), 4.0)
    assert found.item() == pytest.approx(wanted, rel=1e-5)


def test_the_average_follows_by_its_formula():
    both = Averaged(nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1)), 0.9)
    weight, mean = both.network[0].weight, both.average[0].weight.item()
    statistic = both.average[1].running_mean.item()
    for step, value in enumerate([1.0, 2.0, 0.5], 1):
        nn.init.constant_(weight, value)
        both.network[1].running_mean.fill_(value)
        both.follow()
        decay = min(0.9, (1 + step) / (10 + step))
        mean, statistic = (decay * m + (1 - decay) * value for m in (mean, statistic))
        assert both.average[0].weight.item() == pytest.approx(mean)
        assert both.average[1].running_mean.item() == pytest.approx(statistic)
    nn.init.zeros_(weight)
    both.follow()
    assert both.average[0].weight.item() == 0.0  # pruned
    images = torch.ones(2, 1)
    assert torch.equal(both.eval()(images), both.average(images))
    assert both.train()(images).requires_grad
    assert not any(p.requires_grad for p in both.average.parameters())


def test_what_transforms_add_is_applied_in_the_network(tmp_path):
    module, over = network(), []

    def mask(share):
        over.append(share)
        with torch.no_grad():
            module[0].weight[0] = 0.0

    done = finish(
        module, task(), RECIPE, 0, kept=tmp_path / "kept.safetensors", on_epoch=lambda e: None,
        additions=[Addition(after=mask)],
    )  # fmt: skip
    assert over[-1] == 1.0 and len(over) == 18
    assert not done[0].weight[0].any() and done[0].weight[1].all()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_point_trains_in_the_precision_that_is_said_whatever_its_search_did(tmp_path, precision):
    other = {"float32": "bfloat16", "bfloat16": "float32"}[precision]
    seen, module = set(), nn.Sequential(nn.Flatten(), nn.Linear(108, 3))

    def note(layer, inputs, output):
        if layer.training:
            seen.add(output.dtype)

    module[1].register_forward_hook(note)
    recipe = replace(RECIPE, precision=precision, plain=replace(RECIPE.plain, precision=other))
    done = finish(
        module, task(), recipe, 0, kept=tmp_path / "kept.safetensors", on_epoch=lambda e: None
    )
    assert seen == {getattr(torch, precision)}
    assert done[1].weight.dtype == torch.float32 and done[1].weight.requires_grad


def test_the_bias_loss_trains_a_point_and_leaves_no_hook_on_it(tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(3))
    module(torch.zeros(2, 3, 6, 6))
    module.register_buffer(SPREAD, torch.tensor([torch.inf, -torch.inf]))
    done = finish(
        module, task(), RECIPE, 0, kept=tmp_path / "kept.safetensors", on_epoch=lambda e: None,
        additions=[bias_loss(module)],
    )  # fmt: skip
    assert torch.isfinite(module.get_buffer(SPREAD)).all()
    assert not any(m._forward_hooks for net in (module, done) for m in net.modules())
    assert is_plain(done[0])


def test_once_asks_again_for_other_inputs():
    module = Counting(nn.Identity())
    once = Once(module)
    first, second = torch.zeros(1), torch.zeros(1)
    for inputs in (first, first, second):
        once(inputs)
    assert len(module.seen) == 2
