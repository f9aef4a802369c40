"""The lease that the agent takes, for callers on this side: its mistakes are told as ours are."""

from __future__ import annotations

from pathlib import Path

from nas.core.errors import NasError
from nas.hardware.agent import lease

default_folder = lease.default_folder


class Lease(lease.Lease):
    """The right to use `cpu` or `cuda` of this host. Raises: NasError without usable locks."""

    def _open(self, name: str) -> int:
        try:
            return super()._open(name)
        except lease.Unusable as error:
            raise NasError(error.problem, error.hint) from None


def shared(folder: Path) -> Path:
    """A folder that everyone may add to. Raises: NasError where it cannot be had."""
    try:
        return lease.shared(folder)
    except lease.Unusable as error:
        raise NasError(error.problem, error.hint) from None


def private(folder: Path) -> Path:
    """A folder of this user's alone. Raises: NasError where it cannot be had."""
    try:
        return lease.private(folder)
    except lease.Unusable as error:
        raise NasError(error.problem, error.hint) from None
