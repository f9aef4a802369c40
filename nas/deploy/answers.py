"""A network's outputs from a process of its own: what hangs, swells or crashes there ends there.

A graph may loop for ever or ask for all memory. The process is told on its standard input what to
run, as JSON; inputs and outputs are tensors in a folder.
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
_INPUTS, _OUTPUTS = "inputs.safetensors", "outputs.safetensors"


@dataclass(frozen=True)
class Question:
    """A file, what runs it on which kind of device, and how long it may take."""

    file: str
    runtime: str
    options: tuple[str, ...]
    kind: str
    longest_s: float
    folder: str


def answers(
    file: Path,
    runtime: Runtime,
    kind: str,
    inputs: NDArray[Any],
    longest_s: float = LONGEST_S,
) -> NDArray[Any]:
    """The first output (N, ...) of a file for inputs (N, ...), worked out in another process.

    Raises: NasError where the runtime is not installed, refuses the file, or did not answer within
        `longest_s` seconds and half of the machine's memory.
    """
    with workplace("answers") as folder:
        save_file({"inputs": np.ascontiguousarray(inputs)}, folder / _INPUTS)
        asked = Question(
            str(file.resolve()), runtime.name, runtime.options, kind, longest_s, str(folder)
        )
        said = _asked(asked)
        if said is not None:
            raise NasError(*said)
        found: NDArray[Any] = load_file(folder / _OUTPUTS)["outputs"]
        return found


def _asked(question: Question) -> tuple[str, str] | None:
    """Runs the process to its end: None where it answered, else what was wrong, and a hint."""
    hint = "do not use the file: it is not a network that answers"
    try:
        done = subprocess.run(
            # -P: a package's own folder may be where this is called, and holds a stranger's files
            [sys.executable, "-P", "-m", "nas.deploy.answers"],
            input=json.dumps(vars(question)).encode(),
            capture_output=True,
            timeout=question.longest_s + 30,  # it ends by itself before that
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the network did not answer within {question.longest_s:g} s", hint
    if done.returncode == 0:
        refused = json.loads(done.stdout.splitlines()[-1])
        return tuple(refused) if refused else None
    if done.returncode == -signal.SIGALRM:
        return f"the network did not answer within {question.longest_s:g} s", hint
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    said = f": {last[0][:200]}" if last else f" ({done.returncode})"
    return f"the process that ran the network ended{said}", hint


def main() -> None:
    """Answers the question on standard input; prints null, or a refusal's two lines."""
    asked = Question(**json.load(sys.stdin))
    # what drives a GPU reserves more addresses than there is memory
    restrain(asked.longest_s, MEMORY if asked.kind == "cpu" else None)
    folder = Path(asked.folder)
    refused = None
    try:
        runtime = Runtime(asked.runtime, tuple(asked.options))
        run = runtimes.opened(Path(asked.file), runtime, asked.kind)
        outputs = np.asarray(run(load_file(folder / _INPUTS)["inputs"]))
        save_file({"outputs": np.ascontiguousarray(outputs)}, folder / _OUTPUTS)
    except NasError as error:
        refused = [error.problem, error.hint]
    print(json.dumps(refused))


if __name__ == "__main__":
    main()
