"""A convolution whose filters look at their input through different dilations.

Inception convolution (Liu et al., arXiv 2012.13587): each filter has its own distance between taps
along the rows and along the columns, so one layer sees several sizes and shapes of surroundings at
the parameters and multiply-adds of the plain one. Filters of one pattern lie together, so the layer
runs as a few dilated convolutions, their outputs one after the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.networks.mixers.depthwise import Depthwise, Size, reach
from nas.networks.parts.log import Log
from nas.networks.parts.merge import Concatenated

Pattern = tuple[int, int]
Convolution = nn.Conv2d | Depthwise


class Patterned(nn.Module):
    """The filters of a convolution, the first so many of one pattern, the next of another.

    It keeps the maps' size, or divides it by the stride, as the convolution did; for other odd
    kernels than 3 the padding is `dilation * (kernel - 1) / 2`, not the published `dilation`.

    Args:
        conv: dense or depthwise, with odd kernels, `same` padding and dilation 1; its weight, its
            bias and what lies beside them (masks of the weight) become this layer's.
        patterns: `((rows, columns), filters)`: distances between taps and how many filters have
            them; the filters add up to the convolution's.
    """

    def __init__(self, conv: Convolution, patterns: Sequence[tuple[Pattern, int]]) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        for name, buffer in conv.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        tall, wide = conv.stride if isinstance(conv, nn.Conv2d) else (1, 1)
        self.stride = (tall, wide)
        self.channelwise, self.ours = is_channelwise(conv), isinstance(conv, Depthwise)
        self.patterns = tuple((pattern, count) for pattern, count in patterns if count)
        assert sum(count for _, count in self.patterns) == len(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, filters, H / stride, W / stride)`."""
        found, start = [], 0
        for pattern, count in self.patterns:
            rows = slice(start, start + count)
            weight, bias = self.weight[rows], None if self.bias is None else self.bias[rows]
            inputs, groups = (x[:, rows], count) if self.channelwise else (x, 1)
            padding = same(weight, pattern)
            found.append(F.conv2d(inputs, weight, bias, self.stride, padding, pattern, groups))
            start += count
        return torch.cat(found, 1) if len(found) > 1 else found[0]

    def deployed(self, path: str, size: Size, log: Log) -> nn.Module:
        """One plain convolution a pattern, cut to the taps that a map of `size` can meet."""
        convs, start = [], 0
        for pattern, count in self.patterns:
            rows = slice(start, start + count)
            bias = None if self.bias is None else self.bias[rows]
            convs.append(self._plain(self.weight[rows], bias, pattern, size))
            start += count
        shown = ", ".join(f"{count} filters {h}x{w}" for (h, w), count in self.patterns)
        log.touch(path, f"dilations as {len(convs)} convolution{'s'[: len(convs) > 1]}: {shown}")
        return convs[0] if len(convs) == 1 else Concatenated(convs, self.channelwise)

    def _plain(
        self, weight: Tensor, bias: Tensor | None, pattern: Pattern, size: Size
    ) -> nn.Conv2d:
        """The filters of one pattern as torch's own layer."""
        for axis, width, dilation in zip((-2, -1), size, pattern, strict=True):
            taps = weight.shape[axis]
            kept = reach(taps, width, dilation)
            weight = weight.narrow(axis, (taps - kept) // 2, kept)
        conv = self._empty(weight, bias, pattern)
        conv.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
        conv.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        return conv

    def _empty(self, weight: Tensor, bias: Tensor | None, pattern: Pattern) -> nn.Conv2d:
        """Torch's own layer for these filters, all of one pattern, without its parameters."""
        filters, inputs, tall, wide = weight.shape
        return nn.Conv2d(
            filters if self.channelwise else inputs,
            filters,
            (tall, wide),
            self.stride,
            same(weight, pattern),
            pattern,
            groups=filters if self.channelwise else 1,
            bias=bias is not None,
            device="meta",
        )

    def undilated(self) -> Convolution:
        """The convolution that this layer was made of, with this layer's parameters."""
        conv: Convolution
        if self.ours:
            with torch.device("meta"):  # draws no numbers
                conv = Depthwise(len(self.weight), (self.weight.shape[-2], self.weight.shape[-1]))
        else:
            conv = self._empty(self.weight, self.bias, (1, 1))
        conv.weight, conv.bias = self.weight, self.bias
        return conv

    def shrink(self, conv: Convolution, gone: Collection[int]) -> None:
        """Takes over the parameters of `undilated`, once some of its channels have been removed.

        `gone` are the filters among them; those that stay keep their patterns.
        """
        self.weight, self.bias = conv.weight, conv.bias
        left = [p for place, p in enumerate(self.pattern_of()) if place not in gone]
        self.patterns = tuple((p, len([*alike])) for p, alike in itertools.groupby(left))
        assert len(left) == len(self.weight)

    def pattern_of(self) -> list[Pattern]:
        """The pattern of each filter."""
        return [pattern for pattern, count in self.patterns for _ in range(count)]

    def extra_repr(self) -> str:
        """What `print` shows."""
        shown = ", ".join(f"{count} of {h}x{w}" for (h, w), count in self.patterns)
        return f"{tuple(self.weight.shape)}, stride={self.stride}, {shown}"


def is_channelwise(conv: Convolution) -> bool:
    """Whether each filter sees its own channel alone."""
    return isinstance(conv, Depthwise) or 1 < conv.groups == conv.in_channels == conv.out_channels


def same(weight: Tensor, pattern: Pattern) -> Size:
    """The padding that keeps a map's size.

    >>> same(torch.empty(8, 1, 3, 5), (2, 1))
    (2, 2)
    """
    tall, wide = ((taps - 1) // 2 * d for taps, d in zip(weight.shape[-2:], pattern, strict=True))
    return tall, wide
