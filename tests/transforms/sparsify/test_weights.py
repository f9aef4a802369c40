from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from peculiar_layers import Standardised
from torch import nn
from transforms.sparsify.conftest import SHAPE, examples, residual

from nas.core.task import TaskSpec
from nas.deploy.export import export
from nas.networks.mixers.patterned import Patterned
from nas.transforms.adapt.adapting import adapting
from nas.transforms.adapt.plan import Plan as Adapter
from nas.transforms.dilate import dilating
from nas.transforms.fold import fold
from nas.transforms.sparsify import Plan, sparsifying, weights
from nas.transforms.sparsify.patterns import obeys
from nas.transforms.sparsify.weights import DENSITIES, final_counts, masked
from nas.transforms.stages import Given, Pipeline

PLANS = [
    Plan("unstructured", 0.9, "uniform", "start"),
    Plan("unstructured", 0.9, "erk", "oneshot"),
    Plan("unstructured", 0.9, "global", "gradual"),
    Plan("unstructured", 0.9, "rd", "oneshot"),
    Plan("unstructured", 0.9, "global", "acdc"),
    Plan("unstructured", 0.9, "erk", "dst", exploration=0.1),
    Plan("2:4", timing="gradual"),
    Plan("2:4", timing="acdc"),
]


def zeros(module: nn.Module) -> float:
    weights = [m.weight for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    inner = weights[1:-1]  # the ends stay dense
    return float(sum((w == 0).sum() for w in inner) / sum(w.numel() for w in inner))


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: f"{p.pattern}-{p.allocation}-{p.timing}")
def test_a_trained_network_has_the_zeros_it_was_planned(trained, given: Given, plan: Plan) -> None:
    module, reports = trained(plan)
    assert reports[-1].score > 70
    before = [m.mask().clone() for m in masked(module)]
    shipped, report = sparsifying(plan).finish(module, given)
    assert zeros(shipped) == pytest.approx(plan.removed, abs=1e-3)
    assert len(report.touched) == 3 and not masked(shipped)
    names = [name for name, _ in shipped.named_buffers()]
    assert not any("mask" in name or "rounds" in name for name in names)
    kept = [shipped.inner.weight, shipped.outer.weight]
    assert all(not (w * ~m).any() for w, m in zip(kept, before, strict=True))
    if plan.pattern == "2:4":
        assert all(obeys(w, 2, 4) for w in kept)


