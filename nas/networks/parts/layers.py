"""Plain layers in a row, by name: what every convolutional family is written with."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from nas.networks.parts.activations import make_activation
from nas.networks.parts.norms import make_norm


def named(**layers: nn.Module) -> nn.Sequential:
    """Layers one after the other, by name."""
    return nn.Sequential(OrderedDict(layers))


def conv(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, dilation: int = 1
) -> nn.Conv2d:
    """A convolution without bias that keeps the map's size, up to the stride."""
    padding = kernel // 2 * dilation
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)


def norm_act(channels: int, activation: str = "relu", norm: str = "batch") -> nn.Sequential:
    """A norm and, unless `activation` is `none`, an activation."""
    if activation == "none":
        return named(norm=make_norm(norm, channels))
    return named(norm=make_norm(norm, channels), activation=make_activation(activation))


def conv_norm(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, activation: str = "relu",
    norm: str = "batch", groups: int = 1, dilation: int = 1,
) -> nn.Sequential:  # fmt: skip
    """`conv` without a bias, a norm and, unless `activation` is `none`, an activation."""
    layer = conv(inputs, outputs, kernel, stride, groups, dilation)
    return named(conv=layer, **dict(norm_act(outputs, activation, norm).named_children()))


def he(conv: nn.Conv2d) -> None:
    """He's normal weights by the layer's outputs, zero bias."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def he_grouped(conv: nn.Conv2d) -> None:
    """The same by the outputs of one group, as mobile networks and transformers have it."""
    fan_out = conv.weight[0, 0].numel() * conv.out_channels // conv.groups
    nn.init.normal_(conv.weight, std=(2.0 / fan_out) ** 0.5)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
