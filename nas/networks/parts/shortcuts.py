"""Projections on the skip path, where a stage changes the size or the number of maps.

`conv` is a 1x1 convolution with the stage's stride (ResNet); `conv3` a 3x3 one (SENet-154); `pool`
averages 2x2 first (ResNet-D, arXiv 1812.01187), so that no pixel is left out.
"""

from __future__ import annotations

from torch import nn

from nas.core.errors import unknown
from nas.networks.parts.layers import conv, conv_norm, named

SHORTCUTS = ("conv", "pool", "conv3")


def make_shortcut(
    kind: str, inputs: int, outputs: int, stride: int, norm: str, bare: bool
) -> nn.Module:
    """The projection from one size to another; nothing where both are the same.

    `bare`, it has no norm (blocks with activation first). Raises: NasError for an unknown kind.
    """
    if kind not in SHORTCUTS:
        raise unknown("shortcut", kind, SHORTCUTS)
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    kernel = 3 if kind == "conv3" and stride > 1 else 1
    inner = 1 if kind == "pool" else stride
    project: nn.Module = conv_norm(inputs, outputs, kernel, inner, "none", norm)
    if bare:
        project = conv(inputs, outputs, kernel, inner)
    if inner == stride:
        return project
    pool = nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False)
    return named(pool=pool, project=project)
