"""GPUs: the convolution as implicit matrix products, in Triton.

Each row of taps is a band matrix that a tensor core multiplies with the rows of all images; it is
gathered from the kernel in registers and never stored. In bfloat16 and float16 products are summed
in float32; float32 is computed as such (no TF32). The weight's gradient is that of the band
matrices, summed along diagonals afterwards, without atomic additions: repeatable bit for bit.

NOT YET RUN ON A GPU: none was at hand. It is tested under Triton's interpreter on a processor, in
float32 and float16 (the interpreter has no bfloat16). The tiles follow the sizes of shared memory
and of Hopper's and Ampere's tensor-core instructions, not timings. Where Triton or a GPU is missing
the method is simply not offered.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nas.networks.largekernel.geometry import Geometry, spread, taps_of_lines
from nas.networks.largekernel.method import Gradients

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Tiled:
    """The Triton kernels."""

    name: ClassVar[str] = "triton"
    takes_cells: ClassVar[bool] = False
    widens: ClassVar[bool] = False

    def cost(self, geometry: Geometry) -> float | None:
        """By multiplications; a processor has nothing to compare it with."""
        return 0.001 * geometry.kernel[0] * geometry.size[1] * geometry.size[0] * geometry.size[1]

    def forward(self, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        """One launch."""
        return _product(x, weight, geometry)

    def backward(
        self, grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, wanted: tuple[bool, bool]
    ) -> Gradients:
        """One launch each."""
        g = geometry
        dx = dw = None
        if wanted[0]:
            flat = Geometry(g.batch, g.channels, g.size, g.kernel, 1, g.dilation)
            dx = _product(spread(grad, g), weight.flip((-2, -1)), flat)
        if wanted[1]:
            dw = _correlation(grad, x, g).to(weight.dtype)
        return dx, dw


@cache
def usable(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernels run there: Triton is installed, and a GPU of Ampere's time or later.

    Under `TRITON_INTERPRET=1` they run, slowly, on a processor.
    """
    if dtype not in DTYPES or find_spec("triton") is None:
        return False
    if device.type == "cuda":
        return torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"


def _tiles(x: Tensor, width: int) -> dict[str, int]:
    """Sizes of the tiles and how many loads are under way, by type and generation."""
    side = min(64, max(16, 1 << (width - 1).bit_length()))
    if x.device.type != "cuda":
        return {"ROWS": 32, "COLUMNS": side, "INNER": side}
    hopper = torch.cuda.get_device_capability(x.device) >= (9, 0)
    if x.dtype == torch.float32:  # no tensor cores: smaller tiles, for the registers
        return {"ROWS": 64, "COLUMNS": min(32, side), "INNER": min(32, side), "num_warps": 4,
                "num_stages": 3 if hopper else 2}  # fmt: skip
    return {"ROWS": 128, "COLUMNS": side, "INNER": side, "num_warps": 8 if hopper else 4,
            "num_stages": 4 if hopper else 3}  # fmt: skip


def _current(x: Tensor) -> AbstractContextManager[None]:
    """Makes the GPU of `x` the one that kernels are launched on."""
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()


def _product(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """`x (B, C, H, W)` with `weight (C, 1, kh, kw)`."""
    from nas.networks.largekernel.tritonkernels import product

    g, (tall, wide) = geometry, geometry.output
    maps = x.transpose(0, 1).contiguous()
    y = x.new_empty(g.channels, g.batch, tall, wide)
    tiles = _tiles(x, wide)
    grid = (-(-g.batch * tall // tiles["ROWS"]), -(-wide // tiles["COLUMNS"]), g.channels)
    with _current(x):
        product[grid](
            maps, weight.contiguous(), y, g.batch, *g.size, tall, wide, *g.kernel, g.stride,
            g.dilation, "ieee", **tiles,
        )  # fmt: skip
    return y.transpose(0, 1)


def _correlation(grad: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
    """The weight's gradient `(C, 1, kh, kw)`, float32."""
    from nas.networks.largekernel.tritonkernels import correlation

    g, (tall, wide), (_, width) = geometry, geometry.output, geometry.size
    shape = (g.channels * g.kernel[0], width, wide)
    bands = torch.empty(shape, dtype=torch.float32, device=x.device)
    tiles = _tiles(x, width)
    grid = (shape[0], -(-width // tiles["INNER"]), -(-wide // tiles["COLUMNS"]))
    maps, backs = x.transpose(0, 1).contiguous(), grad.transpose(0, 1).contiguous()
    with _current(x):
        correlation[grid](
            maps, backs, bands, g.batch, *g.size, tall, wide, g.kernel[0], g.stride, g.dilation,
            "ieee", **tiles,
        )  # fmt: skip
    full = bands.new_zeros(shape[0], width, width)
    full[..., :: g.stride] = bands
    line = F.fold(full.flip(-1), (1, 2 * width - 1), (1, width))
    line = line.view(g.channels, 1, g.kernel[0], -1)
    return taps_of_lines(line, g.kernel[1], g.dilation)
