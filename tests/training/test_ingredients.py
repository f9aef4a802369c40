"""Additions to the loss, against what their papers write."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nas.core.errors import NasError
from nas.training.ingredients import (
    SPREAD,
    apart,
    bias_loss,
    binary_loss,
    example_weights,
    orthogonality,
    prepare_bias_loss,
)


def plain(module: nn.Module, inputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(module(inputs), target)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 3),
    )  # fmt: skip


def test_images_with_even_maps_count_less() -> None:
    module = network()
    prepare_bias_loss(module)
    loss = bias_loss(module).criterion(plain)
    inputs = torch.randn(5, 3, 8, 8) * torch.tensor([0.1, 1.0, 2.0, 3.0, 0.5]).view(-1, 1, 1, 1)
    target = torch.tensor([0, 1, 2, 0, 1])
    found = loss(module, inputs, target)
    with torch.no_grad():
        variance = module[:3](inputs).flatten(1).var(1)
        scaled = (variance - variance.min()) / (variance.max() - variance.min())
        each = F.cross_entropy(module(inputs), target, reduction="none")
    assert float(found.detach()) == pytest.approx(
        float((example_weights(scaled) * each).mean()), rel=1e-5
    )
    assert getattr(module, SPREAD).tolist() == pytest.approx(
        [float(variance.min()), float(variance.max())]
    )
    loss(module, inputs[:1], target[:1])  # the range is remembered, not of one batch
    assert getattr(module, SPREAD).tolist() == pytest.approx(
        [float(variance.min()), float(variance.max())]
    )
    found.backward()
    assert module[0].weight.grad is not None


def test_the_bias_loss_needs_maps() -> None:
    module = nn.Linear(4, 2)
    prepare_bias_loss(module)
    with pytest.raises(NasError) as caught:
        bias_loss(module).criterion(plain)(module, torch.randn(2, 4), torch.tensor([0, 1]))
    assert "recipe.loss = plain" in caught.value.hint


def test_each_class_by_itself() -> None:
    module, inputs = network(), torch.randn(2, 3, 8, 8)
    found = binary_loss().criterion(plain)(module, inputs, torch.tensor([0, 2]))
    shares = torch.sigmoid(module(inputs))
    wanted = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])
    expected = -(wanted * shares.log() + (1 - wanted) * (1 - shares).log()).mean()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("stride", "taps"), [(1, 3), (2, 3), (2, 2), (1, 1)])
def test_an_orthogonal_convolution_is_at_no_distance(stride: int, taps: int) -> None:
    """A kernel whose filters are unit taps at places that never meet keeps norms."""
    torch.manual_seed(0)
    inputs = 4
    rows = torch.linalg.qr(torch.randn(inputs, inputs, dtype=torch.float64))[0]
    weight = torch.zeros(inputs, inputs, taps, taps, dtype=torch.float64)
    weight[..., taps // 2, taps // 2] = rows
    assert float(apart(weight, stride)) < 1e-5
    x = torch.randn(1, inputs, 8, 8, dtype=torch.float64)
    y = F.conv2d(F.pad(x, (taps // 2,) * 4, mode="circular"), weight, stride=1)[..., :8, :8]
    assert float(y.norm()) == pytest.approx(float(x.norm()))
    assert float(apart(2 * weight, stride)) == pytest.approx(3 * inputs**0.5)


def test_the_distance_by_all_displacements() -> None:
    torch.manual_seed(0)
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64)
    padded = F.pad(weight, (2,) * 4)
    total = 0.0
    for down in (-2, 0, 2):  # displacements in strides of two
        for right in (-2, 0, 2):
            window = padded[:, :, 2 + down : 5 + down, 2 + right : 5 + right]
            meet = torch.einsum("mcij,ncij->mn", window, weight)
            total += float((meet - torch.eye(3) * (down == right == 0)).square().sum())
    assert float(apart(weight, 2)) == pytest.approx(total**0.5)


def test_orthogonality_is_added_for_all_but_the_first() -> None:
    module, inputs, target = network(), torch.randn(2, 3, 8, 8), torch.tensor([0, 2])
    found = orthogonality(module, 0.1).criterion(plain)(module, inputs, target)
    expected = plain(module, inputs, target) + 0.1 * apart(module[2].weight, 1)
    torch.testing.assert_close(found, expected)
