"""Vision transformers, plain and in stages: ViT, PVT, PVTv2, ViT-ResNAS, with HaloNet's attention.

Plain (arXiv 2010.11929): patches, one stage of equal maps, a class token. PVT (arXiv 2102.12122):
four stages of halving maps, whose keys and values are read from reduced maps. PVTv2 (2106.13797):
patches that overlap, a depthwise convolution inside the MLP, no positions. ViT-ResNAS (2109.00642):
between stages a strided convolution beside an average pool. HaloNet (2103.12731): each block of
pixels attends to itself and a rim around it.

Within a stage everything is a row of tokens `(B, N, C)`, row by row of the map, behind them a class
token where there is one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.core.errors import unknown
from nas.networks.mixers.halo import HaloAttention
from nas.networks.parts.layers import he_grouped
from nas.networks.parts.log import Log
from nas.networks.parts.merge import affine, fold_backward, fold_forward, scale_input
from nas.networks.parts.norms import make_token_norm
from nas.networks.parts.residual import DropPath

EPS = 1e-6
ATTENTIONS = ("global", "reduced", "linear", "halo")


@dataclass(frozen=True)
class TransformerStage:
    """One stage: `depth` blocks on maps of one size.

    Args:
        width: channels of a token.
        heads: of the attention. head: channels of each.
        expansion: hidden over outer width of the MLP.
        attention: `global`; `reduced` (PVT: keys and values from squares of `reduction` pixels);
            `linear` (PVTv2-Li: from a map pooled to at most 7x7); `halo`.
        reduction: side of those squares.
        block, halo: side of a block of pixels and of the rim that it sees.
    """

    depth: int
    width: int
    heads: int
    head: int
    expansion: float = 4.0
    attention: str = "global"
    reduction: int = 1
    block: int = 8
    halo: int = 3


@dataclass(frozen=True)
class TransformerNetwork:
    """The network around the stages.

    Args:
        channels, side: of the input.
        outputs: size of the output.
        stages: one or more; from one to the next maps are halved.
        patch: side of the first stage's patches.
        embedding: how maps become smaller: `patch` (a convolution of disjoint squares),
            `overlapping` (PVTv2) or `residual` (ViT-ResNAS, from the second stage on).
        positions: whether a learned table is added where a stage begins.
        token: `first` or `last` stage in which a class token joins, or `none`: the mean is read.
        depthwise: whether the MLP has a 3x3 depthwise convolution.
        norms: whether `every` stage ends in a norm, or the `last` alone.
        norm: `layer` or `unified`.
        drop_path: chance that the last block's branches are dropped; earlier ones less.
    """

    channels: int
    side: int
    outputs: int
    stages: tuple[TransformerStage, ...]
    patch: int = 4
    embedding: str = "patch"
    positions: bool = True
    token: str = "none"
    depthwise: bool = False
    norms: str = "last"
    drop_path: float = 0.0
    norm: str = "layer"


class Attention(nn.Module):
    """Every token looks at every other, or at tokens of a reduced map."""

    keeps_norms = True

    def __init__(self, stage: TransformerStage, rows: int, norm: str = "layer") -> None:
        super().__init__()
        width, inner = stage.width, stage.heads * stage.head
        self.stage, self.rows = stage, rows
        self.q, self.kv = nn.Linear(width, inner), nn.Linear(width, 2 * inner)
        self.out = nn.Linear(inner, width)
        self.reduce: nn.Module | None = None
        if stage.attention == "linear":
            self.reduce = nn.Conv2d(width, width, 1)
        elif stage.attention == "reduced" and stage.reduction > 1:
            self.reduce = nn.Conv2d(width, width, stage.reduction, stage.reduction)
        reduces = self.reduce is not None
        self.norm = make_token_norm(norm, width) if reduces else nn.Identity()

    def absorb_norms(self, path: str, log: Log) -> None:
        """Multiplies the reduced map's norm into the convolution that reduces it."""
        if self.reduce is not None and fold_backward(f"{path}.norm", self.reduce, self.norm, log):
            self.norm = nn.Identity()

    def absorb(self, path: str, norm: nn.Module, log: Log) -> bool:
        """Multiplies the norm before all of it into its layers; False where it cannot."""
        first = self.kv if self.reduce is None else self.reduce
        return fold_forward(path, norm, first, log, self.q)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, N, C)`, `N` a square map and perhaps a class token, to the same shape."""
        seen = x if self.reduce is None else self._reduced(x)
        q = self._heads(self.q(x))
        both = self.kv(seen)
        k, v = (self._heads(part) for part in torch.split(both, both.shape[-1] // 2, -1))
        weights = (q * self.stage.head**-0.5 @ k.transpose(-2, -1)).softmax(-1)
        y: Tensor = self.out((weights @ v).transpose(1, 2).flatten(2))
        return y

    def _heads(self, x: Tensor) -> Tensor:
        """`(B, N, inner)` to `(B, heads, N, head)`."""
        y = torch.unflatten(x, -1, (self.stage.heads, self.stage.head))
        return y.transpose(1, 2)

    def _reduced(self, x: Tensor) -> Tensor:
        """The tokens that keys and values are made of."""
        assert self.reduce is not None
        image = to_map(x, self.rows)
        if self.stage.attention == "linear":
            pooled = F.avg_pool2d(image, self.rows // divisor(self.rows, 7))
            return F.gelu(self.norm(to_tokens(self.reduce(pooled))))
        y: Tensor = self.norm(to_tokens(self.reduce(image)))
        return y


class LocalAttention(nn.Module):
    """HaloNet's attention on tokens."""

    def __init__(self, stage: TransformerStage, rows: int, norm: str = "layer") -> None:
        super().__init__()
        self.rows = rows
        self.attend = HaloAttention(stage.width, stage.heads, stage.head, stage.block, stage.halo)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, N, C)`, `N` a square map, to the same shape."""
        return to_tokens(self.attend(to_map(x, self.rows)))

    def absorb(self, path: str, norm: nn.Module, log: Log) -> bool:
        """Multiplies the norm before it into its layers, unless maps are filled up to blocks."""
        if self.rows % self.attend.block:
            log.skip(path, "the attention after it fills up maps with zeros")
            return False
        if not fold_forward(path, norm, self.attend.q, log):
            return False
        scale_input(self.attend.kv, *affine(norm))  # type: ignore[arg-type]
        return True


class Mlp(nn.Module):
    """Two linear layers; a depthwise convolution between them where the network says so."""

    def __init__(self, stage: TransformerStage, rows: int, depthwise: bool) -> None:
        super().__init__()
        self.rows = rows
        hidden = int(stage.width * stage.expansion)
        self.expand = nn.Linear(stage.width, hidden)
        self.mix = nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden) if depthwise else None
        self.rectified = depthwise and stage.attention == "linear"
        self.project = nn.Linear(hidden, stage.width)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, N, C)` to the same shape."""
        y = self.expand(x)
        if self.rectified:
            y = F.relu(y)
        if self.mix is not None:
            y = to_tokens(self.mix(to_map(y, self.rows)))
        z: Tensor = self.project(F.gelu(y))
        return z


