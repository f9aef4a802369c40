"""When a network is compiled for its training, and that it is the same network then."""

import pytest
import torch
from torch import nn

from nas.core.errors import NasError
from nas.core.fidelity import Fidelity
from nas.core.task import Task
from nas.hardware.runtimes import compiler
from nas.training import compiling
from nas.training.compiling import TIMED, Forward
from nas.training.recipe import Recipe
from nas.training.train import train

STEPS = TIMED + 1  # before a form is judged: the first prepares, and one more ends the last


class Times:
    """A clock that runs a second a step until something was compiled, and `quick` from then on."""

    def __init__(self, monkeypatch, quick=0.5):
        self.now, self.calls, self.pace = 0.0, [], 1.0
        self.quick = quick
        monkeypatch.setattr(compiling.time, "monotonic", self.monotonic)
        monkeypatch.setattr(compiling.torch, "compile", self.compile)
        monkeypatch.setattr(compiling, "QUICK", ("cpu",))

    def monotonic(self):
        self.now += self.pace
        return self.now

    def compile(self, module, **options):
        self.pace = self.quick

        def compiled(inputs):
            self.calls.append("compiled")
            return module(inputs)

        return compiled


def _steps(forward, count, shape=(2, 3)):
    for _ in range(count):
        forward(torch.zeros(shape))


def test_a_short_training_is_never_compiled(monkeypatch):
    times = Times(monkeypatch)
    forward = Forward(nn.Identity(), "repaid")
    forward.left = 599
    _steps(forward, 50)
    assert times.calls == []
    # and the clock is not looked at any more
    assert times.now == STEPS + 1


@pytest.mark.parametrize(("quick", "kept"), [(0.5, True), (0.97, False), (2.0, False)])
def test_a_long_one_is_compiled_and_stays_so_where_that_is_faster(monkeypatch, quick, kept):
    times = Times(monkeypatch, quick=quick)
    forward = Forward(nn.Identity(), "repaid")
    forward.left = 601
    _steps(forward, STEPS)
    assert times.calls == []
    _steps(forward, 40)
    assert len(times.calls) == (40 if kept else STEPS + 1)


def test_where_compiling_takes_long_it_is_done_only_when_told(monkeypatch):
    times = Times(monkeypatch)
    monkeypatch.setattr(compiling, "QUICK", ("cuda",))
    forward = Forward(nn.Identity(), "repaid")
    forward.left = 10**9
    _steps(forward, 30)
    assert times.calls == []


def test_never_and_always_do_not_ask(monkeypatch):
    times = Times(monkeypatch, quick=9.0)
    never = Forward(nn.Identity(), "never")
    never.left = 10**9
    _steps(never, 30)
    assert times.calls == [] and times.now == 0
    _steps(Forward(nn.Identity(), "always"), STEPS + 20)
    assert len(times.calls) == 20


def test_a_batch_of_another_shape_goes_the_plain_way(monkeypatch):
    times = Times(monkeypatch)
    forward = Forward(nn.Identity(), "always")
    _steps(forward, STEPS + 1)
    _steps(forward, 3, shape=(1, 3))
    assert len(times.calls) == 1


def _task():
    def batches(split, seed):
        generator = torch.Generator().manual_seed(seed if split == "train" else 0)
        for _ in range(STEPS + 8):
            target = torch.arange(8) % 2
            yield torch.randn(8, 3, 8, 8, generator=generator) + target.view(-1, 1, 1, 1), target

    return Task((3, 8, 8), 2, batches, nn.functional.cross_entropy,
                lambda o, t: (o.argmax(1) == t).float(), digest="bright")  # fmt: skip


def _trained(tmp_path, compiled):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip
    recipe = Recipe(batch=8, rate=1e-2, compiled=compiled)
    train(module, _task(), recipe, Fidelity(epochs=1), 3, folder=tmp_path, on_rung=lambda r: True)
    return module.state_dict()


def test_where_compiling_fails_the_training_goes_on_as_if_it_had_not_been_tried(
    tmp_path, monkeypatch
):
    def broken(module, **options):
        def fails(inputs):
            raise RuntimeError("no compiler")

        return fails

    monkeypatch.setattr(compiling.torch, "compile", broken)
    plain, tried = _trained(tmp_path, "never"), _trained(tmp_path, "always")
    assert all(torch.equal(plain[name], tried[name]) for name in plain)


def test_an_error_of_the_networks_own_is_not_hidden():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("its own")

    forward = Forward(Broken(), "repaid")
    assert not forward.give_up()
    with pytest.raises(RuntimeError, match="its own"):
        forward(torch.zeros(1))


def test_a_recipe_names_one_of_the_ways():
    with pytest.raises(NasError, match="alwys"):
        Recipe(compiled="alwys")
    assert "compiled" not in Recipe().to_json()


@pytest.mark.slow
@pytest.mark.skipif(not compiler(), reason="there is no C++ compiler")
def test_a_compiled_network_learns_what_it_would_have(tmp_path, monkeypatch):
    made = []
    original = torch.compile
    monkeypatch.setattr(
        compiling.torch, "compile", lambda *a, **k: made.append(1) or original(*a, **k)
    )
    plain, compiled = _trained(tmp_path, "never"), _trained(tmp_path, "always")
    assert made == [1]
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-3, atol=1e-5)
