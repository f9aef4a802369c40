"""Networks of every kind that adapters are put into, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas.core.task import TaskSpec
from nas.networks.mixers.depthwise import Depthwise
from nas.transforms.adapt.adapted import Adapted
from nas.transforms.adapt.adapting import adapting
from nas.transforms.adapt.plan import Plan
from nas.transforms.report import Report
from nas.transforms.stages import Given, Pipeline

SHAPE = (3, 16, 16)
OUTPUTS = 5


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        plain = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if plain else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        y += self.shortcut(x)
        return self.relu(y)


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), Residual(8, 8, 1), Residual(8, 16, 2), Residual(16, 16, 1),
        nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, OUTPUTS),
    )  # fmt: skip


class LargeKernel(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mixer = Depthwise(channels, 3)
        nn.init.normal_(self.mixer.weight, std=0.3)
        self.norm = nn.BatchNorm2d(channels)
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.project = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(torch.relu(self.expand(self.norm(self.mixer(x)))))


class LargeKernels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, 4)
        self.blocks = nn.Sequential(LargeKernel(16), LargeKernel(16), LargeKernel(16))
        self.head = nn.Linear(16, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Projected(nn.Module):
    """Attention with one layer for query, key and value, as timm's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x)[:, None].chunk(3, -1)
        return self.proj(nn.functional.scaled_dot_product_attention(q, k, v)[:, 0])


class FusedAttention(Projected):
    pass


class TorchAttention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(channels, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=False)[0]


class Transformer(nn.Module):
    def __init__(self, channels: int, attention: nn.Module) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = attention
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Tokens(nn.Module):
    def __init__(self, attention: Callable[[int], nn.Module], channels: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, channels, 4, 4)
        self.classes = nn.Parameter(torch.randn(1, 1, channels))
        self.places = nn.Parameter(torch.randn(1, 17, channels))
        self.blocks = nn.Sequential(*(Transformer(channels, attention(channels)) for _ in range(3)))
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.classes.expand(x.shape[0], -1, -1), tokens], 1) + self.places
        return self.head(self.norm(self.blocks(tokens))[:, 0])


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "convolutions": convolutions,
    "large kernels": LargeKernels,
    "fused": lambda: Tokens(FusedAttention),
    "torch": lambda: Tokens(TorchAttention),
}


def pretrained(name: str) -> nn.Module:
    """A network in float64 whose norms have statistics of their own."""
    module = NETWORKS[name]().double().eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.3, 3)
    return module


@dataclass(frozen=True)
class Tried:
    """A network before, while and after it is adapted, in float64 with random adapters.

    `before` has the head of the adapted one, which begins anew.
    """

    before: nn.Module
    adapted: Adapted
    prepared: Report
    pipeline: Pipeline

    def deploy(self) -> tuple[nn.Module, Report]:
        module, reports = self.pipeline.deploy(self.adapted, SHAPE)
        return module, reports[0]


def adapt(
    network: nn.Module, plan: Plan, parts: tuple[int, ...] = (), move: float = 0.2, **given: Any
) -> Tried:
    """Adapts a network; `move` is how far its trained parameters are drawn from their start."""
    task = TaskSpec("t", SHAPE, OUTPUTS, parts=parts)
    pipeline = Pipeline([adapting(plan)], Given(task, lambda n: torch.zeros(n, *SHAPE), **given))
    before = deepcopy(network)
    module, [report] = pipeline.prepare(network)
    assert isinstance(module, Adapted)
    module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(move * torch.randn_like(parameter))
    trained = module.network.get_submodule(module.head)
    before.get_submodule(module.head).load_state_dict(trained.state_dict())
    return Tried(before, module, report, pipeline)


def inputs(count: int = 4) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1)).double()


def far(one: Tensor, two: Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    return float((one - two).abs().max() / two.abs().max())