class TransformerBlock(nn.Module):
    """Attention and MLP, each behind a norm and beside an identity."""

    keeps_norms = True

    def __init__(
        self, network: TransformerNetwork, stage: TransformerStage, rows: int, drop: float
    ) -> None:
        super().__init__()
        if stage.attention not in ATTENTIONS:
            raise unknown("attention", stage.attention, ATTENTIONS)
        self.norm1 = make_token_norm(network.norm, stage.width, EPS)
        kind = LocalAttention if stage.attention == "halo" else Attention
        self.attention = kind(stage, rows, network.norm)
        self.norm2 = make_token_norm(network.norm, stage.width, EPS)
        self.mlp = Mlp(stage, rows, network.depthwise)
        self.drop = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, N, C)`, `N` a square map and perhaps a class token, to the same shape."""
        x = x + self.drop(self.attention(self.norm1(x)))
        y: Tensor = x + self.drop(self.mlp(self.norm2(x)))
        return y

    def absorb_norms(self, path: str, log: Log) -> None:
        """Multiplies the norms into the layers after them."""
        if self.attention.absorb(f"{path}.norm1", self.norm1, log):
            self.norm1 = nn.Identity()
        if fold_forward(f"{path}.norm2", self.norm2, self.mlp.expand, log):
            self.norm2 = nn.Identity()


class Embedding(nn.Module):
    """Maps to the tokens of a smaller map, normalised."""

    keeps_norms = True

    def __init__(
        self, inputs: int, width: int, stride: int, overlapping: bool, norm: str = "layer"
    ) -> None:
        super().__init__()
        kernel, padding = (2 * stride - 1, stride - 1) if overlapping else (stride, 0)
        if overlapping and stride == 1:
            kernel, padding = 3, 1
        self.conv = nn.Conv2d(inputs, width, kernel, stride, padding)
        self.norm = make_token_norm(norm, width)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, N, width)`."""
        y: Tensor = self.norm(to_tokens(self.conv(x)))
        return y

    def absorb_norms(self, path: str, log: Log) -> None:
        """Multiplies the norm into the convolution before it."""
        if fold_backward(f"{path}.norm", self.conv, self.norm, log):
            self.norm = nn.Identity()


class PlainEmbedding(nn.Module):
    """Maps to the tokens of disjoint squares, as the plain transformer does: no norm."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, width, stride, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, N, width)`."""
        return to_tokens(self.conv(x))


