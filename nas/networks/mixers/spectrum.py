"""Maps as sums of waves, and back: Fourier and cosine transforms, filters between them.

In training the Fourier transform is torch's. Deployed it is four small matrix products with fixed
matrices, exact up to rounding, which every runtime has; few have a Fourier transform of their own.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.networks.mixers.depthwise import Size
from nas.networks.parts.log import Log


class Fourier(nn.Module):
    """The orthonormal Fourier transform of real maps, half of whose spectrum says all.

    Args:
        size: rows and columns for which the matrices are kept; None uses torch's own transform.
    """

    def __init__(self, size: Size | None = None) -> None:
        super().__init__()
        self.fixed = size is not None
        if size is not None:
            rows, columns = size
            turns = torch.arange(rows, dtype=torch.float64)
            down = 2 * math.pi / rows * turns[:, None] * turns[None, :]
            half = torch.arange(columns // 2 + 1, dtype=torch.float64)
            across = 2 * math.pi / columns * torch.arange(columns)[:, None] * half[None, :]
            twice = torch.full((len(half), 1), 2.0, dtype=torch.float64)
            twice[0] = 1.0
            if columns % 2 == 0:
                twice[-1] = 1.0
            kept = {
                "down_cos": down.cos() / rows**0.5, "down_sin": down.sin() / rows**0.5,
                "across_cos": across.cos() / columns**0.5,
                "across_sin": across.sin() / columns**0.5,
                "back_cos": twice * across.T.cos() / columns**0.5,
                "back_sin": twice * across.T.sin() / columns**0.5,
            }  # fmt: skip
            for name, matrix in kept.items():
                self.register_buffer(name, matrix.float(), persistent=False)

    def there(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary part, `(B, C, H, W // 2 + 1)` each, of maps `(B, C, H, W)`."""
        if not self.fixed:
            spectrum = torch.fft.rfft2(x, norm="ortho")
            return spectrum.real, spectrum.imag
        b = dict(self.named_buffers())
        real, imaginary = x @ b["across_cos"].to(x), -(x @ b["across_sin"].to(x))
        cos, sin = b["down_cos"].to(x), b["down_sin"].to(x)
        return cos @ real + sin @ imaginary, cos @ imaginary - sin @ real

    def back(self, real: Tensor, imaginary: Tensor, size: Size) -> Tensor:
        """The maps `(B, C, *size)` of a half spectrum."""
        if not self.fixed:
            maps: Tensor = torch.fft.irfft2(torch.complex(real, imaginary), s=size, norm="ortho")
            return maps
        b = dict(self.named_buffers())
        cos, sin = b["down_cos"].to(real), b["down_sin"].to(real)
        x, y = cos @ real - sin @ imaginary, cos @ imaginary + sin @ real
        return x @ b["back_cos"].to(real) - y @ b["back_sin"].to(real)


class _Spectral(nn.Module):
    """A layer that goes to the Fourier spectrum and back."""

    def __init__(self) -> None:
        super().__init__()
        self.fourier = Fourier()

    def deployed(self, path: str, size: Size, log: Log) -> nn.Module:
        """The transforms as matrices."""
        self.fourier = Fourier(size)
        log.touch(path, f"Fourier transform of {size[0]}x{size[1]} maps as matrices")
        return self


