import dataclasses
from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import nn

from nas.core.errors import NasError
from nas.core.fidelity import Fidelity
from nas.core.task import Task
from nas.training.recipe import Recipe
from nas.training.train import _optimizer, _Training, epoch_seed, train
from nas.transforms.stages import Addition

FIDELITY = Fidelity(epochs=4, first=1, reduction=2)
RECIPE = Recipe(batch=8, rate=1e-2)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _task(seen=None) -> Task:
    """Bright images against dark ones, with noise drawn from the seed."""

    def batches(split, seed):
        generator = torch.Generator().manual_seed(seed if split == "train" else 0)
        for number in range(6):
            if seen is not None:
                seen.append((split, seed, number))
            target = torch.arange(8) % 2
            noise = torch.randn(8, 3, 8, 8, generator=generator)
            yield noise + target.view(-1, 1, 1, 1), target

    return Task((3, 8, 8), 2, batches, nn.functional.cross_entropy,
                lambda o, t: (o.argmax(1) == t).float(), digest="bright")  # fmt: skip


def _module(seed=0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip


def _train(tmp_path, module=None, task=None, recipe=RECIPE, fidelity=FIDELITY, seed=3, **known):
    reports = []
    module = module or _module()
    go_on = known.pop("go_on", lambda report: True)
    train(module, task or _task(), recipe, fidelity, seed, folder=tmp_path,
          on_rung=lambda r: reports.append(r) or go_on(r), **known)  # fmt: skip
    return module, reports


def _same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", ["adamw", "nesterov", "adabelief"])
@pytest.mark.parametrize("clip", [0.1, 1e9])
def test_gradients_are_clipped_as_torch_clips_them(name, clip):
    recipe = dataclasses.replace(RECIPE, optimizer=name, clip=clip)
    moved, plain = _module(), _module()
    optimizers = [_optimizer(module, recipe) for module in (moved, plain)]
    training = _Training(moved, _task(), recipe, FIDELITY, 0, optimizers[0], nullcontext, ())
    parameters = list(moved.parameters())
    for _ in range(3):
        for mine, theirs in zip(parameters, plain.parameters(), strict=True):
            mine.grad, theirs.grad = torch.randn_like(mine), None
            theirs.grad = mine.grad.clone()
        norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), clip)
        assert torch.isclose(training._move(1e-2, parameters), norm)
        for group in optimizers[1].param_groups:
            group["lr"] = 1e-2
        optimizers[1].step()
    for mine, theirs in zip(parameters, plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_rungs(tmp_path):
    module, reports = _train(tmp_path)
    assert [(r.rung, r.epochs, r.n) for r in reports] == [(0, 1, 32), (1, 2, 32), (2, 4, 32)]
    assert reports[-1].score > 85
    assert not any(part.training for part in module.modules())
    assert len({r.checkpoint for r in reports}) == 3


@pytest.mark.parametrize("rung", [0, 1])
def test_resuming_leaves_no_trace(tmp_path, rung):
    whole, reports = _train(tmp_path)
    _, before = _train(tmp_path, to_rung=rung)
    torch.manual_seed(99)  # whatever the process drew in between
    resumed, after = _train(tmp_path, _module(seed=5), start=before[-1].checkpoint, from_rung=rung)
    assert _same(whole, resumed)
    assert [r.score for r in before + after] == [r.score for r in reports]
    bytes_of = [r.checkpoint.read_bytes() for r in reports]
    assert [r.checkpoint.read_bytes() for r in before + after] == bytes_of


def test_same_seed_same_training(tmp_path):
    one, other, third = (_train(tmp_path, seed=s)[0] for s in (3, 3, 4))
    assert _same(one, other)
    assert not _same(one, third)


def test_scoring_at_a_rung_does_not_change_the_training(tmp_path):
    straight, _ = _train(tmp_path, fidelity=FIDELITY)
    identity_rungs = Fidelity(epochs=4, first=4)
    assert _same(straight, _train(tmp_path, fidelity=identity_rungs)[0])


def test_the_caller_may_stop(tmp_path):
    _, reports = _train(tmp_path, go_on=lambda r: r.rung < 1)
    assert [r.rung for r in reports] == [0, 1]


def test_the_share_of_data_is_the_first_of_each_epoch(tmp_path):
    seen = []
    _train(tmp_path, task=_task(seen), fidelity=Fidelity(epochs=2, first=2, data=0.5))
    by_epoch = {s: {n for split, seed, n in seen if split == "train" and seed == s}
                for s in (epoch_seed(3, 0), epoch_seed(3, 1))}  # fmt: skip
    counted = set(range(6))  # a task without lengths is counted through once an epoch
    assert all(numbers == counted for numbers in by_epoch.values())
    steps = [n for split, seed, n in seen if seed == epoch_seed(3, 0)]
    assert steps == [0, 1, 2, 3, 4, 5, 0, 1, 2]


def test_every_step_is_leased(tmp_path):
    inside, entered = [], []

    @contextmanager
    def step():
        entered.append(1)
        inside.append(1)
        yield
        inside.pop()

    task = _task()

    def loss(output, target):
        assert inside
        return task.loss(output, target)

    def score(output, target):
        assert inside
        return task.score(output, target)

    _train(tmp_path, task=dataclasses.replace(task, loss=loss, score=score), step=step)
    assert len(entered) >= 4 * 6 + 3 * 6


def test_fresh_norm_statistics_are_put_back(tmp_path):
    """The rung sees statistics of the weights as they are; the training keeps its own."""
    module, [report] = _train(tmp_path, to_rung=0)
    norm = module[1]
    assert norm.num_batches_tracked == 6
    assert norm.momentum == 0.1
    assert report.rung == 0


def test_a_training_of_few_steps_ends_with_fresh_statistics(tmp_path, monkeypatch):
    """Averages that had no time to follow are not what is scored and shipped."""

    def lagging():
        module = _module()
        module[1].momentum = 1e-3  # 24 steps move them by a fortieth
        return module

    inputs = torch.cat([x for x, _ in _task().batches("train", 0)])
    module, reports = _train(tmp_path, lagging())
    wanted = module[0](inputs).mean((0, 2, 3))
    norm = module[1]
    assert norm.momentum == 1e-3
    torch.testing.assert_close(norm.running_mean, wanted, atol=0.1, rtol=0.1)
    monkeypatch.setattr("nas.training.train._LAGGING", 24)
    module, worse = _train(tmp_path, lagging())
    assert module[1].running_mean.abs().max() < 0.1 * wanted.abs().max()
    assert reports[-1].score > 85 > worse[-1].score


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_a_training_that_diverges_says_so(tmp_path, broken):
    factor = float("nan") if broken == "loss" else float("inf")
    task = _task()

    def loss(output, target):
        value = task.loss(output, target)
        if broken == "loss":
            return value * factor
        return value + (output - output.detach()).sum() * factor

    with pytest.raises(NasError, match="diverged in epoch 1"):
        _train(tmp_path, task=dataclasses.replace(task, loss=loss))


@pytest.mark.parametrize(
    "changed",
    [{"seed": 4}, {"recipe": Recipe(batch=8, rate=2e-2)}, {"fidelity": Fidelity(epochs=3)}],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, changed):
    _, [first] = _train(tmp_path, to_rung=0)
    with pytest.raises(NasError, match="is of another training"):
        _train(tmp_path, start=first.checkpoint, from_rung=0, **changed)


def test_a_rung_without_its_checkpoint(tmp_path):
    with pytest.raises(NasError, match="rung 0 left no checkpoint"):
        _train(tmp_path, from_rung=0)


def test_nothing_to_train(tmp_path):
    module = _module().requires_grad_(False)
    with pytest.raises(NasError, match="no parameter to train"):
        _train(tmp_path, module)


def test_the_callers_random_numbers_are_untouched(tmp_path):
    module = _module()
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    _train(tmp_path, module)
    assert torch.equal(torch.rand(3), wanted)


def test_weights_decay_and_norms_do_not(tmp_path):
    """Without a gradient, only decay moves a weight."""
    module = _module()
    norm, weight = module[1].weight.detach().clone(), module[6].weight.detach().clone()
    flat = dataclasses.replace(_task(), loss=lambda o, t: o.sum() * 0)
    _train(tmp_path, module, flat, Recipe(batch=8, rate=1e-2, decay=0.5))
    assert torch.equal(module[1].weight, norm)
    assert (module[6].weight.abs() < weight.abs()).all()


def test_additions_change_the_loss_and_are_told_of_each_step(tmp_path):
    seen = []

    def doubled(loss):
        return lambda module, inputs, target: 2 * loss(module, inputs, target)

    module = _module()
    after = Addition(after=lambda share: seen.append((share, module[0].weight.grad is not None)))
    _train(tmp_path, module, additions=[Addition(doubled), after])
    assert len(seen) == 24 and all(graded for _, graded in seen)
    assert [share for share, _ in seen[-2:]] == pytest.approx([23 / 24, 1.0])
    plain, _ = _train(tmp_path, recipe=dataclasses.replace(RECIPE, clip=1e9))
    scaled, _ = _train(
        tmp_path, recipe=dataclasses.replace(RECIPE, clip=1e9), additions=[Addition(doubled)]
    )
    assert not _same(plain, scaled)


def test_norms_that_the_network_keeps_in_evaluation_are_scored_as_they_are(tmp_path):
    class Frozen(nn.Sequential):
        def train(self, mode=True):
            super().train(False)
            self.training = mode
            self[-1].train(mode)
            return self

    module = Frozen(*_module())
    for part in module[:-1]:
        part.requires_grad_(False)
    module[1].running_mean.fill_(0.5)
    module, reports = _train(tmp_path, module)
    assert torch.equal(module[1].running_mean, torch.full((4,), 0.5))
    assert int(module[1].num_batches_tracked) == 0 and len(reports) == 3


def test_an_addition_may_quicken_the_learning(tmp_path):
    rates = []

    def begin(optimizer):
        for group in optimizer.param_groups:
            group["times"] = 3.0
        optimizer.register_step_pre_hook(lambda o, *_: rates.append(o.param_groups[0]["lr"]))

    plain = []
    note = Addition(
        begin=lambda optimizer: (
            optimizer.register_step_pre_hook(lambda o, *_: plain.append(o.param_groups[0]["lr"]))
            and None
        )
    )
    _train(tmp_path, additions=[note])
    _train(tmp_path, additions=[Addition(begin=begin)])
    assert rates == pytest.approx([3 * rate for rate in plain])


def test_kernels_of_five_axes_are_trained_too(tmp_path):
    module = nn.Sequential(nn.Unflatten(1, (3, 1)), nn.Conv3d(3, 4, (1, 3, 3)), nn.Flatten(),
                           nn.Linear(4 * 36, 2))  # fmt: skip
    _, reports = _train(tmp_path, module)
    assert reports[-1].score > 60 and module[1].weight.dim() == 5


def test_the_recipe_names_the_optimizer(tmp_path):
    belief = dataclasses.replace(RECIPE, optimizer="adabelief")
    module, reports = _train(tmp_path, recipe=belief)
    assert not _same(module, _train(tmp_path, recipe=RECIPE)[0])
    again, _ = _train(
        tmp_path, recipe=belief, start=reports[0].checkpoint, from_rung=reports[0].rung
    )
    assert _same(module, again)
    with pytest.raises(NasError, match="no optimizer named 'adam'"):
        dataclasses.replace(RECIPE, optimizer="adam")
