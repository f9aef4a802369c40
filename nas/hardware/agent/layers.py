"""How long each kernel of a file takes, by the runtime's own profiler: never in a timed run."""

from __future__ import annotations

from typing import Any

from .engines import profile
from .watch import Watch, say


def measure(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """Says the kernels that the job's one file became, with microseconds of each."""
    say("loading", file=0)
    try:
        found = profile(job["files"][0], job, watch)
    except ValueError as error:  # it says why in words
        say("failed", file=0, error=str(error)[:500])
    except Exception as error:
        say("failed", file=0, error=f"{type(error).__name__}: {error}"[:500])
    else:
        say("loaded", file=0)
        say("result", file=0, **found)
    return {}
