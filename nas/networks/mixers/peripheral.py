"""Peripheral convolution: taps far from the centre share weights (PeLK, arXiv 2403.07589)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.networks.largekernel.convolution import convolve, convolve_quickly
from nas.networks.largekernel.passes import expand
from nas.networks.mixers.depthwise import Size, plain
from nas.networks.parts.log import Log


def cells(kernel: int, core: int) -> list[int]:
    """The cell of each of `kernel` taps on a line: single ones near the centre, wider outwards.

    The `core` cells next to the centre have one tap, then 2, 4, 8, ...; the last has what is left.

    >>> cells(13, 2)
    [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 7, 8, 8]
    >>> max(cells(51, 2)) + 1, max(cells(101, 3)) + 1
    (13, 17)
    """
    half = kernel // 2
    outward: list[int] = []
    cell = 0
    while len(outward) < half:
        cell += 1
        outward += [cell] * (1 if cell <= core else 2 ** (cell - core))
    outward = outward[:half]
    edge = max(outward, default=0)
    return [edge - c for c in reversed(outward)] + [edge] + [edge + c for c in outward]


class PositionalTable(nn.Module):
    """An input offset for each channel and tap, shared by the layers of a stage."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.empty(channels, kernel, kernel))
        nn.init.normal_(self.offset, std=0.02)


class PeripheralMixer(nn.Module):
    """A KxK depthwise convolution whose outer taps share weights in ever larger cells.

    With a positional table the tap at `(i, j)` sees `x + offset[i, j]`, padding included, which
    adds one constant a channel: `sum_ij w[i, j] * offset[i, j]`.

    Args:
        channels: number of channels.
        kernel: size K of the expanded kernel.
        core: number of single-tap cells on each side of the centre.
        table: the stage's positional table, which owns its parameters; the only constant there is.
    """

    def __init__(
        self,
        channels: int,
        kernel: int,
        core: int,
        table: PositionalTable | None = None,
    ) -> None:
        super().__init__()
        self.cells = tuple(cells(kernel, core))
        side = max(self.cells) + 1
        self.weight = nn.Parameter(torch.empty(channels, 1, side, side))
        self._shared = (table,)  # in a tuple, so that the stage alone registers it
        nn.init.normal_(self.weight, std=0.02)

    def expanded(self) -> tuple[Tensor, Tensor | None]:
        """The whole `(C, 1, K, K)` kernel, and the constant that the positional table adds."""
        return expand(self.weight, self.cells), self.bias()

    def bias(self) -> Tensor | None:
        """The constant that the positional table adds to each channel, `(C,)`."""
        (table,) = self._shared
        if table is None:
            return None
        return (expand(self.weight, self.cells)[:, 0] * table.offset).sum((1, 2))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        way = convolve_quickly if self.training else convolve
        return way(x, self.weight, self.bias(), cells=self.cells)

    def deployed(self, path: str, size: Size, log: Log) -> nn.Module:
        """The expanded kernel as a plain convolution."""
        weight, bias = self.expanded()
        log.touch(path, f"{self.weight.shape[-1]} cells expanded to {weight.shape[-1]} taps a side")
        return plain(path, weight, bias, size, log)