@pytest.mark.parametrize("plan", PLANS[2:6], ids=lambda p: f"{p.allocation}-{p.timing}")
def test_a_resumed_training_is_bit_for_bit_the_one_that_never_stopped(trained, plan: Plan) -> None:
    whole, _ = trained(plan)
    _, before = trained(plan, to_rung=1)
    torch.manual_seed(99)
    resumed, _ = trained(plan, seed=5, start=before[-1].checkpoint, from_rung=1)
    pairs = zip(whole.state_dict().items(), resumed.state_dict().items(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)
    assert any("weight_mask" in name for name in whole.state_dict())


def test_the_schedule_is_followed_in_a_training(trained) -> None:
    """AC/DC: a mask fixed within each phase, none in dense ones, and no weight stays dead."""
    live, masks = {}, {}

    def seen(module, over):
        found = masked(module)
        total = sum(m.weight.numel() for m in found)
        live[round(100 * over)] = sum(m.live for m in found) / total
        masks[round(100 * over)] = torch.cat([m.mask().flatten() for m in found])

    trained(Plan("unstructured", 0.9, "global", "acdc"), seen)
    for percent, share in live.items():
        sparse = percent >= 85 or (10 <= percent < 75 and (percent - 10) // 5 % 2 == 0)
        assert share == (pytest.approx(0.1, abs=1e-3) if sparse else 1.0), percent
    assert torch.equal(masks[10], masks[12]) and not torch.equal(masks[12], masks[70])


@pytest.mark.parametrize("pattern", ["unstructured", "channels"])
@pytest.mark.parametrize("timing", ["acdc", "gradual"])
def test_momentum_starts_anew_where_phases_of_acdc_change(
    given: Given, pattern: str, timing: str
) -> None:
    """Of all that is trained, also of what no mask is on; other schedules keep what lives."""
    transform = sparsifying(Plan(pattern, 0.5, "uniform", timing))
    module, _ = transform.prepare(residual(), given)
    addition = transform.during(module, given)
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-2, momentum=0.9)
    addition.begin(optimizer)
    still = []
    for percent in range(1, 101):
        optimizer.zero_grad()
        module(examples(4)).square().mean().backward()
        optimizer.step()
        addition.after(percent / 100)
        if not any(optimizer.state[p]["momentum_buffer"].any() for p in module.parameters()):
            still.append(percent)
    assert still == ([*range(10, 80, 5), 85] if timing == "acdc" else [])


def test_untrained_and_trained_export_to_one_graph(trained, given: Given, tmp_path: Path) -> None:
    plan = Plan("unstructured", 0.9, "global", "oneshot")
    untrained, _ = sparsifying(plan).prepare(residual(), given)
    module, _ = trained(plan)
    pipeline = Pipeline([sparsifying(plan)], given)
    builds = set()
    for number, each in enumerate((untrained, module)):
        deployed, _ = pipeline.deploy(each, SHAPE)
        path = tmp_path / f"{number}.onnx"
        builds.add(export(deployed, SHAPE, path).build)
        arrays = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
        inner = [a for a in arrays.values() if a.ndim == 4 and a.shape[1] > 3]
        dead = sum((a == 0).sum() for a in inner) / sum(a.size for a in inner)
        assert len(inner) == 2
        assert dead == pytest.approx(0.9, abs=1e-3)  # in the file that ships
    assert len(builds) == 1


@pytest.mark.parametrize("allocation", ["uniform", "erk", "global", "rd"])
@pytest.mark.parametrize("removed", [0.5, 0.95])
def test_every_allocation_reaches_the_sparsity(
    given: Given, allocation: str, removed: float
) -> None:
    plan = Plan("unstructured", removed, allocation, ends=True)
    module, report = sparsifying(plan).prepare(residual(), given)
    found = masked(module)
    total = sum(m.weight.numel() for m in found)
    assert sum(m.live for m in found) == round((1 - removed) * total)
    assert len(found) == 4 and not report.skipped
    assert all("storage only" in line for line in report.touched)


def test_rate_and_distortion_spare_what_the_output_depends_on(given: Given) -> None:
    """A layer whose output is multiplied by nearly nothing gives its weights first."""
    module = residual()
    with torch.no_grad():
        module.outer.weight.mul_(1e-4)  # so `inner` hardly matters either
    plan = Plan("unstructured", 0.8, "rd", ends=True)
    prepared, _ = sparsifying(plan).prepare(module, given)
    live = {m.path: m.live / m.weight.numel() for m in masked(prepared)}
    assert live["stem"] > 0.9 and live["head"] > 0.9
    assert max(live["inner"], live["outer"]) < 0.25
    assert min(DENSITIES) < min(live.values())


def test_who_is_left_out_is_told(given: Given) -> None:
    torch.manual_seed(0)
    shared = nn.Conv2d(8, 8, 1)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), shared, nn.ReLU(), shared,
        nn.Conv2d(8, 6, 1), nn.Conv2d(6, 8, 1), nn.Conv2d(8, 8, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip
    module[7].weight = shared.weight
    _, report = sparsifying(Plan("2:4")).prepare(module, given)
    told = dict(report.skipped)
    assert told["0"] == told["10"] == "the first and the last layer stay dense"
    assert "depthwise" in told["1"] and "6 inputs" in told["6"]
    assert told["7"] == "its weights are those of 2"
    assert [line.partition(":")[0] for line in report.touched] == ["2", "5"]


def test_somebodys_own_layer_keeps_its_weights(given: Given) -> None:
    """It may compute with other numbers, which are not zero."""
    module = residual()
    module.inner = Standardised(16, 32, 3, padding=1, bias=False)
    _, report = sparsifying(Plan("unstructured", 0.9, "uniform", "start")).prepare(module, given)
    assert dict(report.skipped)["inner"] == "Standardised is a layer of its own kind"
    assert [m.path for m in masked(module)] == ["outer"]


def test_a_device_with_the_kernel_masks_what_it_takes_one_without_all() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(64, 64, 1), nn.Conv2d(64, 32, 3, padding=1), nn.Conv2d(32, 64, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 96), nn.Linear(96, 2),
    )  # fmt: skip
    plan, task = Plan("2:4", ends=True), TaskSpec("t", (64, 4, 4), 2)
    without = Given(task, lambda count: torch.zeros(count, *task.input))
    _, report = sparsifying(plan).prepare(deepcopy(module), without)
    assert len(report.touched) == 5 and not report.skipped
    assert all("no 2:4 kernel" in line for line in report.touched)
    prepared, report = sparsifying(plan).prepare(module, replace(without, kernels=("2:4",)))
    assert [line.partition(":")[0] for line in report.touched] == ["0", "5"]
    assert all(line.endswith("for the device's 2:4 kernels") for line in report.touched)
    assert {path for path, why in report.skipped if "32 by 64" in why} == {"1", "2", "6"}
    whole = [bool((prepared[i].weight != 0).all()) for i in (0, 1, 2, 5, 6)]
    assert whole == [False, True, True, False, True]
    unstructured = Plan("unstructured", 0.9, ends=True)
    _, report = sparsifying(unstructured).prepare(module, replace(without, kernels=("2:4",)))
    assert not report.skipped


