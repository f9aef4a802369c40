"""The usual ways to time a session, each in a fresh process: what the protocol is compared with.

    python benchmarks/timers.py METHOD FILE...

Prints one JSON object: milliseconds of each file, in order, and the seconds that each took. The
session is the very one that the measuring process makes: same options, same inputs, one thread.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nas.hardware.agent.engines.onnxruntime import Onnxruntime

JOB = {"threads": 1, "batch": 1, "resolution": None}
TIMER_S, ADAPTIVE_S = 0.4, 1.0  # our protocol may spend 0.4 s on a network, besides warming up
Call = Callable[[], Any]


def session(path: str) -> tuple[Onnxruntime, Call]:
    """A file's session, and one call of it."""
    engine = Onnxruntime(path, JOB)
    return engine, lambda: engine.session.run(engine.names, engine.feeds)


def _timer(call: Call) -> Any:
    from torch.utils.benchmark import Timer

    return Timer("call()", globals={"call": call}, num_threads=1)


def blocked(call: Call, seconds: float = TIMER_S) -> float:
    """torch.utils.benchmark, `blocked_autorange`: milliseconds, the median of its blocks."""
    return 1e3 * float(_timer(call).blocked_autorange(min_run_time=seconds).median)


def adaptive(call: Call) -> float:
    """torch.utils.benchmark, `adaptive_autorange` of a second at most: milliseconds, the median.

    Its own cap is ten seconds, which it reaches whenever another process has the core now and then.
    """
    return 1e3 * float(_timer(call).adaptive_autorange(max_run_time=ADAPTIVE_S).median)


def plain(call: Call) -> float:
    """The mean of 50 calls after 10 others, in milliseconds."""
    for _ in range(10):
        call()
    start = time.perf_counter()
    for _ in range(50):
        call()
    return 1e3 * (time.perf_counter() - start) / 50


METHODS: dict[str, Callable[[Call], float]] = {
    "torch Timer, blocked": blocked,
    "torch Timer, adaptive": adaptive,
    "mean of 50 after 10": plain,
}


def timed(method: str, files: Sequence[Path]) -> dict[str, Any]:
    """Times the files by a method in a fresh process. Raises: CalledProcessError if it fails."""
    command = [sys.executable, __file__, method, *map(str, files)]
    found = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    answer: dict[str, Any] = json.loads(found.stdout)
    return answer


def main(method: str, files: Sequence[str]) -> None:
    if method.startswith("torch"):
        import torch

        torch.set_num_threads(1)
    values, seconds = [], []
    for path in files:
        start = time.perf_counter()
        _, call = session(path)
        values.append(METHODS[method](call))
        seconds.append(time.perf_counter() - start)
    assert np.isfinite(values).all()
    print(json.dumps({"ms": values, "seconds": seconds}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
