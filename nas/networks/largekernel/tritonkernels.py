"""The Triton kernels of `tiled.py`; importing this file needs Triton."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def product(  # noqa: PLR0913, PLR0917
    x, weight, y,
    batch, height, width, out_height, out_width,
    KERNEL_HEIGHT: tl.constexpr, KERNEL_WIDTH: tl.constexpr,
    STRIDE: tl.constexpr, DILATION: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    """A tile of `ROWS x COLUMNS` outputs of one channel, rows of all images in one line.

    For each row of taps, the input rows `(ROWS, INNER)` times the band matrix `(INNER, COLUMNS)` of
    those taps, which is gathered from the kernel on the way. Planes are contiguous; `x` and `y` are
    `(C, B, H, W)` and `(C, B, h, w)`, `weight (C, kh, kw)`.
    """
    channel = tl.program_id(2).to(tl.int64)
    line = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    image, row = line // out_height, line % out_height
    there = line < batch * out_height
    maps = x + (channel * batch + image.to(tl.int64)) * height * width
    taps = weight + channel * KERNEL_HEIGHT * KERNEL_WIDTH
    half: tl.constexpr = KERNEL_WIDTH // 2 * DILATION
    # the input columns that this tile's outputs see
    first = tl.maximum(tl.program_id(1) * COLUMNS * STRIDE - half, 0)
    end = tl.minimum((tl.program_id(1) * COLUMNS + COLUMNS - 1) * STRIDE + half + 1, width)
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for r in range(KERNEL_HEIGHT):
        source = row * STRIDE + (r - KERNEL_HEIGHT // 2) * DILATION
        inside = there & (source >= 0) & (source < height)
        for start in range(first, end, INNER):
            inner = start + tl.arange(0, INNER)
            values = tl.load(
                maps[:, None] + source[:, None] * width + inner[None, :],
                mask=inside[:, None] & (inner[None, :] < width), other=0.0,
            )  # fmt: skip
            offset = inner[:, None] - column[None, :] * STRIDE + half
            tap = offset // DILATION
            met = (offset >= 0) & (tap < KERNEL_WIDTH) & (offset % DILATION == 0)
            band = tl.load(taps + r * KERNEL_WIDTH + tap, mask=met, other=0.0)
            total = tl.dot(values, band, total, input_precision=PRECISION)
    place = (channel * batch * out_height + line.to(tl.int64)) * out_width
    tl.store(
        y + place[:, None] + column[None, :],
        total.to(y.dtype.element_ty),
        mask=there[:, None] & (column[None, :] < out_width),
    )


@triton.jit
def correlation(  # noqa: PLR0913, PLR0917
    x, grad, bands,
    batch, height, width, out_height, out_width,
    KERNEL_HEIGHT: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    """A tile of the gradient of one band matrix: `(INNER, COLUMNS)` of `(width, out_width)`.

    Every line of every image is summed by this one program, in order: no atomic additions, so that
    the same inputs give the same bits. `bands` is `(C, kh, width, out_width)`, float32.
    """
    index = tl.program_id(0)  # the only axis of a grid that may be long
    channel = (index // KERNEL_HEIGHT).to(tl.int64)
    r = index % KERNEL_HEIGHT
    inner = tl.program_id(1) * INNER + tl.arange(0, INNER)
    column = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    maps = x + channel * batch * height * width
    backs = grad + channel * batch * out_height * out_width
    total = tl.zeros((INNER, COLUMNS), dtype=tl.float32)
    for start in range(0, batch * out_height, ROWS):
        line = start + tl.arange(0, ROWS)
        image, row = line // out_height, line % out_height
        source = row * STRIDE + (r - KERNEL_HEIGHT // 2) * DILATION
        there = line < batch * out_height
        inside = there & (source >= 0) & (source < height)
        values = tl.load(
            maps + ((image * height + source) * width)[None, :] + inner[:, None],
            mask=inside[None, :] & (inner[:, None] < width), other=0.0,
        )  # fmt: skip
        back = tl.load(
            backs + (line * out_width)[:, None] + column[None, :],
            mask=there[:, None] & (column[None, :] < out_width), other=0.0,
        )  # fmt: skip
        total = tl.dot(values, back, total, input_precision=PRECISION)
    place = bands + index.to(tl.int64) * width * out_width
    tl.store(
        place + inner[:, None] * out_width + column[None, :],
        total,
        mask=(inner[:, None] < width) & (column[None, :] < out_width),
    )
