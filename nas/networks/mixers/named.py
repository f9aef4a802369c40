"""Token mixers by name: what mixes pixels within a channel in each kind of block."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from nas.core.errors import unknown
from nas.networks.mixers.depthwise import Depthwise
from nas.networks.mixers.dilated import DilatedMixer
from nas.networks.mixers.inception import InceptionMixer
from nas.networks.mixers.partial import Partial
from nas.networks.mixers.peripheral import PeripheralMixer, PositionalTable
from nas.networks.mixers.smallkernel import SmallKernelMixer
from nas.networks.mixers.stripe import StripeMixer
from nas.networks.plan import Stage

# Each takes (stage, channels convolved, bias, positional table).
MIXERS: dict[str, Callable[[Stage, int, bool, PositionalTable | None], nn.Module]] = {
    "depthwise": lambda stage, channels, bias, _: Depthwise(channels, stage.kernel, bias=bias),
    "dilated": lambda stage, channels, _bias, _: DilatedMixer(channels, stage.kernel),
    "stripe": lambda stage, channels, _bias, _: StripeMixer(channels, stage.kernel),
    "peripheral": lambda stage, channels, _bias, table: PeripheralMixer(
        channels, stage.kernel, stage.core, table
    ),
    "smallkernel": lambda stage, channels, _bias, _: SmallKernelMixer(
        channels, stage.kernel, stage.small
    ),
}
NAMES = ("identity", "inception", *MIXERS)
NORMED = ("dilated", "stripe", "smallkernel")  # end in a batch norm of their own


def convolved(stage: Stage, channels: int) -> int:
    """How many of `channels` the stage's mixer convolves."""
    return max(1, int(channels * stage.fraction))


def is_large(stage: Stage, index: int) -> bool:
    """Whether block `index` of the stage has the large kernel (UniRepLKNet's period)."""
    return index % stage.period == 0 or stage.mixer == "identity"


def is_normed(stage: Stage, index: int) -> bool:
    """Whether the mixer of block `index` ends in a batch norm over all its channels."""
    return is_large(stage, index) and stage.mixer in NORMED and stage.fraction == 1


def make_mixer(
    stage: Stage, index: int, channels: int, bias: bool, table: PositionalTable | None
) -> nn.Module:
    """The token mixer of block `index` of a stage, on `channels` channels.

    `bias` is False where a batch norm follows. Raises: NasError for an unknown mixer.
    """
    if stage.mixer not in NAMES:
        raise unknown("mixer", stage.mixer, NAMES)
    if stage.mixer == "identity":
        return nn.Identity()
    if not is_large(stage, index):
        return Depthwise(channels, 3, bias=bias)
    if stage.mixer == "inception":
        return InceptionMixer(channels, stage.kernel, stage.fraction, bias)
    some = convolved(stage, channels)
    mixer = MIXERS[stage.mixer](stage, some, bias, table)
    return mixer if some == channels else Partial(channels, some, mixer)
