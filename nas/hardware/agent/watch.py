"""What the process says, and the watch over calls that never end."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any


def say(event: str, **fields: Any) -> None:
    """Writes one line."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


class Watch(threading.Thread):
    """Ends the process when one call outlasts its cap, and says which file it was.

    The runtime releases the interpreter while it computes, so this thread gets its turn; if it
    does not, the process's alarm is the last resort.
    """

    def __init__(self, cap: float) -> None:
        super().__init__(daemon=True)
        self.cap = cap
        self.at: tuple[int, float, float] | None = None
        self.parent = os.getppid()

    def run(self) -> None:
        """Looks every quarter of a second."""
        while True:
            time.sleep(0.25)
            at = self.at
            if at is not None and time.monotonic() - at[1] > at[2]:
                say("hung", file=at[0], seconds=round(time.monotonic() - at[1], 1))
                os._exit(3)
            if os.getppid() != self.parent:
                os._exit(4)

    @contextlib.contextmanager
    def over(self, index: int, cap: float | None = None) -> Iterator[None]:
        """Watches a piece of work on a file, which may take `cap` seconds or as long as a call."""
        self.at = (index, time.monotonic(), cap or self.cap)
        try:
            yield
        finally:
            self.at = None