def test_counts_follow_the_weights_as_they_are(given: Given) -> None:
    module = residual()
    plan = Plan("unstructured", 0.9, "global", "oneshot")
    prepared, _ = sparsifying(plan).prepare(module, given)
    first = final_counts(prepared, masked(prepared), plan, given)
    with torch.no_grad():
        prepared.inner.weight.mul_(0.1)
    second = final_counts(prepared, masked(prepared), plan, given)
    assert second[0] < first[0] and sum(first) == sum(second)


def test_folding_keeps_zeros(given: Given) -> None:
    module, _ = sparsifying(Plan("2:4")).prepare(residual(), given)
    shipped, _ = sparsifying(Plan("2:4")).finish(module, given)
    deployed, _ = fold(shipped, SHAPE)
    convs = [m for m in deployed.modules() if isinstance(m, nn.Conv2d)]
    assert all(obeys(c.weight, 2, 4) for c in convs[1:])


def test_zeros_survive_an_adapter_that_is_merged(given: Given) -> None:
    """SSF multiplies outputs, frozen weights stay: in training and merged the pattern is kept."""
    transforms = [adapting(Adapter(method="ssf")), sparsifying(Plan("2:4"))]
    pipeline = Pipeline(transforms, given)
    module, _ = pipeline.prepare(residual())
    additions = pipeline.during(module)
    trained_parts = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained_parts, lr=0.1)
    for addition in additions:
        if addition.begin is not None:
            addition.begin(optimizer)
    before = module(examples(4)).detach()
    module(examples(4)).square().sum().backward()
    optimizer.step()
    for addition in additions:
        if addition.after is not None:
            addition.after(1.0)
    assert not torch.allclose(module(examples(4)), before)
    deployed, reports = pipeline.deploy(module, SHAPE)
    convs = [m for m in deployed.modules() if isinstance(m, nn.Conv2d)]
    assert all(obeys(c.weight, 2, 4) for c in convs[1:])
    assert {r.transform for r in reports} >= {"adapter", "sparsity"}


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: f"{p.pattern}-{p.allocation}-{p.timing}")
def test_filters_that_are_dilated_have_the_zeros_too(trained, given: Given, plan: Plan) -> None:
    dilation = dilating([[(1, 1), (2, 2), (1, 2), (2, 1)]] * 4)
    module, _ = trained(plan, beside=[dilation])
    assert isinstance(module.inner, Patterned) and isinstance(module.outer, Patterned)
    deployed, reports = Pipeline([dilation, sparsifying(plan)], given).deploy(module, SHAPE)
    weights = [c.weight for part in (deployed.inner, deployed.outer) for c in part.convs]
    assert len(weights) == 6 and sum(w.numel() for w in weights) == 2 * 32 * 16 * 9
    dead = float(sum((w == 0).sum() for w in weights)) / sum(w.numel() for w in weights)
    assert dead == pytest.approx(plan.removed, abs=1e-3)
    assert reports[0].touched[0] == f"all of them: {plan.removed:.1%} of 9216 weights are zero"
    assert plan.pattern != "2:4" or all(obeys(w, 2, 4) for w in weights)
    assert not masked(deployed) and {"inner", "outer"} == {m.path for m in masked(module)}


def test_where_shapes_alone_are_looked_at_no_distortion_is_measured(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "curves", lambda *_: pytest.fail("it was measured"))
    plan = Plan("unstructured", 0.8, "rd", "start")
    module, _ = sparsifying(plan).prepare(residual(), replace(given, shapes=True))
    assert all(abs(m.live - 0.2 * m.weight.numel()) <= 1 for m in masked(module))
