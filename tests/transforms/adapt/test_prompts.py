from __future__ import annotations

import math

import pytest
import torch
from adapter_networks import (
    SHAPE,
    FusedAttention,
    Tokens,
    adapt,
    far,
    inputs,
    pretrained,
)
from torch import Tensor, nn

from nas.catalog import load_space
from nas.core.task import TaskSpec
from nas.transforms.adapt.adapting import adapting
from nas.transforms.adapt.plan import Plan
from nas.transforms.adapt.prompts import Frame, Prompt, Prompted
from nas.transforms.stages import Given


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


class Reduced(nn.Module):
    """Attention that looks at the tokens of the map alone, as the reduced one of PVT."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x + x[:, 1:17].mean(1, keepdim=True))


class Mapped(Reduced):
    """One that makes a map of all its tokens but the first."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x[:, 1:].view(len(x), 4, 4, -1).mean((1, 2))[:, None]


def mixed(*attentions: type[nn.Module]) -> nn.Module:
    made = Tokens(FusedAttention)
    for block, attention in zip(made.blocks, attentions, strict=True):
        block.attn = attention(16)
    return made.double().eval()


def test_blocks_that_prompts_are_lost_in_are_left_with_the_reason() -> None:
    tried = adapt(mixed(Reduced, Mapped, FusedAttention), Plan("prompt", prompts=2))
    told = dict(tried.prepared.skipped)
    assert told["blocks.0"] == "what it makes of its tokens does not depend on further ones"
    assert told["blocks.1"].startswith("it does not run with further tokens: The size")
    assert tried.prepared.touched[0].startswith("blocks.2: 2 prompts")
    [prompt] = [m for m in tried.adapted.modules() if isinstance(m, Prompt)]
    with torch.enable_grad():
        tried.adapted(inputs()).square().sum().backward()
    assert bool(prompt.tokens.grad.any())


def test_where_no_block_takes_prompts_there_is_a_frame() -> None:
    tried = adapt(mixed(Reduced, Reduced, Mapped), Plan("prompt", prompts=4))
    assert isinstance(tried.adapted.front, Frame)
    assert len(dict(tried.prepared.skipped)) >= 3


@pytest.mark.parametrize(
    ("kinds", "through"),
    [
        ((Reduced, FusedAttention, FusedAttention), ["blocks.1", "blocks.2"]),
        ((FusedAttention, Mapped, FusedAttention), ["blocks.0"]),
    ],
)
def test_shallow_prompts_go_through_neighbours(
    kinds: tuple[type[nn.Module], ...], through: list[str]
) -> None:
    tried = adapt(mixed(*kinds), Plan("prompt", prompts=2, deep=False))
    found = [p for p, m in tried.adapted.network.named_modules() if isinstance(m, Prompted)]
    assert found == through
    assert tried.adapted(inputs()).shape == (4, 5)


def test_a_branch_that_begins_at_zero_hides_no_block() -> None:
    network = mixed(FusedAttention, FusedAttention, FusedAttention)
    for block in network.blocks:
        nn.init.zeros_(block.attn.proj.weight)
    tried = adapt(network, Plan("prompt"))
    assert sum(isinstance(m, Prompt) for m in tried.adapted.modules()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pvt_tiny", "pvt_v2_b0"])
def test_hierarchical_transformers_are_prompted_where_it_is_of_use(name: str) -> None:
    task = TaskSpec("t", (3, 64, 64), 5)
    space = load_space("hiervit").at(task)
    network = space.build(space.preset(name).choices, task)
    given = Given(task, lambda n: torch.zeros(n, *task.input), pretrained=True)
    module, report = adapting(Plan("prompt")).prepare(network, given)
    with torch.enable_grad():
        module.train()(torch.randn(2, *task.input)).square().sum().backward()
    assert any(path == "stages.0.blocks.0" for path, _ in report.skipped)
    assert all(bool(m.tokens.grad.any()) for m in module.modules() if isinstance(m, Prompt))