class GlobalFilter(_Spectral):
    """A learned complex number for each channel and wave: a convolution as large as the map.

    (GFNet, arXiv 2107.00645.) The numbers are kept for a map of `size`; for another they are
    interpolated.
    """

    def __init__(self, channels: int, size: Size) -> None:
        super().__init__()
        shape = (channels, size[0], size[1] // 2 + 1, 2)
        self.weight = nn.Parameter(0.02 * torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        size = (x.shape[-2], x.shape[-1])
        wanted = (size[0], size[1] // 2 + 1)
        weight: Tensor = self.weight
        if weight.shape[1:3] != wanted:
            flat = weight.permute(3, 0, 1, 2)
            weight = F.interpolate(flat, wanted, mode="bilinear", align_corners=True)
            weight = weight.permute(1, 2, 3, 0)
        real, imaginary = self.fourier.there(x)
        a, b = weight[..., 0], weight[..., 1]
        return self.fourier.back(real * a - imaginary * b, real * b + imaginary * a, size)


class AdaptiveFilter(_Spectral):
    """A spectrum multiplied by what two layers make of it (AFFNet, arXiv 2307.14008).

    The layers are complex, in blocks of channels; small values of the mask become zero; the input
    is added.

    Args:
        channels: a multiple of `blocks`.
        blocks: how many blocks of channels.
        threshold: of the soft shrinkage.
    """

    def __init__(self, channels: int, blocks: int = 8, threshold: float = 0.01) -> None:
        super().__init__()
        each = channels // blocks
        self.blocks, self.threshold = blocks, threshold
        self.weights = nn.ParameterList(
            nn.Parameter(0.02 * torch.randn(2, blocks, each, each)) for _ in range(2)
        )
        self.biases = nn.ParameterList(
            nn.Parameter(0.02 * torch.randn(2, blocks, each)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        real, imaginary = self.fourier.there(x)
        a, b = self._linear(real, imaginary, 0)
        a, b = self._linear(F.relu(a), F.relu(b), 1)
        a, b = F.softshrink(a, self.threshold), F.softshrink(b, self.threshold)
        size = (x.shape[-2], x.shape[-1])
        return x + self.fourier.back(real * a - imaginary * b, real * b + imaginary * a, size)

    def _linear(self, real: Tensor, imaginary: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """A complex linear layer of each block of channels, at every wave."""
        weight, bias = self.weights[layer], self.biases[layer].flatten(1)[:, :, None, None]
        a, b = weight.flatten(1, 2)[..., None, None]
        groups = self.blocks
        return (
            F.conv2d(real, a, None, groups=groups) - F.conv2d(imaginary, b, None, groups=groups)
            + bias[0],
            F.conv2d(imaginary, a, None, groups=groups) + F.conv2d(real, b, None, groups=groups)
            + bias[1],
        )  # fmt: skip


class CosineMixer(nn.Module):
    """A cosine spectrum multiplied by what a small network makes of that image's own (DSM).

    The paper (Dynamic Spectrum Mixer, arXiv 2309.06721) gives no code: as in the adaptive Fourier
    filter, but with the real, orthonormal cosine transform, two layers in blocks of channels make
    the mask. That arrangement is our choice.

    Args:
        channels: a multiple of `blocks`.
        size: rows and columns of the map.
        blocks: how many blocks of channels.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, channels: int, size: Size, blocks: int = 8) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels, 1, groups=blocks)
        self.excite = nn.Conv2d(channels, channels, 1, groups=blocks)
        for name, length in zip(("rows", "columns"), size, strict=True):
            self.register_buffer(name, cosines(length), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        spectrum = self.rows @ x @ self.columns.transpose(0, 1)
        mask = self.excite(F.gelu(self.squeeze(spectrum)))
        y: Tensor = self.rows.transpose(0, 1) @ (spectrum * mask) @ self.columns
        return x + y


def cosines(length: int) -> Tensor:
    """The orthonormal cosine transform (DCT-II) of rows of `length` numbers, as a matrix.

    >>> m = cosines(5)
    >>> torch.allclose(m @ m.T, torch.eye(5), atol=1e-6)
    True
    """
    places = (torch.arange(length, dtype=torch.float64) + 0.5) / length
    matrix: Tensor = torch.cos(math.pi * torch.arange(length)[:, None] * places[None, :])
    matrix[0] *= 0.5**0.5
    scaled: Tensor = (matrix * (2.0 / length) ** 0.5).float()
    return scaled


class ConditionedConvolution(_Spectral):
    """A convolution as large as the map, whose kernel is made of the image itself (Orchid).

    Between two gates, as in arXiv 2402.18508: the kernel's spectrum is the size of the spectrum of
    a short depthwise convolution of the map, scaled and shifted for each channel. Sizes of spectra
    do not move when the map does, so what is computed moves with it. The paper leaves its
    conditioning network open; this one is our choice.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.value, self.gate = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.condition = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels)
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.shift = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        size = (x.shape[-2], x.shape[-1])
        a, b = self.fourier.there(self.condition(x))
        transfer = self.scale * (a.square() + b.square() + 1e-6).sqrt() + self.shift
        real, imaginary = self.fourier.there(self.value(x))
        y = self.fourier.back(real * transfer, imaginary * transfer, size)
        return y * torch.sigmoid(self.gate(x))
