"""Scaling rules: how much deeper, wider and finer a network becomes when it may cost more.

A rule turns a factor of MACs into factors of depth, width, group width and resolution; a space
says which of its decisions they apply to (`SearchSpace.scale`). Three rules are known: compound
scaling (EfficientNet, arXiv 1905.11946), fast scaling (Dollar et al., arXiv 2103.06877) and that
of ResNet-RS (arXiv 2103.07579).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from nas.core.errors import NasError, unknown


def nearest(value: float, step: int) -> int:
    """The nearest multiple of `step`, at least one; halves go up.

    >>> nearest(19, 8), nearest(20, 8), nearest(1, 8)
    (16, 24, 8)
    """
    return max(step, math.floor(value / step + 0.5) * step)


def rounded_width(value: float, step: int = 8, least: int = 0) -> int:
    """The nearest multiple of `step` that keeps 90 % of the value (MobileNet's rule).

    >>> rounded_width(17.6), rounded_width(11.0), rounded_width(32 * 1.4)
    (16, 16, 48)
    """
    found = max(least or step, int(value + step / 2) // step * step)
    return found + step if found < 0.9 * value else found


def rounded_group(value: float) -> int:
    """A group width as pycls rounds it: up to 2 as it is, up to 5 becomes 4, else multiples of 8.

    >>> [rounded_group(g) for g in (1, 2.4, 5, 5.1, 13)]
    [1, 2, 4, 8, 16]
    """
    if value <= 2.5:
        return max(1, round(value))
    return 4 if value <= 5 else nearest(value, 8)


@dataclass(frozen=True)
class Scaling:
    """Factors of one step of a rule, and how it rounds.

    Args:
        rule: its name.
        depth, width, group, resolution: what each is multiplied by.
        whole: whether a depth is rounded up (EfficientNet) rather than to the nearest.
        keeps: whether a width may lose no more than a tenth in rounding (EfficientNet).
        step: of the resolution in pixels.

    >>> rule = fast(16)
    >>> rule.deeper(3), rule.wider(32), rule.grouped(8), rule.larger(224)
    (4, 96, 24, 256)
    """

    rule: str
    depth: float
    width: float
    group: float
    resolution: float
    whole: bool = False
    keeps: bool = False
    step: int = 4

    def deeper(self, depth: int) -> int:
        """A stage's number of blocks, scaled."""
        scaled = depth * self.depth
        return max(1, math.ceil(scaled - 1e-9) if self.whole else math.floor(scaled + 0.5))

    def wider(self, width: int, group: int = 1) -> int:
        """A number of channels, scaled; a multiple of 8 and of the (scaled) group's width."""
        scaled = width * self.width
        found = rounded_width(scaled) if self.keeps else nearest(scaled, 8)
        return found if found % group == 0 else nearest(scaled, group)

    def grouped(self, group: int) -> int:
        """The channels of one group of a convolution, scaled; depthwise stays depthwise."""
        return group if 1 in (group, self.group) else rounded_group(group * self.group)

    def larger(self, resolution: int) -> int:
        """Pixels a side, scaled; in finer steps where there are few."""
        return nearest(resolution * self.resolution, min(self.step, max(4, resolution // 4)))


def weighted(rule: str, factor: float, depth: float, width: float, resolution: float) -> Scaling:
    """Shares out a factor of MACs by weights, so that `depth * width^2 * resolution^2 = factor`.

    Group widths grow as widths do (pycls, Dollar et al.).
    """
    total = depth + width + resolution
    wider = factor ** (width / total / 2)
    return Scaling(
        rule, factor ** (depth / total), wider, wider, factor ** (resolution / total / 2)
    )


def fast(factor: float, epochs: int = 0) -> Scaling:
    """dWr: mostly wider; activations grow as `factor ** 0.6`, and with them the time."""
    return weighted("dwr", factor, 1, 8, 1)


def compound(factor: float, epochs: int = 0) -> Scaling:
    """EfficientNet's: depth 1.2, width 1.1 and resolution 1.15 to one common power."""
    power = math.log(factor) / math.log(1.2 * 1.1**2 * 1.15**2)
    return Scaling("compound", 1.2**power, 1.1**power, 1.0, 1.15**power, whole=True, keeps=True)


LONG = 350


def revisited(factor: float, epochs: int = LONG) -> Scaling:
    """ResNet-RS: deeper for trainings of 350 epochs or more, wider for shorter ones.

    The paper gives no exponent for the resolution. Between its own ends (RS-50 at 160 pixels and
    RS-420 at 320, 28 times the MACs) it is 0.2; the rest of the factor goes to depth or width.
    """
    rest = factor**0.6
    long = epochs >= LONG
    wider = 1.0 if long else math.sqrt(rest)
    return Scaling("resnet-rs", rest if long else 1.0, wider, wider, factor**0.2, step=32)


RULES: dict[str, Callable[[float, int], Scaling]] = {
    "compound": compound,
    "dwr": fast,
    "resnet-rs": revisited,
}


def scaling(rule: str, factor: float, epochs: int = LONG) -> Scaling:
    """The factors of a rule by name. Raises: NasError for another name, or no positive factor."""
    if rule not in RULES:
        raise unknown("scaling rule", rule, RULES)
    if not 0 < factor < math.inf:
        raise NasError(f"a network cannot cost {factor} times as much", "give a factor above 0")
    return RULES[rule](factor, epochs)
