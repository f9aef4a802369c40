"""Layers that a transform has no way with: its report names them too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import nn
from torch.nn.utils import parametrize

from nas.transforms.report import Report


def weighted(module: nn.Module) -> dict[str, str]:
    """The parts of a network that hold weights themselves, by path, and of what kind each is.

    Weights are parameters of two axes or more. One of the network itself is a part of its own, and
    attention is one part, whatever it is made of.

    >>> weighted(nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.ConvTranspose2d(3, 3, 2)))
    {'0': 'Linear', '2': 'ConvTranspose2d'}
    """
    found: dict[str, str] = {}
    inside: list[str] = []  # of attention
    for path, part in module.named_modules():
        if ".parametrizations" in f".{path}" or path.startswith(tuple(inside)):
            continue
        if isinstance(part, nn.MultiheadAttention):
            inside.append(f"{path}.")
        own = [name for name, p in part.named_parameters(recurse=False) if p.ndim >= 2]
        kind = type(part)
        if parametrize.is_parametrized(part):
            kind = kind.__bases__[0]
            stacks = part.parametrizations.items()
            own += [name for name, s in stacks if any(p.ndim >= 2 for p in s.parameters())]
        if path and own:
            found[path] = kind.__name__
        elif own:
            found |= dict.fromkeys(own, f"parameter of {kind.__name__}")
    return found


def with_rest(report: Report, parts: Mapping[str, str], why: str) -> Report:
    """The report with every part that it does not name as skipped, in the words `KIND: WHY`.

    >>> report = Report("sparsity", ("0: 90 % zeros",), (("1", "the last layer stays dense"),))
    >>> with_rest(report, {"0": "Linear", "1": "Linear", "2": "GRU"}, "it has no masks").skipped[1:]
    (('2', 'GRU: it has no masks'),)
    """
    named = {line.partition(":")[0] for line in report.touched}
    named |= {path for path, _ in report.skipped}
    rest = ((path, f"{kind}: {why}") for path, kind in parts.items() if path not in named)
    return replace(report, skipped=(*report.skipped, *rest))
