"""What merging did to a network, written down layer by layer."""

from __future__ import annotations


class Log:
    """What a merge did and did not do, as it goes."""

    def __init__(self) -> None:
        self.touched: list[str] = []
        self.skipped: list[tuple[str, str]] = []

    def touch(self, path: str, what: str) -> None:
        """Records that the layer at `path` was changed."""
        self.touched.append(f"{path}: {what}")

    def skip(self, path: str, why: str) -> None:
        """Records that the layer at `path` stays as it is."""
        self.skipped.append((path, why))
