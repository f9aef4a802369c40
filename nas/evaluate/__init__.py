"""The work itself: a job in JSON in, its outcome in JSON out.

Runs in whatever process a runner chooses. Nothing is remembered between calls but what is slow to
make again: the task's data and the space.
"""

from __future__ import annotations

import errno
import os
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nas.core.errors import NasError
from nas.core.job import Build, Finish, Job, Measure, Outcome, Train, job_from_json
from nas.evaluate.building import build
from nas.evaluate.finishing import finish_candidate
from nas.evaluate.place import Place, Report
from nas.evaluate.timing import time_files
from nas.evaluate.training import train_candidate
from nas.hardware.ssh import Unreachable

FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE)  # no candidate's fault


def perform(place: Place, job: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Does a job; whatever goes wrong becomes an outcome with its reason."""
    started = time.perf_counter()
    try:
        outcome = _work(place, job_from_json(job), report)
    except Exception as error:
        root = error.__cause__ or error
        fatal = isinstance(root, Unreachable) or (isinstance(root, OSError) and root.errno in FATAL)
        outcome = Outcome(halt=_reason(error)) if fatal else Outcome(error=_reason(error))
    return replace(outcome, seconds=time.perf_counter() - started).to_json()


def _work(place: Place, job: Job, report: Report) -> Outcome:
    match job:
        case Build():
            return build(place, job)
        case Measure():
            return time_files(place, job)
        case Train():
            return train_candidate(place, job, report)
        case Finish():
            return finish_candidate(place, job, report)


def _reason(error: Exception) -> str:
    """An exception in one or two lines, with where it was raised."""
    if isinstance(error, NasError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(last.filename)}:{last.lineno}"
    return f"{type(error).__name__}: {error} ({where})"
