"""Which method computes which pass: measured once for each shape, kept, the same everywhere.

Times are those of this processor or GPU, for the shape with channels and batch rounded up to powers
of two. `NAS_LARGEKERNEL=NAME` or `with forced(NAME):` takes one method wherever it applies;
`NAS_LARGEKERNEL=rule` measures nothing and goes by the methods' own estimates, as is done where no
file can be kept, and for convolutions so small that no choice matters.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial

import torch
from torch import Tensor

from nas.core.errors import unknown
from nas.networks.largekernel.geometry import Geometry
from nas.networks.largekernel.kept import kept, of_device
from nas.networks.largekernel.passes import METHODS, Choice, available, backward, forward
from nas.networks.parts.layout import layout_of

_log = logging.getLogger(__name__)

RULE = "rule"
_SMALL_MS = 0.5  # by estimate: below, the rule decides
_CALLS_MS = 0.15  # by which the framework's own way, one call, is quicker in a step
_TRIED = 6.0  # methods estimated to take more than this many times the least are not measured
_ROUNDS = 9
_SECONDS = 0.6  # after these no further round
_ENTRIES = 2**21  # of the maps that are measured
_forced: list[str] = []
_chosen: dict[tuple[object, ...], Choice] = {}


@contextmanager
def forced(name: str) -> Iterator[None]:
    """Within, one method (or `rule`) is taken wherever it applies. Raises: NasError if unknown."""
    _checked(name)
    _forced.append(name)
    try:
        yield
    finally:
        _forced.pop()


def choose(x: Tensor, geometry: Geometry) -> Choice:
    """The methods for these maps' device, type, layout and shape."""
    name = _forced[-1] if _forced else os.environ.get("NAS_LARGEKERNEL", "")
    if not name and torch._C._len_torch_dispatch_stack():
        return by_rule(geometry, x.device, x.dtype)  # operators are counted or faked, not run
    last = layout_of(x) == torch.channels_last
    key = (name, x.device, x.dtype, last, geometry, torch.get_num_threads())
    if key not in _chosen:
        _chosen[key] = _decided(name, geometry, x.device, x.dtype, last)
    return _chosen[key]


def _decided(
    name: str, geometry: Geometry, device: torch.device, dtype: torch.dtype, last: bool
) -> Choice:
    rule = by_rule(geometry, device, dtype)
    if name:
        _checked(name)
        return Choice(name, name, name) if name in _costs(geometry, device, dtype) else rule
    rounded = _rounded(geometry)
    costs = _costs(rounded, device, dtype)
    step = 3e-6 * rounded.batch * rounded.channels  # milliseconds of three passes for each cost
    if device.type == "cpu" and min(costs.values()) * step < _SMALL_MS:
        plain = costs.get("native", math.inf) * step < min(costs.values()) * step + _CALLS_MS
        return Choice("native", "native", "native") if plain else rule
    said = _name(rounded, device, dtype, last)
    found = kept(
        said,
        lambda: asdict(measured(rounded, device, dtype, last)),
        lambda: asdict(rule),
        lambda value: _usable(value, costs),
    )
    return Choice(**found)


def _usable(value: object, costs: dict[str, float]) -> bool:
    """Whether what was kept is a choice of methods that there are."""
    if not isinstance(value, dict) or set(value) != set(Choice.__annotations__):
        return False
    return all(name in costs for name in value.values())


def by_rule(geometry: Geometry, device: torch.device, dtype: torch.dtype) -> Choice:
    """The method with the least estimate; on a GPU its own kernel where there is one."""
    costs = _costs(geometry, device, dtype)
    if device.type != "cpu":
        best = "triton" if "triton" in costs else "native"
    else:
        best = min(costs, key=lambda name: costs[name])
    return Choice(best, best, best)


