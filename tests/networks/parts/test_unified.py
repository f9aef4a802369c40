"""Unified normalisation: its published steps in numpy, its gradient, and its exact fold."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from nas.networks.hiervit import ATTENTIONS, HierarchicalNet, TransformerNetwork, TransformerStage
from nas.networks.metaformer import MixerNet, MixerNetwork, MixerStage
from nas.networks.parts.unified import UnifiedNorm
from nas.transforms.fold import fold

EPS = 1e-5


class Published:
    """The norm as its authors' training has it, batch by batch, in numpy."""

    def __init__(self, channels: int, warmup: int) -> None:
        self.warmup, self.count = warmup, 0
        self.running, self.product = np.ones(channels), np.zeros(channels)
        self.moments, self.products = np.zeros((4, channels)), np.zeros((4, channels))

    def forward(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        self.count += 1
        slot, square = self.count % 4, (x**2).reshape(-1, x.shape[-1]).mean(0)
        recorded = np.sqrt(self.moments).var(ddof=1)
        self.moments[slot] = square
        self.skip = False
        with np.errstate(divide="ignore"):
            mean = np.exp(np.log(self.moments).mean(0))
        if self.count >= self.warmup and (self.moments.mean(0) - mean > 4 * recorded).any():
            self.moments[slot], self.skip = self.running, True
        plain = self.count <= 4 or self.count < self.warmup or self.skip
        var = square if plain else np.exp(np.log(self.moments).mean(0))
        ratio = np.sqrt(var + EPS) / np.sqrt(self.running + EPS)
        early = self.count <= max(1000, self.warmup) or self.skip
        self.ratio = np.ones_like(ratio) if early else np.clip(ratio, 0.2, 5)
        self.root, self.z, self.weight = np.sqrt(var + EPS), x / np.sqrt(var + EPS), weight
        self.running = 0.9 * self.running + 0.1 * var
        return weight * self.z + bias

    def backward(self, grad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        g = grad * self.weight * self.ratio
        gz = (g * self.z).reshape(-1, g.shape[-1]).mean(0)
        self.products[self.count % 4] = self.product if self.skip else gz
        plain = self.count <= 4 or self.count < self.warmup or self.skip
        mean = gz if plain else self.products.mean(0)
        self.product = 0.9 * self.product + 0.1 * mean
        away = mean if self.skip else self.product
        ratio = (grad * self.ratio * self.z).reshape(-1, g.shape[-1]).sum(0)
        return (g - away * self.z) / self.root, ratio


@pytest.mark.parametrize("warmup", [0, 8, 10**6])
def test_batch_by_batch_it_is_what_was_published(warmup: int) -> None:
    rng = np.random.default_rng(0)
    norm, wanted = UnifiedNorm(3, axis=-1, warmup=warmup).double(), Published(3, warmup)
    norm.steps.fill_(995), setattr(wanted, "count", 995)  # and across where gradients are corrected
    if warmup == 8:
        norm.steps.zero_(), setattr(wanted, "count", 0)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0])), norm.bias.normal_()
    smoothed = []
    for step in range(40):
        size = 30.0 if step in (17, 31) else 1 + 0.2 * step % 3  # two outliers
        x = torch.from_numpy(rng.standard_normal((2, 5, 3)) * size + 0.3).requires_grad_()
        grad = torch.from_numpy(rng.standard_normal((2, 5, 3)))
        norm.weight.grad = norm.bias.grad = None
        found = norm(x)
        found.backward(grad)
        expected = wanted.forward(x.detach().numpy(), norm.weight.detach().numpy(),
                                  norm.bias.detach().numpy())  # fmt: skip
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-9, atol=1e-12)
        inner, weight = wanted.backward(grad.numpy())
        np.testing.assert_allclose(x.grad.numpy(), inner, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(norm.weight.grad.numpy(), weight, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(norm.bias.grad.numpy(), grad.sum((0, 1)).numpy())
        np.testing.assert_allclose(norm.running_var.numpy(), wanted.running, rtol=1e-9)
        smoothed.append(wanted.skip)
    assert any(smoothed) == (warmup < 10**6)


def test_maps_and_tokens_are_normalised_alike_and_no_mean_is_taken_off() -> None:
    maps, tokens = UnifiedNorm(4).double(), UnifiedNorm(4, axis=-1).double()
    x = torch.randn(3, 4, 5, 5, dtype=torch.float64) + 2.0
    found = maps(x)
    torch.testing.assert_close(
        found.flatten(2).transpose(1, 2), tokens(x.flatten(2).transpose(1, 2))
    )
    torch.testing.assert_close(found.square().mean((0, 2, 3)), torch.ones(4).double(), rtol=1e-4,
                               atol=0.0)  # fmt: skip
    assert found.mean() > 0.5
    for norm in (maps, tokens):
        norm.eval()
    with torch.no_grad():
        torch.testing.assert_close(
            maps(x).flatten(2).transpose(1, 2), tokens(x.flatten(2).transpose(1, 2))
        )


def test_fresh_statistics_are_the_plain_mean_of_batches() -> None:
    norm = UnifiedNorm(2, axis=-1).double()
    batches = [torch.randn(7, 2, dtype=torch.float64) * k for k in (1, 2, 3)]
    norm.reset_running_stats()
    norm.momentum = None
    with torch.no_grad():
        for x in batches:
            norm(x)
    wanted = torch.stack([x.square().mean(0) for x in batches]).mean(0)
    torch.testing.assert_close(norm.running_var, wanted)


def drawn(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for layer in module.double().eval().modules():
        for parameter in layer.parameters(recurse=False):
            nn.init.normal_(parameter, 0.5, 0.4)
        if isinstance(layer, UnifiedNorm):
            layer.running_var.uniform_(0.3, 3)
    return module


def folded(module: nn.Module, side: int) -> set[str]:
    """The paths of the norms that are left; fails unless folding is exact."""
    drawn(module)
    deployed, _ = fold(module, (3, side, side))
    x = torch.randn(3, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        wanted, found = module(x), deployed(x)
    spread = (wanted[0] - wanted[1]).abs().max()
    assert spread > 1e-9 * wanted.abs().max(), "the output does not depend on the input"
    assert float((wanted - found).abs().max() / wanted.abs().max()) < 1e-9
    return {path for path, m in deployed.named_modules() if isinstance(m, UnifiedNorm)}


@pytest.mark.parametrize(
    ("attention", "embedding", "token"),
    [
        *itertools.product(ATTENTIONS, ["patch", "residual"], ["none"]),
        ("reduced", "overlapping", "none"), ("reduced", "patch", "last"),
        ("global", "residual", "first"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("norms", ["last", "every"])
def test_in_a_transformer_every_norm_folds(
    attention: str, embedding: str, token: str, norms: str
) -> None:
    stage = TransformerStage(1, 8, 2, 4, 2.0, attention, 2, block=4, halo=1)
    plan = TransformerNetwork(3, 16, 5, (stage, stage), 2, embedding, True, token, norms=norms,
                              norm="unified")  # fmt: skip
    left = folded(HierarchicalNet(plan), 16)
    # a padded convolution would see zeros where it saw the norm's constant; a pool takes no factor
    stays = norms == "every" and embedding in ("overlapping", "residual")
    assert left == ({"stages.0.norm"} if stays else set())


def test_maps_filled_up_to_blocks_keep_the_norm_before_them() -> None:
    stage = TransformerStage(1, 8, 2, 4, 2.0, "halo", block=3, halo=1)
    plan = TransformerNetwork(3, 16, 5, (stage,), 2, norm="unified", positions=True)
    assert folded(HierarchicalNet(plan), 16) == {"stages.0.blocks.0.norm1"}


@pytest.mark.parametrize("mixer", ["gated", "deformable", "tunable"])
def test_among_mixers_what_a_linear_layer_follows_folds(mixer: str) -> None:
    stage = MixerStage(1, 8, mixer)
    plan = MixerNetwork(3, 16, 5, (stage, stage), 2, norm="unified")
    left = folded(MixerNet(plan), 16)
    wanted = set() if mixer == "gated" else {f"stages.{i}.{2}.norm1" for i in range(2)}
    assert left == wanted
