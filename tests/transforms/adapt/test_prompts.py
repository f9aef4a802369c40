from __future__ import annotations

import math

import pytest
import torch
from adapter_networks import SHAPE, adapt, far, inputs, pretrained
from torch import Tensor, nn

from nas.transforms.adapt.plan import Plan
from nas.transforms.adapt.prompts import Frame, Prompt


def behind_the_class_token(network: nn.Module, prompts: list[Tensor], deep: bool, x: Tensor):
    """VPT as its authors write it: inserted behind the class token, replaced in every block."""
    tokens = network.patches(x).flatten(2).transpose(1, 2)
    x = torch.cat([network.classes.expand(len(x), -1, -1), tokens], 1) + network.places
    count = prompts[0].shape[1]
    for place, block in enumerate(network.blocks):
        if place == 0 or deep:
            rest = x[:, 1:] if place == 0 else x[:, 1 + count :]
            x = torch.cat([x[:, :1], prompts[place].expand(len(x), -1, -1), rest], 1)
        x = block(x)
    return network.head(network.norm(x)[:, 0])


@pytest.mark.parametrize("deep", [True, False])
def test_the_order_of_tokens_does_not_matter(deep: bool) -> None:
    tried = adapt(pretrained("fused"), Plan("prompt", prompts=4, deep=deep))
    prompts = [m.tokens for m in tried.adapted.modules() if isinstance(m, Prompt)]
    assert len(prompts) == (3 if deep else 1)
    expected = behind_the_class_token(tried.before, prompts, deep, inputs())
    assert far(tried.adapted(inputs()), expected) < 1e-9


def test_they_begin_as_far_out_as_the_papers() -> None:
    tokens = Prompt(50, 64, fan=3 * 16 * 16).tokens
    reach = math.sqrt(6 / (3 * 16 * 16 + 64))
    assert float(tokens.abs().max()) == pytest.approx(reach, rel=0.01)
    assert float(tokens.std()) == pytest.approx(reach / math.sqrt(3), rel=0.05)


def test_sections_choose_blocks() -> None:
    plan = Plan("prompt", sections=(False, False, False, True))
    tried = adapt(pretrained("fused"), plan)
    assert sum(isinstance(m, Prompt) for m in tried.adapted.modules()) == 1


def test_a_network_of_maps_gets_a_frame() -> None:
    tried = adapt(pretrained("convolutions"), Plan("prompt", prompts=5))
    frame = tried.adapted.front
    assert isinstance(frame, Frame)
    image = frame.whole()
    assert image.shape == SHAPE and not bool(image[:, 2:-2, 2:-2].any())
    edge = image.clone()
    edge[:, 2:-2, 2:-2] = 1
    assert bool(edge.all())
    count = sum(p.numel() for p in frame.parameters())
    assert count == 3 * (16 * 16 - 12 * 12)
    deployed, _ = tried.deploy()
    assert far(deployed(inputs()), tried.before(inputs() + image)) < 1e-9
