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
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nas.transforms.adapt.adapted import Part
from nas.transforms.running import randomised

BOOL = torch.bool  # a mask of these says who is seen; one of numbers is added


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
    """A frozen block that works on P prompts too.

    A mask `(..., N, N)` of which tokens attend to which, if the block is given one, is widened: all
    tokens attend to the prompts.

    Args:
        block: takes tokens `(B, N, D)`, returns them first or alone.
        count: P. prompt: put in before; None where they are there already.
        out: whether they are taken out behind.
    """

    def __init__(self, block: nn.Module, count: int, prompt: Prompt | None, out: bool) -> None:
        super().__init__()
        self.block = block
        self.count = count
        self.prompt = prompt
        self.out = out

    def forward(self, x: Tensor, *rest: Any, **named: Any) -> Any:
        """What the block returns."""
        tokens = x.shape[1] - (self.count if self.prompt is None else 0)
        rest = tuple(self._widened(value, tokens) for value in rest)
        named = {name: self._widened(value, tokens) for name, value in named.items()}
        found = self.block(x if self.prompt is None else self.prompt(x), *rest, **named)
        if not self.out:
            return found
        if isinstance(found, Tensor):
            return found[:, : -self.count]
        return (found[0][:, : -self.count], *found[1:])

    def _widened(self, value: Any, tokens: int) -> Any:
        if not isinstance(value, Tensor) or value.dim() < 3 or value.shape[-1] != tokens:
            return value
        rows = self.count if value.shape[-2] == tokens else 0
        return nn.functional.pad(value, (0, self.count, 0, rows), value=float(value.dtype == BOOL))


def obstacle(
    block: nn.Module, inputs: Sequence[Any], named: Mapping[str, Any], count: int
) -> str | None:
    """Why prompts would be in vain in a block, or None.

    It is run once with prompts, with random weights in place of its own: a branch that begins at
    zero would hide that its tokens see the prompts. Blocks that make maps of their tokens cannot
    take more of them, or leave out those that are no place of the map.

    Args:
        inputs, named: of one call of the block. count: P.
    """
    if not inputs or not isinstance(inputs[0], Tensor):
        return "its tokens are not the first that it is given"
    numbers = torch.Generator().manual_seed(0)
    copy, tokens = randomised(block), inputs[0].shape[1]
    shape = (*inputs[0].shape[:1], tokens + count, *inputs[0].shape[2:])
    x, *rest = (_real(value) for value in inputs)
    x = torch.randn(shape, generator=numbers, device="cpu").to(x).requires_grad_()
    try:
        with torch.enable_grad():
            found = Prompted(copy, count, None, out=True)(
                x, *rest, **{name: _real(value) for name, value in named.items()}
            )
        found = found if isinstance(found, Tensor) else found[0]
        gradient = None
        if found.requires_grad:
            weights = torch.randn(found.shape, generator=numbers, device="cpu").to(found)
            [gradient] = torch.autograd.grad(found, x, weights, allow_unused=True)
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
        return f"it does not run with further tokens: {' '.join(str(error).split())[:120]}"
    if gradient is None or not gradient[:, tokens:].any():
        return "what it makes of its tokens does not depend on further ones"
    return None


def _real(value: Any) -> Any:
    """A tensor without numbers as one of zeros."""
    meta = isinstance(value, Tensor) and value.is_meta
    return torch.zeros_like(value, device="cpu") if meta else value


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
