"""What a study wants, and of what device: some choices are of no use to some studies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """What choices are held against, beside each other.

    Args:
        runtime: what runs the files. kernels: the number formats and patterns that it has kernels
            for on the device (`nas.hardware.capabilities`).
        wanted: the names of all objectives and limits.
        pretrained: whether the network starts from weights that were given; None where that is not
            known: one of the user's own may bring weights along.
    """

    runtime: str = "onnxruntime"
    kernels: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()
    pretrained: bool | None = None

    @property
    def saves_bytes(self) -> bool:
        """Whether fewer bytes are worth something by themselves."""
        return bool({"size_mb", "task_mb"} & set(self.wanted))
