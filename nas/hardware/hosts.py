"""Where the agent runs, and this host: there a fresh process that dies with its caller."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from nas.hardware import bundle, runtimes
from nas.hardware.agent.fingerprint import fingerprint
from nas.hardware.agent.workplace import workplace

# Set for every process that measures, whatever they are here.
SET = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Ended:
    """What the agent wrote, and how it ended: its exit status, or minus the signal."""

    out: str
    err: str
    code: int


class Host(Protocol):
    """A machine that an agent can be run on."""

    def run(self, job: Mapping[str, Any], seconds: float) -> Ended:
        """Runs the agent once on a job whose files are paths of this host, for so long at most.

        Raises: NasError where that host cannot be used at all.
        """
        ...

    def fingerprint(self) -> dict[str, Any]:
        """What a measurement there depends on; keys are those of the agent's `fingerprint`."""
        ...

    def versions(self, runtime: str) -> dict[str, str]:
        """The runtime that the agent would find there, and what it stands on."""
        ...


@dataclass(frozen=True)
class Local:
    """This host."""

    def run(self, job: Mapping[str, Any], seconds: float) -> Ended:
        """Runs the agent in a fresh process, without any of this one's files or locks."""
        with workplace("agent") as folder:
            # what this process can import, the agent must: of a user's own packages too
            command = [sys.executable, "-P", str(bundle.write(folder))]
            environment = {**os.environ, **dict.fromkeys(SET, "1")}
            if job.get("kind") == "cuda" and not environment.get("CUDA_VISIBLE_DEVICES", "0"):
                del environment["CUDA_VISIBLE_DEVICES"]  # emptied for a worker that trains on none
            return ended(command, json.dumps(job), seconds, environment)

    def fingerprint(self) -> dict[str, Any]:
        """What a measurement here depends on."""
        return fingerprint()

    def versions(self, runtime: str) -> dict[str, str]:
        """The runtime as it is installed here; it is not imported."""
        return {runtime: runtimes.version(runtime) or "not installed"}


def ended(
    command: list[str], text: str, seconds: float, environment: Mapping[str, str] | None = None
) -> Ended:
    """Runs a command on some text until it ends, or ends it when its time is up."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, encoding="utf-8", errors="replace", env=environment,
    )  # fmt: skip
    try:
        out, err = process.communicate(text, timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
        err = f"no answer in {seconds:g} s"
    finally:
        process.kill()
        process.wait()
    return Ended(out, err, process.returncode)
