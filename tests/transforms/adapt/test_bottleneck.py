from __future__ import annotations

import pytest
import torch
from adapter_networks import adapt, far, inputs, pretrained
from torch import nn
from torch.nn import functional as F

from nas.catalog import load_axis, load_space
from nas.core.axis import join
from nas.core.task import TaskSpec
from nas.transforms.adapt.bottleneck import Bottleneck, bottleneck
from nas.transforms.adapt.plan import Plan
from nas.transforms.adapt.seen import Layer
from nas.transforms.stages import Given, Pipeline


def seen(layer: nn.Module, shape: tuple) -> Layer:
    return Layer("layer", "channels", "", 1.0, shape, tuple(layer(torch.zeros(shape)).shape))


def test_serial_is_behind_what_the_layer_returns() -> None:
    layer = nn.Linear(6, 8)
    made, _ = bottleneck(layer, seen(layer, (2, 6)), "serial", 3)
    nn.init.normal_(made.behind.up.weight)
    x = torch.randn(4, 6)
    y = layer(x)
    part = made.behind
    by_hand = F.linear(F.relu(F.linear(y, part.down.weight, part.down.bias)), part.up.weight)
    assert far(made(x), y + by_hand) < 1e-6


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 8, 3, padding=1),
        nn.Conv2d(6, 8, 3, 2, padding=1),
        nn.Conv2d(6, 8, 2, 2),
        nn.Conv2d(6, 8, 1),
    ],
)
def test_parallel_takes_what_the_layer_takes(layer: nn.Conv2d) -> None:
    made, _ = bottleneck(layer, seen(layer, (2, 6, 8, 8)), "parallel", 3)
    nn.init.normal_(made.parallel.up.weight)
    x = torch.randn(2, 6, 8, 8)
    part = made.parallel
    taken = x[:, :, :: layer.stride[0], :: layer.stride[1]]
    down = F.conv2d(taken, part.down.weight, part.down.bias)
    assert far(made(x), layer(x) + part.up(torch.relu(down))) < 1e-6


def test_parallel_is_refused_where_one_tap_gives_other_sizes() -> None:
    layer = nn.Conv2d(6, 8, 3)
    assert "size" in bottleneck(layer, seen(layer, (2, 6, 8, 8)), "parallel", 3)


@pytest.mark.parametrize("form", ["serial", "parallel"])
def test_it_stays_with_its_cost(form: str) -> None:
    tried = adapt(pretrained("convolutions"), Plan("bottleneck", rank=3, form=form))
    deployed, report = tried.deploy()
    held = [m for m in deployed.modules() if isinstance(m, Bottleneck)]
    assert len(held) == 3
    assert far(deployed(inputs()), tried.adapted(inputs())) < 1e-9
    assert sum("an activation keeps its adapter" in why for _, why in report.skipped) == 3


@pytest.mark.slow
@pytest.mark.parametrize("form", ["serial", "parallel"])
@pytest.mark.parametrize(
    ("mixer", "gate"), [("smallkernel", "none"), ("dilated", "se"), ("stripe", "grn"),
                        ("depthwise", "se+grn")],
)  # fmt: skip
def test_what_is_merged_around_an_adapter_is_deployed_as_it_was_trained(
    mixer: str, gate: str, form: str
) -> None:
    task = TaskSpec("digits", (3, 32, 32), 10)
    joint = join(load_space("largekernel"), [load_axis("adapter")]).at(task)
    stages = {f"stages.{i}.{name}": value for i in range(4)
              for name, value in {"mixer": mixer, "gate": gate, "depth": 1}.items()}  # fmt: skip
    wanted = {"block": "convnext", "layer_scale": True, **stages,
              "adapter.method": "bottleneck", "adapter.form": form, "adapter.rank": 8}  # fmt: skip
    choices = joint.repair(wanted).choices
    assert wanted.items() <= choices.items()
    given = Given(task, lambda count: torch.randn(count, *task.input), pretrained=True)
    pipeline = Pipeline(joint.transforms(choices, task), given)
    torch.manual_seed(0)
    module, reports = pipeline.prepare(joint.build(choices, task))
    assert any("bottleneck" in line for line in reports[0].touched)
    for parameter in module.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    x = torch.randn(4, *task.input)
    module.train()(x)  # norms that have seen something
    expected = module.eval()(x)
    assert far(pipeline.deploy(module, task.input)[0](x), expected) < 1e-4
