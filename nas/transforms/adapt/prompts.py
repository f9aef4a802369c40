"""Visual prompts: tokens that are learnt beside those of the image, or a frame of learnt pixels.

Deep (Jia et al. 2022, arXiv 2203.12119): each block has prompts of its own, in place of what the
last block's prompts became, so there are never more than P of them; shallow: one set goes in before
the first block and comes out behind the last. They are put behind the other tokens and taken away
again, so that whoever reads the class token or the mean of all tokens reads what it did before;
attention does not see the order. They cannot be merged: their tokens cost what tokens cost.

A network of maps has no tokens; it gets a frame of learnt pixels added to its input (Bahng et al.
2022, arXiv 2203.17274).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from nas.transforms.adapt.adapted import Part
from nas.transforms.adapt.beside import own_or


class Prompt(Part):
    """P learnt tokens, drawn evenly from -v to v with v = sqrt(6 / (fan + D)).

    Args:
        count, channels: P and D.
        fan: numbers in one patch of the image, 3 p^2 in the paper.
    """

    def __init__(self, count: int, channels: int, fan: int) -> None:
        super().__init__()
        reach = math.sqrt(6 / (fan + channels))
        self.tokens = nn.Parameter(torch.empty(1, count, channels).uniform_(-reach, reach))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, N, D)` to `(B, N + P, D)`."""
        return torch.cat([x, self.tokens.expand(x.shape[0], -1, -1)], 1)


class Prompted(nn.Module):
    """A frozen block with prompts put in before it and taken out behind it.

    Args:
        block: takes tokens `(B, N, D)`, returns them first or alone.
        prompt: put in before; None where they are there already.
        out: how many tokens are taken out behind, from the end.
    """

    def __init__(self, block: nn.Module, prompt: Prompt | None, out: int) -> None:
        super().__init__()
        self.block = block
        self.prompt = prompt
        self.out = out

    def __getattr__(self, name: str) -> Any:
        """What this does not have itself is the block's."""
        return own_or(self, name, "block")

    def forward(self, x: Tensor, *rest: Any, **named: Any) -> Any:
        """What the block returns."""
        found = self.block(x if self.prompt is None else self.prompt(x), *rest, **named)
        if not self.out:
            return found
        if isinstance(found, Tensor):
            return found[:, : -self.out]
        return (found[0][:, : -self.out], *found[1:])


class Frame(Part):
    """Learnt pixels around the edge of the input, added to it; zero at first.

    Args:
        shape: of an input, `(C, H, W)`. width: of the frame, in pixels.
    """

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        depth, height, across = shape
        inner = height - 2 * width
        self.hole = (depth, inner, across - 2 * width)
        self.top = nn.Parameter(torch.zeros(depth, width, across))
        self.bottom = nn.Parameter(torch.zeros(depth, width, across))
        self.left = nn.Parameter(torch.zeros(depth, inner, width))
        self.right = nn.Parameter(torch.zeros(depth, inner, width))

    def whole(self) -> Tensor:
        """The frame as an image `(C, H, W)`, zero inside."""
        middle = torch.cat([self.left, self.left.new_zeros(self.hole), self.right], 2)
        return torch.cat([self.top, middle, self.bottom], 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        return x + self.whole()


class Framed(nn.Module):
    """A network behind a frame that is now a constant."""

    frame: Tensor

    def __init__(self, frame: Frame, network: nn.Module) -> None:
        super().__init__()
        self.register_buffer("frame", frame.whole().detach())
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """What the network answers."""
        found: Tensor = self.network(x + self.frame)
        return found
