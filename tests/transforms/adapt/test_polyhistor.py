from __future__ import annotations

import numpy as np
import pytest
import torch
from adapter_networks import SHAPE, adapt, far, inputs, pretrained
from torch import nn

from nas.transforms.adapt.beside import Beside
from nas.transforms.adapt.plan import Plan
from nas.transforms.adapt.polyhistor import Constant, Made, Templates
from nas.transforms.adapt.stored import task_bytes


def trained(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def test_each_task_answers_from_a_run_with_its_own_adapters(network: nn.Module) -> None:
    tried = adapt(network, Plan("polyhistor"), parts=(3, 2))
    whole = tried.adapted(inputs())
    alone = []
    for task in (0, 1):
        for module in tried.adapted.modules():
            if isinstance(module, Made):
                module.task = task
        alone.append(tried.adapted.network(inputs()))
    assert torch.equal(whole, torch.cat([alone[0][:, :3], alone[1][:, 3:]], 1))
    assert far(alone[0], alone[1]) > 1e-3


def test_what_is_deployed_are_constants(network: nn.Module) -> None:
    tried = adapt(network, Plan("polyhistor"), parts=(3, 2))
    deployed, _ = tried.deploy()
    assert not any(isinstance(m, Templates | Made) for m in deployed.modules())
    assert any(isinstance(m, Constant) for m in deployed.modules())
    assert far(deployed(inputs()), tried.adapted(inputs())) < 1e-9
    assert deployed(inputs()).shape == (4, 5) and SHAPE[0] == 3


def test_a_template_is_widened_by_a_kronecker_product() -> None:
    templates = Templates(2, 3, hidden=4, channels=8)
    nn.init.normal_(templates.up)
    made = Made(templates, 1, channels=24, maps=False)
    nn.init.normal_(made.widen)
    down, up = made.weights(1)
    small = templates(1, 1)
    rows = made.widen.numpy()
    assert np.allclose(down, np.kron(rows[:1], small[0]))
    assert np.allclose(up, np.kron(rows[1:].T, small[1]))
    assert not torch.allclose(down, made.weights(0)[0])


def test_one_generator_serves_every_width() -> None:
    """A hierarchical network, whose stages have 8 and 16 channels."""
    tried = adapt(pretrained("convolutions"), Plan("polyhistor"), parts=(3, 2))
    made = [m.behind for m in tried.adapted.modules() if isinstance(m, Beside)]
    assert [part.widen.shape[1] for part in made] == [1, 2, 2]
    assert {part._templates[0] for part in made} == {tried.adapted.templates}


@pytest.mark.parametrize("tasks", [2, 4])
def test_a_task_more_costs_far_less_than_adapters_of_its_own(tasks: int) -> None:
    parts = (1,) * (tasks - 1) + (6 - tasks,)
    several = adapt(pretrained("fused"), Plan("polyhistor", rank=4), parts=parts).adapted
    fewer = adapt(pretrained("fused"), Plan("polyhistor", rank=4), parts=(4, 1)).adapted
    assert trained(several) - trained(fewer) == 8 * (tasks - 2)
    own = adapt(pretrained("fused"), Plan("bottleneck", rank=4)).adapted.float()
    assert task_bytes(several.float()) < task_bytes(own) / 4
