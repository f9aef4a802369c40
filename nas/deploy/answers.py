"""A network's outputs from a process of its own: what hangs, swells or crashes there ends there.

A graph may loop for ever or ask for all memory. The process is told on its standard input what to
run, as JSON; inputs, outputs and refusals are files in a folder. What it prints is not read.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from nas.core.errors import NasError
from nas.hardware import runtimes
from nas.hardware.agent.host import restrain
from nas.hardware.agent.workplace import workplace
from nas.hardware.runtimes import Runtime

LONGEST_S = 300.0
MEMORY = 0.5  # of the machine's
MOST_BYTES = 2**28  # of outputs
_INPUTS, _OUTPUTS, _REFUSED = "inputs.safetensors", "outputs.safetensors", "refused.json"
_HINT = "do not use the file: it is not a network that answers"


@dataclass(frozen=True)
class Question:
    """A file, what runs it on which kind of device, and how long it may take."""

    file: str
    runtime: str
    options: tuple[str, ...]
    kind: str
    longest_s: float
    memory: float | None
    folder: str


def answers(
    file: Path,
    runtime: Runtime,
    kind: str,
    inputs: NDArray[Any],
    longest_s: float = LONGEST_S,
    memory: float = MEMORY,
) -> NDArray[Any]:
    """The first output (N, ...) of a file for inputs (N, ...), worked out in another process.

    Args:
        longest_s: seconds after which it is ended.
        memory: share of the machine's that it may take on a processor; what drives a GPU reserves
            more addresses than there is memory, so there it is not bounded.

    Raises: NasError where the runtime is not installed, refuses the file, or did not answer within
        these bounds with at most `MOST_BYTES`.
    """
    with workplace("answers") as folder:
        save_file({"inputs": np.ascontiguousarray(inputs)}, folder / _INPUTS)
        share = memory if kind == "cpu" else None
        asked = Question(
            str(file.resolve()), runtime.name, runtime.options, kind, longest_s, share, str(folder)
        )
        ended = _asked(asked)
        if (folder / _REFUSED).exists():
            raise NasError(*json.loads((folder / _REFUSED).read_text()))
        if ended is not None or not (folder / _OUTPUTS).exists():
            raise NasError(ended or "the network gave no answer", _HINT)
        if (folder / _OUTPUTS).stat().st_size > MOST_BYTES + 2**16:
            raise NasError("the network answers with more than any network does", _HINT)
        found: NDArray[Any] = load_file(folder / _OUTPUTS)["outputs"]
        return found


def _asked(question: Question) -> str | None:
    """Runs the process to its end: None where it ended well, else how it did."""
    late = f"the network did not answer within {question.longest_s:g} s"
    try:
        done = subprocess.run(
            # -P: a package's own folder may be where this is called, and holds a stranger's files
            [sys.executable, "-P", "-m", "nas.deploy.answers"],
            input=json.dumps(vars(question)).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=question.longest_s + 30,  # it ends by itself before that
            check=False,
        )
    except subprocess.TimeoutExpired:
        return late
    if done.returncode == -signal.SIGALRM:
        return late
    if done.returncode:
        return f"the process that ran the network ended with code {done.returncode}"
    return None


def main() -> None:
    """Answers the question on standard input: leaves outputs in its folder, or a refusal."""
    asked = Question(**json.load(sys.stdin))
    restrain(asked.longest_s, asked.memory)
    folder = Path(asked.folder)
    try:
        runtime = Runtime(asked.runtime, tuple(asked.options))
        run = runtimes.opened(Path(asked.file), runtime, asked.kind)
        outputs = np.asarray(run(load_file(folder / _INPUTS)["inputs"]))
        if outputs.nbytes > MOST_BYTES:
            raise NasError(f"the network answers with {outputs.nbytes:,} bytes", _HINT)
        save_file({"outputs": np.ascontiguousarray(outputs)}, folder / _OUTPUTS)
    except NasError as error:
        (folder / _REFUSED).write_text(json.dumps([error.problem, error.hint]))
    except MemoryError:
        said = f"the network takes more than {asked.memory:.2g} of this machine's memory"
        (folder / _REFUSED).write_text(json.dumps([said, _HINT]))


if __name__ == "__main__":
    main()
