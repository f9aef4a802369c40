"""What runs a deployed form, written `NAME[:OPTION+OPTION]`: `onnxruntime`, `torch:compiled+bf16`.

Each name is a module here, whose `opened(path, runtime, kind, threads)` runs a file for scoring and
parity, and a module of the agent's (`nas.hardware.agent.engines`), which times it. This module
knows their names, what they take and what they refuse, and imports none of them.
"""

from __future__ import annotations

import functools
import importlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from nas.core.errors import NasError, unknown

Array = np.ndarray[Any, np.dtype[Any]]

# What runs where, and the options of each in the order in which they are written.
KINDS: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": ("cpu",), "torch": ("cpu", "cuda"), "openvino": ("cpu",), "tensorrt": ("cuda",),
}  # fmt: skip
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": (),
    "torch": ("channels_last", "bf16", "fp16", "tf32", "compiled", "graphs"),
    "openvino": ("bf16",),
    "tensorrt": ("bf16", "fp16", "tf32", "sparse", "graphs"),
}
DEFAULTS = {"cpu": "onnxruntime", "cuda": "torch:compiled"}
PRECISIONS = {"bf16": "bfloat16", "fp16": "float16", "tf32": "tf32"}
_CUDA_ONLY = ("fp16", "tf32", "graphs")
_SECONDS = {"compiled": 300.0, "tensorrt": 600.0}  # a cold build of a large network


@dataclass(frozen=True)
class Runtime:
    """A runtime and how it is to run a file.

    >>> str(Runtime("torch", ("bf16", "compiled"))), Runtime("torch", ("bf16",)).precision
    ('torch:bf16+compiled', 'bfloat16')
    """

    name: str
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name + (f":{'+'.join(self.options)}" if self.options else "")

    @property
    def suffix(self) -> str:
        """Of the file it takes: `.pt2`, a program of torch's, or `.onnx`."""
        return ".pt2" if self.name == "torch" else ".onnx"

    @property
    def precision(self) -> str:
        """What it computes a float32 network in: `float32`, `tf32`, `bfloat16` or `float16`."""
        return next((PRECISIONS[o] for o in self.options if o in PRECISIONS), "float32")

    @property
    def layout(self) -> str:
        """How images lie in the memory of what it is given; inside it may choose another."""
        return "channels_last" if "channels_last" in self.options else "nchw"

    @property
    def load_s(self) -> float:
        """How long it may take to load a file and to call it once before it counts as hung."""
        return max((_SECONDS.get(word, 10.0) for word in (self.name, *self.options)), default=10.0)


def parse(text: str, kind: str) -> Runtime:
    """The runtime of that name for a kind of device, its options in one order.

    Raises: NasError naming the nearest runtime or option, or why the two cannot work there.

    >>> str(parse("torch:compiled+channels_last", "cpu"))
    'torch:channels_last+compiled'
    """
    name, colon, rest = text.strip().partition(":")
    if name not in KINDS:
        raise unknown("runtime", name, KINDS)
    asked = rest.split("+") if colon else []
    for option in asked:
        if option not in OPTIONS[name]:
            takes = OPTIONS[name]
            error = unknown(f"option of {name}", option, takes)
            raise error if takes else NasError(f"{name} has no options", f"type {name}")
    found = Runtime(name, tuple(o for o in OPTIONS[name] if o in asked))
    if kind not in KINDS[name]:
        there = " or ".join(n for n, kinds in KINDS.items() if kind in kinds)
        raise NasError(f"{name} runs on {KINDS[name][0]} here, not on {kind}", f"choose {there}")
    _refuse(found, kind)
    return found


def _refuse(runtime: Runtime, kind: str) -> None:
    """Raises NasError where options exclude each other or the kind of device."""
    precisions = [o for o in runtime.options if o in PRECISIONS]
    if len(precisions) > 1:
        raise NasError(
            f"runtime '{runtime}' names {len(precisions)} precisions: {', '.join(precisions)}",
            f"choose one, as in {runtime.name}:{precisions[0]}",
        )
    wrong = next((o for o in runtime.options if kind == "cpu" and o in _CUDA_ONLY), None)
    if wrong is not None:
        kept = Runtime(runtime.name, tuple(o for o in runtime.options if o not in _CUDA_ONLY))
        why = {
            "graphs": "records launches of a GPU, and a processor has none",
            "fp16": "computes in float16, which processors only store; bf16 is theirs",
            "tf32": "is a precision of NVIDIA's tensor cores",
        }[wrong]
        raise NasError(f"'{runtime}' on a processor: {wrong} {why}", f"type {kept}")


