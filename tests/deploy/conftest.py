"""Small networks with what graphs trip over: ties, unused state, scalars, reshapes."""

import pytest
import torch
from torch import Tensor, nn


class Small(nn.Module):
    """Convolution, a norm that nothing folded, a layer scale, a tied matrix, a pooled head."""

    def __init__(self, width: int = 8, kernel: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, kernel, padding=kernel // 2)
        self.norm = nn.BatchNorm2d(width)
        self.scale = nn.Parameter(torch.full((width,), 0.1))
        self.mix = nn.Linear(width, width)
        self.again = self.mix
        self.head = nn.Linear(width, 10, bias=False)
        self.register_buffer("unused", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.gelu(self.norm(self.conv(x)))
        x = x + x * self.scale.view(-1, 1, 1).exp()
        x = x.flatten(2).mean(2)
        return self.head(self.again(self.mix(x)) * torch.tensor([0.5]))


def trained_once(seed: int, **known: int) -> nn.Module:
    torch.manual_seed(seed)
    module = Small(**known)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    module.train()(torch.randn(4, 3, 16, 16))  # norms with statistics of their own
    return module.eval()


@pytest.fixture(scope="session")
def make():
    """`make(seed, width=8, kernel=5)`: a network in evaluation, as if trained."""
    return trained_once