class ResidualReduction(nn.Module):
    """ViT-ResNAS's step between stages: a strided convolution beside an average pool.

    The pool's channels are filled up with zeros, or cut off; a class token goes through a linear
    layer beside itself. `rows` is of the map before.
    """

    keeps_norms = True

    def __init__(
        self, inputs: int, width: int, rows: int, token: bool, norm: str = "layer"
    ) -> None:
        super().__init__()
        self.rows = rows
        self.norm = make_token_norm(norm, inputs, EPS)
        self.conv = nn.Conv2d(inputs, width, 2, 2)
        self.token = nn.Linear(inputs, width) if token else None
        self.more = width - inputs

    def forward(self, x: Tensor) -> Tensor:
        """`(B, N, C)`, `N` a square map and perhaps a class token, to `(B, N', width)`."""
        tokens, last = (x, None) if self.token is None else (x[:, :-1], x[:, -1:])
        learned = self.conv(to_map(self.norm(tokens), self.rows))
        kept = F.pad(to_tokens(F.avg_pool2d(to_map(tokens, self.rows), 2)), (0, self.more))
        y = to_tokens(learned) + kept
        if self.token is None or last is None:
            return y
        return torch.cat((y, self.token(self.norm(last)) + F.pad(last, (0, self.more))), 1)

    def absorb_norms(self, path: str, log: Log) -> None:
        """Multiplies the norm into the layers after it."""
        others = [] if self.token is None else [self.token]
        if fold_forward(f"{path}.norm", self.norm, self.conv, log, *others):
            self.norm = nn.Identity()


