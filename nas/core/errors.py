"""The one exception a person sees, and the helper that names the nearest right thing."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class NasError(Exception):
    """A mistake of the user's: what is wrong, then what to type instead.

    >>> print(NasError("no device named 'cpuu'", "did you mean 'cpu'?"))
    no device named 'cpuu'
      did you mean 'cpu'?
    """

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem, hint)
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.problem}\n  {self.hint}"


def unknown(kind: str, name: str, known: Iterable[str]) -> NasError:
    """The error for a name that is not known, with the nearest ones that are.

    >>> print(unknown("space", "largekernal", ["largekernel", "resnet"]))
    no space named 'largekernal'
      did you mean 'largekernel'? known: largekernel, resnet
    """
    names = sorted(known)
    small = {n.lower(): n for n in names}
    near = [small[n] for n in get_close_matches(name.lower(), small, n=3, cutoff=0.5)]
    guess = f"did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return NasError(f"no {kind} named {name!r}", f"{guess}known: {shown or 'none'}")
