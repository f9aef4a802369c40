"""What tokens attend to, held to plain loops; every kind of step and token builds and learns."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from nas import TaskSpec
from nas.networks.hiervit import (
    Attention,
    HierarchicalNet,
    ResidualReduction,
    TransformerNetwork,
    TransformerStage,
    to_map,
    to_tokens,
)
from nas.networks.mixers.halo import HaloAttention
from search_spaces.hiervit import space

STAGE = TransformerStage(1, 12, 2, 6)


def by_loops(layer: HaloAttention, x: Tensor) -> Tensor:
    """Every pixel's query against every pixel of its block's window, one by one."""
    height, width = x.shape[-2:]
    q, (k, v) = layer.q(x), layer.kv(x).tensor_split([layer.heads * layer.head], 1)
    value = v.shape[1] // layer.heads
    steps = (range(0, size, layer.stride) for size in (height, width))
    found = torch.zeros_like(q[:, :1]).repeat(1, v.shape[1], 1, 1)
    for head, row, column in itertools.product(range(layer.heads), *steps):
        part = slice(head * layer.head, (head + 1) * layer.head)
        its = slice(head * value, (head + 1) * value)
        query = q[0, part, row // layer.stride, column // layer.stride]
        top, left = row // layer.block * layer.block, column // layer.block * layer.block
        logits, values = [], []
        for i, j in itertools.product(range(layer.window), range(layer.window)):
            r, c = top - layer.halo + i, left - layer.halo + j
            inside = 0 <= r < height and 0 <= c < width
            key = k[0, part, r, c] if inside else torch.zeros_like(query)
            values.append(v[0, its, r, c] if inside else torch.zeros_like(v[0, its, 0, 0]))
            down, right = i - (row - top), j - (column - left)
            offset = layer.rows[down + layer.window - 1] + layer.columns[right + layer.window - 1]
            logits.append(query @ key * layer.head**-0.5 + query @ offset)
        weights = torch.stack(logits).softmax(0)
        place = (row // layer.stride, column // layer.stride)
        found[0, its, *place] = weights @ torch.stack(values)
    return layer.out(found)


@pytest.mark.parametrize("shape", [(4, 4), (5, 6)])
def test_a_pixel_sees_its_block_and_the_rim(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = HaloAttention(6, 2, 3, 2, 1).double().eval()
    nn.init.zeros_(layer.kv.bias)  # beyond the map's edge a filled-up pixel is a zero, too
    x = torch.randn(1, 6, *shape, dtype=torch.float64)
    torch.testing.assert_close(layer(x), by_loops(layer, x))


@pytest.mark.parametrize("shape", [(8, 8), (6, 7)])
def test_queries_may_be_two_pixels_apart_and_values_wider(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = HaloAttention(6, 2, 3, 4, 1, value=5, stride=2, whole=False).double().eval()
    x = torch.randn(1, 6, *shape, dtype=torch.float64)
    torch.testing.assert_close(layer(x), by_loops(layer, x))


def test_reduced_attention_reads_squares() -> None:
    torch.manual_seed(0)
    stage = TransformerStage(1, 12, 2, 6, attention="reduced", reduction=2)
    layer = Attention(stage, 4).double()
    x = torch.randn(1, 16, 12, dtype=torch.float64)
    seen = layer.norm(to_tokens(layer.reduce(to_map(x, 4))))
    assert seen.shape == (1, 4, 12)
    q, (k, v) = layer.q(x), layer.kv(seen).chunk(2, -1)
    heads = []
    for part in (slice(0, 6), slice(6, 12)):
        weights = (q[..., part] @ k[..., part].transpose(1, 2) / 6**0.5).softmax(-1)
        heads.append(weights @ v[..., part])
    torch.testing.assert_close(layer(x), layer.out(torch.cat(heads, -1)))


def test_what_a_residual_reduction_learns_is_added_to_the_pooled_map() -> None:
    layer = ResidualReduction(3, 5, 4, token=True).double()
    for each in (layer.conv, layer.token):
        nn.init.zeros_(each.weight), nn.init.zeros_(each.bias)
    x = torch.randn(2, 17, 3, dtype=torch.float64)
    y = layer(x)
    assert y.shape == (2, 5, 5)
    image = x[:, :16].reshape(2, 2, 2, 2, 2, 3)  # rows of squares, rows in one, columns alike
    torch.testing.assert_close(y[:, :4, :3], image.mean((2, 4)).reshape(2, 4, 3))
    torch.testing.assert_close(y[:, 4, :3], x[:, 16])
    assert not y[..., 3:].any()


@pytest.mark.parametrize(
    ("embedding", "token", "attention", "depthwise"),
    [
        ("patch", "none", "halo", True), ("patch", "last", "reduced", False),
        ("overlapping", "none", "linear", True), ("residual", "first", "global", False),
        ("residual", "none", "halo", False),
    ],
)  # fmt: skip
def test_every_kind_learns(embedding: str, token: str, attention: str, depthwise: bool) -> None:
    torch.manual_seed(0)
    stages = tuple(
        TransformerStage(1, width, 2, 8, 2.0, attention, 2, 4, 1) for width in (16, 24, 32)
    )
    module = HierarchicalNet(
        TransformerNetwork(3, 32, 5, stages, 2, embedding, True, token, depthwise)
    )
    module(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_published_names_are_points_at_any_size() -> None:
    for side in (32, 224):
        at = space.at(TaskSpec("images", (3, side, side), 10))
        for name in space.presets:
            assert at.check(at.preset(name).choices) == []