class HierarchicalStage(nn.Module):
    """The step down to a stage, its positions, its blocks."""

    def __init__(self, network: TransformerNetwork, index: int, drops: list[float]) -> None:
        super().__init__()
        stage, first = network.stages[index], index == 0
        self.rows = network.side // network.patch // 2**index
        before = network.channels if first else network.stages[index - 1].width
        place = "first" if first else "last" if index == len(network.stages) - 1 else "between"
        self.joins = network.token == place
        carried = network.token == "first" and not first
        self.residual = network.embedding == "residual" and not first
        stride = network.patch if first else 2
        if self.residual:
            self.embed: nn.Module = ResidualReduction(
                before, stage.width, 2 * self.rows, carried, network.norm
            )
        elif len(network.stages) == 1:
            self.embed = PlainEmbedding(before, stage.width, stride)
        else:
            overlapping = network.embedding == "overlapping"
            self.embed = Embedding(before, stage.width, stride, overlapping, network.norm)
        tokens = self.rows**2 + (self.joins or carried)
        self.token = nn.Parameter(torch.zeros(1, 1, stage.width)) if self.joins else None
        self.table = (
            nn.Parameter(torch.zeros(1, tokens, stage.width)) if network.positions else None
        )
        self.blocks = nn.ModuleList(
            TransformerBlock(network, stage, self.rows, drop) for drop in drops
        )
        last = index == len(network.stages) - 1
        ends = last or network.norms == "every"
        self.norm = make_token_norm(network.norm, stage.width, EPS) if ends else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The map, or for `residual` the tokens, of the stage before, to this one's tokens."""
        y: Tensor = self.embed(x)
        if self.token is not None:
            y = torch.cat((y, self.token.expand(y.shape[0], -1, -1)), 1)
        if self.table is not None:
            y = y + self.table
        for block in self.blocks:
            y = block(y)
        z: Tensor = self.norm(y)
        return z


class HierarchicalNet(nn.Module):
    """Stages, and a linear layer on the class token or on the mean."""

    keeps_norms = True

    def __init__(self, network: TransformerNetwork) -> None:
        super().__init__()
        self.tokened = network.token != "none"
        total = sum(stage.depth for stage in network.stages)
        rates = [network.drop_path * i / max(1, total - 1) for i in range(total)]
        stages = []
        for index, stage in enumerate(network.stages):
            stages.append(HierarchicalStage(network, index, rates[: stage.depth]))
            rates = rates[stage.depth :]
        self.stages = nn.ModuleList(stages)
        self.head = nn.Linear(network.stages[-1].width, network.outputs)
        self.apply(initialise)
        for built in stages:
            for table in (built.token, built.table):
                if table is not None:
                    nn.init.trunc_normal_(table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Images `(B, C, H, W)` to outputs `(B, outputs)`."""
        stages = list(self.stages)
        for stage, after in zip(stages, [*stages[1:], None], strict=True):
            x = stage(x)
            if isinstance(after, HierarchicalStage) and not after.residual:
                x = to_map(x, 2 * after.rows)
        y: Tensor = self.head(x[:, -1] if self.tokened else x.mean(1))
        return y

    def absorb_norms(self, path: str, log: Log) -> None:
        """Multiplies a stage's last norm into the next one's embedding, or into the head."""
        stages = [s for s in self.stages if isinstance(s, HierarchicalStage)]
        for i, stage in enumerate(stages):
            name = f"{path}.stages.{i}.norm".lstrip(".")
            if isinstance(stage.norm, nn.Identity):
                continue
            if i + 1 < len(stages) and stages[i + 1].residual:
                log.skip(name, "an average pool takes it, beside a convolution")
                continue
            after = self.head if i + 1 == len(stages) else stages[i + 1].embed.conv
            assert isinstance(after, nn.Module)
            if fold_forward(name, stage.norm, after, log):
                stage.norm = nn.Identity()


def to_map(x: Tensor, rows: int) -> Tensor:
    """Tokens `(B, N, C)` as a map `(B, C, rows, rows)`; a class token behind them is left out."""
    x = x[:, : rows**2] if x.shape[1] > rows**2 else x
    return torch.unflatten(x.transpose(1, 2), 2, (rows, rows))


def to_tokens(x: Tensor) -> Tensor:
    """A map `(B, C, H, W)` as tokens `(B, H * W, C)`."""
    return x.flatten(2).transpose(1, 2)


def divisor(number: int, most: int) -> int:
    """The largest divisor that is no larger than `most`.

    >>> divisor(56, 7), divisor(8, 7), divisor(3, 7)
    (7, 4, 3)
    """
    return next(n for n in range(min(number, most), 0, -1) if number % n == 0)


def initialise(module: nn.Module) -> None:
    """Truncated normal weights of deviation 0.02 for linear layers, He's for convolutions."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        he_grouped(module)
