from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transforms.sparsify.conftest import SHAPE, residual

from nas.deploy.export import export
from nas.hardware.counting import count
from nas.transforms.sparsify import Plan, sparsifying
from nas.transforms.stages import Given, Pipeline

PLANS = [
    Plan("channels", 0.5, "uniform", "start"),
    Plan("channels", 0.5, "precrop", "start"),
    Plan("channels", 0.5, "global", "oneshot"),
    Plan("channels", 0.5, "rd", "gradual"),
    Plan("channels", 0.5, "uniform", "acdc"),
]


def ids(plan: Plan) -> str:
    return f"{plan.allocation}-{plan.timing}"


@pytest.mark.parametrize("plan", PLANS, ids=ids)
def test_what_ships_is_the_smaller_network_and_answers_as_the_trained_one(
    trained, given: Given, plan: Plan, tmp_path: Path
) -> None:
    module, reports = trained(plan)
    assert reports[-1].score > 70
    pipeline = Pipeline([sparsifying(plan)], given)
    x = torch.randn(16, *SHAPE)
    deployed, _ = pipeline.deploy(module, SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(deployed(x), module.eval()(x), rtol=1e-4, atol=1e-5)
    assert deployed.inner.weight.shape == (16, 8, 3, 3) or plan.allocation != "uniform"
    assert count(deployed, SHAPE).params < 0.45 * count(residual(), SHAPE).params
    untrained, reports = pipeline.prepare(residual())
    assert "head" in {path for r in reports for path, _ in r.skipped}
    first = export(pipeline.deploy(untrained, SHAPE)[0], SHAPE, tmp_path / "a.onnx")
    assert first.build == export(deployed, SHAPE, tmp_path / "b.onnx").build
    assert first.bytes < 0.6 * export(residual().eval(), SHAPE, tmp_path / "c.onnx").bytes
    assert not any("channel_" in name for name, _ in deployed.named_buffers())


@pytest.mark.parametrize("plan", PLANS[2:], ids=ids)
def test_a_resumed_training_is_bit_for_bit_the_one_that_never_stopped(trained, plan: Plan) -> None:
    whole, _ = trained(plan)
    _, before = trained(plan, to_rung=1)
    torch.manual_seed(99)
    resumed, _ = trained(plan, seed=0, start=before[-1].checkpoint, from_rung=1)
    pairs = zip(whole.state_dict().items(), resumed.state_dict().items(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_repeats_under_other_seeds_have_the_shapes_of_the_study(
    given: Given, tmp_path: Path
) -> None:
    """Amounts that look at weights look at those of the study's own seed."""
    study = replace(given, reference=lambda: residual(seed=0))
    plan = Plan("channels", 0.5, "global")
    skewed = residual(seed=1)
    with torch.no_grad():
        skewed.inner.weight[4:] *= 1e-3
    builds = []
    for module in (residual(seed=0), skewed):
        pipeline = Pipeline([sparsifying(plan)], study)
        prepared, _ = pipeline.prepare(module)
        deployed, _ = pipeline.deploy(prepared, SHAPE)
        builds.append(export(deployed, SHAPE, tmp_path / "n.onnx").build)
    assert builds[0] == builds[1]


def test_the_channels_that_go_are_the_least_important(given: Given) -> None:
    module = residual()
    with torch.no_grad():
        for tensor in (module.inner.weight, module.inner_norm.weight):
            tensor[::2] *= 0.01
        module.outer.weight[:, ::2] *= 0.01
    expected = module.inner_norm.weight[1::2].clone()
    pruned, _ = sparsifying(Plan("channels", 0.5)).prepare(module, given)
    assert torch.equal(pruned.inner_norm.weight, expected)


def test_masked_channels_stay_masked_through_a_training(trained) -> None:
    sparse = []

    def seen(module, over):
        alive = module.inner.channel_mask
        sparse.append((round(100 * over), int(alive.sum())))
        for tensor in (module.inner.weight, module.inner_norm.weight, module.inner_norm.bias):
            assert not tensor[~alive].any()
        assert not module.outer.weight[:, ~alive].any()

    trained(Plan("channels", 0.5, "uniform", "acdc"), seen)
    for percent, live in sparse:
        closed = percent >= 85 or (10 <= percent < 75 and (percent - 10) // 5 % 2 == 0)
        assert live == (16 if closed else 32), percent
