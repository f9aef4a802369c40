"""What is to become sparse, how much and when, as data."""

from __future__ import annotations

from dataclasses import dataclass

from nas.core.errors import NasError, unknown
from nas.transforms.sparsify.schedules import Schedule

N, M = 2, 4  # of four neighbours along the inputs two stay: the one pattern with kernels
PATTERNS = ("channels", "2:4", "unstructured")
ALLOCATIONS = ("uniform", "erk", "global", "rd", "precrop")


@dataclass(frozen=True)
class Plan:
    """A pattern of zeros, or channels that are gone, and the way there.

    Args:
        pattern: `channels` are removed for real; `2:4` and `unstructured` weights are zero.
        removed: the share that goes: of the channels, or of the weights; `2:4` is a half.
        allocation: which layers give how much. Channels: whatever the allocation, as many
            parameters are left as `uniform` leaves, up to rounding.
        schedule: when, `Schedule`'s names.
        exploration: of dynamic sparse training, 0 is RigL.
        ends: whether weights of the first and the last layer go too.

    Raises: NasError where the parts exclude each other, naming both.
    """

    pattern: str
    removed: float = 0.5
    allocation: str = "uniform"
    timing: str = "start"
    exploration: float = 0.0
    ends: bool = False

    def __post_init__(self) -> None:
        for what, value, known in (
            ("pattern of sparsity", self.pattern, PATTERNS),
            ("allocation", self.allocation, ALLOCATIONS),
        ):
            if value not in known:
                raise unknown(what, value, known)
        if not 0 < self.removed < 1:
            raise NasError(f"removed={self.removed}: a share between 0 and 1", "type 0.5")
        if self.allocation == "precrop" and self.pattern != "channels":
            raise NasError(
                f"precrop crops channels, and the pattern is {self.pattern}",
                "choose channels, or the allocation erk",
            )
        if self.allocation == "precrop" and self.timing != "start":
            raise NasError(
                f"precrop crops before training, and the schedule is {self.timing}",
                "choose the schedule start",
            )
        if self.timing == "dst" and self.pattern != "unstructured":
            raise NasError(
                f"dynamic sparse training moves single weights, and the pattern is {self.pattern}",
                "choose unstructured, or another schedule",
            )

    @property
    def schedule(self) -> Schedule:
        """When. Raises: NasError for an unknown one."""
        return Schedule(self.timing)