# --- what is installed -------------------------------------------------------------------------


@functools.cache
def version(name: str) -> str | None:
    """The installed version of a runtime, or None; nothing is imported for it."""
    if find_spec(name) is None:
        return None
    try:
        return package_version(name)
    except PackageNotFoundError:
        return "unknown"


def installed() -> dict[str, str | None]:
    """Every runtime with its version here, None where it is not installed."""
    return {name: version(name) for name in KINDS}


def require(runtime: Runtime, kind: str) -> None:
    """Raises NasError where this host lacks what the runtime needs, with the line that adds it."""
    if version(runtime.name) is None:
        where = ", on the machine with the GPU" if kind == "cuda" else ""
        raise NasError(
            f"{runtime.name} is not installed here", f"type pip install {runtime.name}{where}"
        )
    if "compiled" in runtime.options and compiler() is None:
        rest = Runtime("torch", tuple(o for o in runtime.options if o != "compiled"))
        raise NasError(
            f"'{runtime}' needs a C++ compiler, and there is none on this host",
            f"install g++ (apt install g++), or type --runtime {rest}",
        )


def compiler() -> str | None:
    """The C++ compiler that torch would compile with."""
    return next(
        filter(None, map(shutil.which, (os.environ.get("CXX", ""), "g++", "clang++"))), None
    )


def emulated(runtime: Runtime, kind: str, flags: frozenset[str] | None = None) -> bool:
    """Whether this processor has no instructions for the runtime's precision, so that it is slow.

    `flags` are the processor's, by default this host's; nothing is said of an accelerator.
    """
    if kind != "cpu" or runtime.precision != "bfloat16":
        return False
    return not (_flags() if flags is None else flags) & {"avx512_bf16", "amx_bf16", "bf16"}


@functools.cache
def _flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    lines = (line.partition(":") for line in text.splitlines())
    named = (rest for key, _, rest in lines if key.strip() in ("flags", "Features"))
    return frozenset(next(named, "").split())


# --- what a file answers -----------------------------------------------------------------------


@dataclass(frozen=True)
class Opened:
    """A file in its runtime: maps inputs (N, ...) to its first output (N, ...).

    Args:
        path: the file. under: the runtime and its version, for errors.
        run: one call. fixed: the batch that the file insists on, or None.
    """

    path: Path
    under: str
    run: Callable[[Array], Array]
    fixed: int | None = None

    def __call__(self, inputs: Array, batch: int = 64) -> Array:
        """The outputs of `inputs`, `batch` rows at a time.

        A file with a fixed batch is run in that batch, the last rows padded by repetition.
        Raises: NasError where the runtime refuses the rows.
        """
        size, parts = self.fixed or batch, []
        for start in range(0, len(inputs), size):
            rows = inputs[start : start + size]
            missing = size - len(rows) if self.fixed else 0
            padded = np.concatenate([rows, rows[-1:].repeat(missing, 0)]) if missing else rows
            with _refusing(self.path, self.under, f" for rows of shape {inputs.shape[1:]}"):
                parts.append(self.run(np.ascontiguousarray(padded))[: len(rows)])
        return np.concatenate(parts)


@contextmanager
def _refusing(path: Path, under: str, rows: str = "") -> Iterator[None]:
    """Turns whatever a runtime raises into a NasError: their errors share no class."""
    try:
        yield
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise NasError(
            f"{path} does not run under {under}: {said}",
            f"is it a file that {under.split(maxsplit=1)[0]} reads, with one input{rows}?",
        ) from error


def opened(path: Path, runtime: Runtime, kind: str = "cpu", threads: int = 1) -> Opened:
    """A file ready to be run; compiled or captured it computes the same, so neither is done here.

    Raises: NasError where the runtime is not installed or cannot load the file.
    """
    require(Runtime(runtime.name), kind)
    under = f"{runtime.name} {version(runtime.name)}"
    module = importlib.import_module(f"{__name__}.{runtime.name}")
    with _refusing(path, under):
        run, fixed = module.opened(path, runtime, kind, threads)
    return Opened(path, under, run, fixed)
