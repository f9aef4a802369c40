"""What is put into a frozen network, and where, as data."""

from __future__ import annotations

from dataclasses import dataclass

from nas.transforms.adapt.bottleneck import Form
from nas.transforms.adapt.linear import Where
from nas.transforms.adapt.seen import SECTIONS


@dataclass(frozen=True)
class Plan:
    """What is put into a frozen network, and where.

    Args:
        method: a name of `METHODS`.
        sections: for each quarter of the multiply-adds, in the order in which they run, whether
            its layers are adapted.
        mixing: of the layers that mix places, `all`, in attention only the `queries` and values,
            or `none`. channels, norms: whether the layers that mix channels, and norms, are.
        rank: of LoRA and of a pruning adapter's update; hidden channels of a bottleneck and of
            Polyhistor; random features of SNNK.
        alpha, stable: LoRA's scale is alpha / rank, or with rsLoRA alpha / sqrt(rank).
        where, ratio: of linear adapters: beside the layers; hidden channels over the layer's.
        form: of a bottleneck. prompts, deep: how many tokens, and whether each block has its own.
        share, penalty: of SaRA: of the entries that are trained; whether their rank is penalised.
        density: share of the channels that a pruning adapter keeps.
        heads: early heads: none, 1 at the half, 3 at the quarters.
        leave: the quarter behind which the deployed network is left; 4 is its end.
        rate: of learning, times the recipe's, which is for whole networks: adapters want more
            (DiffFit's authors take ten times that of the pretraining).
        dropped, masked: Dyn-Adapter's sparsity: dropout of the shallowest adapters, of LoRA and
            bottlenecks; share of the adapters' gradients left out.
    """

    method: str
    sections: tuple[bool, ...] = (True,) * SECTIONS
    mixing: str = "all"
    channels: bool = True
    norms: bool = True
    rank: int = 4
    alpha: float = 4.0
    stable: bool = False
    where: Where = "both"
    ratio: float = 0.25
    form: Form = "serial"
    prompts: int = 5
    deep: bool = True
    share: float = 0.1
    penalty: bool = True
    density: float = 0.5
    heads: int = 0
    leave: int = 4
    rate: float = 1.0
    dropped: float = 0.0
    masked: float = 0.0

    def drop_at(self, section: int) -> float:
        """The dropout of adapters in a section: largest in the first, none in the last."""
        return self.dropped * (1 - section / (SECTIONS - 1)) if self.heads else 0.0

    @property
    def quarters(self) -> tuple[int, ...]:
        """The quarters of the multiply-adds behind which there are early heads."""
        return {0: (), 1: (2,), 3: (1, 2, 3)}[self.heads]