def measured(
    geometry: Geometry, device: torch.device, dtype: torch.dtype, channels_last: bool
) -> Choice:
    """The fastest method of each pass, timed in turn in several rounds, the least of each taken."""
    x, weight, grad = _data(geometry, device, dtype, channels_last)
    costs = _costs(geometry, device, dtype)
    least = min(costs.values())
    # estimates are a processor's
    tried = [m for m in costs if device.type != "cpu" or costs[m] <= _TRIED * least]
    runs: dict[tuple[str, str], Callable[[], object]] = {}
    for m in tried:
        same = Choice(m, m, m)
        run = partial(backward, same, grad, x, weight, geometry)
        runs["forward", m] = partial(forward, m, x, weight, geometry)
        runs["input", m] = partial(run, (True, False))
        runs["weight", m] = partial(run, (False, True))
        runs["both", m] = run
    with torch.no_grad():
        took = _least(runs, device)
    first = min(tried, key=lambda m: took["forward", m])
    pairs = {(m, n): took["input", m] + took["weight", n] for m in tried for n in tried}
    pairs |= {(m, m): min(pairs[m, m], took["both", m]) for m in tried}
    return Choice(first, *min(pairs, key=lambda pair: pairs[pair]))


def _least(
    runs: dict[tuple[str, str], Callable[[], object]], device: torch.device
) -> dict[tuple[str, str], float]:
    """The least seconds of each, the slow ones left alone after the first round.

    What fails here, for want of memory or a compiler, takes for ever: another one does it, and the
    log says so.
    """
    took = dict.fromkeys(runs, math.inf)
    failed: dict[str, str] = {}
    for key, run in runs.items():
        try:
            run()  # compiles, fills caches
            took[key] = _seconds(run, device)
        except Exception as error:
            failed.setdefault(key[1], str(error).partition("\n")[0] or type(error).__name__)
    for method, why in failed.items():
        _log.warning("a convolution is left to other ways, %s fails here: %s", method, why)
    spent = 0.0
    for _ in range(_ROUNDS - 1):
        for key, run in runs.items():
            best = min(value for (what, _), value in took.items() if what == key[0])
            if took[key] <= 2 * best < math.inf:
                again = _seconds(run, device)
                took[key] = min(took[key], again)
                spent += again
        if spent > _SECONDS:
            break
    return took


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """How long a run takes; of the processor's time alone where one thread does it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time if alone else time.perf_counter
    started = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - started


def _data(
    geometry: Geometry, device: torch.device, dtype: torch.dtype, last: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Input, weight and the output's gradient, without touching torch's own random numbers."""
    g, generator = geometry, torch.Generator().manual_seed(0)
    lines = g.kernel if g.cells is None else (max(g.cells) + 1,) * 2
    layout = torch.channels_last if last else torch.contiguous_format
    made = [
        torch.randn(shape, generator=generator, device="cpu").to(device, dtype)
        for shape in (
            (g.batch, g.channels, *g.size), (g.channels, 1, *lines),
            (g.batch, g.channels, *g.output),
        )
    ]  # fmt: skip
    x, weight, grad = made
    return x.contiguous(memory_format=layout), weight, grad.contiguous(memory_format=layout)


def _costs(geometry: Geometry, device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Each method that applies, with its estimate."""
    found = {}
    for name, method in available(device, dtype).items():
        cost = method.cost(geometry if method.takes_cells else geometry.cropped())
        if cost is not None:
            found[name] = cost
    return found


def _rounded(geometry: Geometry) -> Geometry:
    """The shape that is measured: powers of two, no more than a few million entries.

    Rather fewer images, which methods take a few at a time, than fewer channels.
    """
    batch, channels = (1 << (n - 1).bit_length() for n in (geometry.batch, geometry.channels))
    pixels = geometry.size[0] * geometry.size[1]
    while batch > 8 and batch * channels * pixels > _ENTRIES:
        batch //= 2
    while channels > 16 and batch * channels * pixels > _ENTRIES:
        channels //= 2
    return replace(geometry, batch=batch, channels=channels)


def _name(geometry: Geometry, device: torch.device, dtype: torch.dtype, last: bool) -> str:
    """All that times depend on, in words."""
    g = geometry
    shared = "" if g.cells is None else f" in {max(g.cells) + 1} cells"
    return (
        f"depthwise {g.kernel[0]}x{g.kernel[1]}{shared} stride {g.stride} dilation {g.dilation} "
        f"on {g.batch}x{g.channels}x{g.size[0]}x{g.size[1]} {str(dtype).removeprefix('torch.')} "
        f"{'channels last' if last else 'planes'}, {torch.get_num_threads()} threads, "
        f"{of_device(device)}"
    )


def _checked(name: str) -> None:
    if name != RULE and name not in METHODS:
        raise unknown("way to convolve", name, (RULE, *METHODS))
