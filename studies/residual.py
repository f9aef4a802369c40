"""A small residual network of 3x3 convolutions: what the studies of sparsity start from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import nas


class Block(nn.Module):
    """Two convolutions around which the input is added."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.short = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to maps smaller by the stride."""
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.short(x))


def network(task: nas.TaskSpec, width: int, depth: int) -> nn.Module:
    """Three stages of `depth` blocks, `width` channels wide and twice as many in each next one."""
    stem = [nn.Conv2d(task.input[0], width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    blocks, inputs = [], width
    for stage in range(3):
        for place in range(depth):
            outputs = width * 2**stage
            blocks.append(Block(inputs, outputs, 2 if stage and not place else 1))
            inputs = outputs
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, task.outputs)]
    return nn.Sequential(*stem, *blocks, *head)


def small(task: nas.TaskSpec) -> nn.Module:
    """The network of the digits study: 6 convolutions of 3x3, 32 to 128 channels."""
    return network(task, 32, 1)


def larger(task: nas.TaskSpec) -> nn.Module:
    """The network of the CIFAR-10 study: 12 convolutions of 3x3, 64 to 256 channels."""
    return network(task, 64, 2)
