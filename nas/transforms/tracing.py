"""What is said where somebody's own code fails, or torch.export cannot trace it."""

from __future__ import annotations

import io
import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import onnx
import torch

from nas.core.errors import NasError

_OURS = Path(__file__).parent.parent
_LOUD = ("torch.onnx._internal.exporter._registration", "onnx_ir", "onnxscript")
_MUCH = ("onnx_ir.", "onnxscript.", "torch.onnx.", "torch.export.", "torch.fx.", "torch._")


@contextmanager
def quiet() -> Iterator[None]:
    """Without what tracing says of packages that are not there, and of graphs it cannot make.

    What goes wrong is raised as well.
    """
    loggers = [logging.getLogger(n) for n in logging.root.manager.loggerDict if n.startswith(_MUCH)]
    loggers += [logging.getLogger(n) for n in _LOUD]
    levels = [logger.level for logger in loggers]
    silence = io.StringIO()
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), redirect_stdout(silence), redirect_stderr(silence):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def where(error: BaseException) -> str:
    """The line of somebody's own code that an error came from, `FILE, line N: CODE`; "" for none.

    torch's code, onnx's and this program's are nobody's own.
    """
    own = [_OURS, *(Path(p.__file__).parent for p in (torch, onnx) if p.__file__)]
    found: traceback.FrameSummary | None = None
    for seen in _chain(error):
        frames = traceback.extract_tb(seen.__traceback__)
        theirs = [f for f in frames if not any(map(Path(f.filename).is_relative_to, own))]
        found = theirs[-1] if theirs and Path(theirs[-1].filename).is_file() else found
    return f"{found.filename}, line {found.lineno}: `{found.line}`" if found else ""


def cause(error: BaseException) -> str:
    """What an error goes back to, in one line."""
    first = _chain(error)[-1]
    lines = [line for line in str(first).splitlines() if line.strip()]
    return f"{type(first).__name__}: {lines[0].strip()[:200] if lines else ''}"


@contextmanager
def theirs(problem: str, hint: str) -> Iterator[None]:
    """Turns whatever somebody's own code raises into a NasError that says where it did."""
    try:
        yield
    except NasError:
        raise
    except Exception as error:
        line = where(error)
        raise NasError(
            f"{problem}: {cause(error)}", f"see {line}; {hint}" if line else hint
        ) from error


def untraceable(error: BaseException, what: str, shape: tuple[int, ...]) -> NasError:
    """The error for a network that torch.export cannot trace, the line of its code first.

    Args:
        what: it cannot be. shape: of one example.
    """
    told = (type(e).__name__ + str(e) for e in _chain(error))
    if any("DataDependent" in text or "data-dependent" in text for text in told):
        hint = (
            "its forward must be plain tensor operations that do not look at values: "
            "no `if`, loop or index that depends on them"
        )
    else:
        batch = ", ".join(map(str, (2, *shape)))
        hint = f"try it alone: torch.export.export(net.eval(), (torch.zeros({batch}),))"
    return NasError(f"{where(error) or 'the network'} {what}: {cause(error)}", hint)


def _chain(error: BaseException) -> list[BaseException]:
    """An error, what caused it, what caused that."""
    found = [error]
    while found[-1].__cause__ is not None:
        found.append(found[-1].__cause__)
    return found
