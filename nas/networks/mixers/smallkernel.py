"""A large depthwise kernel with a small one beside it (RepLKNet, arXiv 2203.06717)."""

from __future__ import annotations

from torch import Tensor, nn

from nas.networks.mixers.depthwise import Depthwise, Size, deploy, plain
from nas.networks.parts.log import Log
from nas.networks.parts.merge import centred, fold_backward, normalised


class SmallKernelMixer(nn.Module):
    """KxK plus small depthwise convolution, each with its batch norm."""

    def __init__(self, channels: int, kernel: int, small: int) -> None:
        super().__init__()
        self.large = Depthwise(channels, kernel, bias=False)
        self.large_norm = nn.BatchNorm2d(channels)
        self.small = Depthwise(channels, small, bias=False)
        self.small_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        y: Tensor = self.large_norm(self.large(x)) + self.small_norm(self.small(x))
        return y

    def deployed(self, path: str, size: Size, log: Log) -> nn.Module:
        """The small kernel, padded with zeros, into the large one."""
        weight, bias = normalised(self.large.weight, self.large.bias, self.large_norm)
        small, small_bias = normalised(self.small.weight, self.small.bias, self.small_norm)
        log.touch(path, "small kernel into the large one")
        merged = centred([weight, small]).to(self.large.weight)
        return plain(path, merged, bias + small_bias, size, log)


class NormedMixer(nn.Module):
    """A mixer that has no batch norm of its own, followed by one."""

    def __init__(self, mixer: nn.Module, channels: int) -> None:
        super().__init__()
        self.mixer = mixer
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        y: Tensor = self.norm(self.mixer(x))
        return y

    def deployed(self, path: str, size: Size, log: Log) -> nn.Module:
        """The norm into the merged mixer where it ends in convolutions of every channel."""
        self.mixer = deploy(self.mixer, f"{path}.mixer", size, log)
        if fold_backward(f"{path}.norm", self.mixer, self.norm, log):
            return self.mixer
        return self
