"""What each layer of a network costs: its share of the measured latency, and its counts.

A profiler slows every kernel down by about the same time, which a sum over many short kernels shows
(0.17 ms of kernels in a call of 0.09 ms). That time is taken off before the rest is scaled to the
latency that was measured without it. A long kernel among short ones, whose time is known from
outside, comes out with a median error of 11 %; by scaling alone with 34 % (`benchmarks/costs.py`).

The runtime fuses and renames operators, so a kernel of its profile is traced back to the operators
of the file that it does the work of, and those to the modules that they were exported from. A
kernel that does the work of several modules is counted with the one that multiplies most; the
others are named beside it.

What cannot be split: a kernel that onnxruntime or OpenVINO made of several modules; OpenVINO's
kernels of less than a microsecond, which its clock does not see, from its own time (`(runtime)`);
anything of torch compiled, or as a CUDA graph. Eager, torch runs a program operator by operator.

Where the device is not here, the kernels and their times are the prediction's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas.core.job import Workload
from nas.hardware.agent.onnxgraph import Node, nodes
from nas.hardware.counting import Counts
from nas.hardware.device import Device
from nas.hardware.lease import Lease
from nas.hardware.prediction.predict import predict_kernels
from nas.hardware.probe import probe

TOLERANCE = 0.001  # the rows add up to the whole within this share of it
STAMP = 3.0  # microseconds that a profiler may take for a kernel; no runtime's takes as many
DRIFT = 0.25  # by which a call under the profiler may be longer without them, as a share
ITSELF, RUNTIME = "(itself)", "(runtime)"  # what the root computes; time of no operator of the file
# What OpenVINO calls the operators that others are fused into.
_MAIN = {"Convolution": {"Conv"}, "FullyConnected": {"Gemm", "MatMul"}}
_FROM_BLOCKED = "ReorderOutput"  # onnxruntime's change from its own layout to the file's
# What onnxruntime puts behind the name of an operator, or of the value that one writes.
_ADDED = re.compile(r"(_nchwc|_pre_q|_token_\d+)+$")
_KEYS = ("params", "macs", "activations")


@dataclass(frozen=True)
class Kernel(Node):
    """A node of the runtime's own graph, with what it takes.

    `parts` are the file's operators that the runtime says it does the work of, where it says so.
    """

    microseconds: float = 0.0
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Profile:
    """The kernels of a file in a runtime, with times by its own profiler.

    `call_us` is a whole call under the profiler, which slows it down; `other_us` is time of no
    kernel in the list; the times rest on `calls` calls. Its clock counts in `resolution_us`:
    shorter kernels cannot be told apart. `stamp_us` is what it adds to each kernel, where known.
    """

    kernels: tuple[Kernel, ...]
    calls: int
    call_us: float
    other_us: float
    resolution_us: float = 0.0
    stamp_us: float | None = None

    @property
    def microseconds(self) -> float:
        """The sum of all times."""
        return sum(k.microseconds for k in self.kernels) + self.other_us

    def overhead(self, latency_us: float) -> float:
        """Microseconds that the profiler adds to each kernel, by what the sum is too long.

        Where it is known (`stamp_us`) that is taken instead.

        No more than nine tenths of the shortest kernel, and nothing where the sum is not too long.

        >>> kernels = tuple(Kernel(microseconds=us) for us in (3.0, 4.0, 80.0))
        >>> Profile(kernels, calls=1, call_us=90.0, other_us=0.0).overhead(81.0)
        2.0
        """
        times = [k.microseconds for k in self.kernels if k.microseconds]
        share = (self.microseconds - latency_us) / max(1, len(times))
        if self.stamp_us is not None:
            share = self.stamp_us
        return max(0.0, min(share, 0.9 * min(times, default=0.0)))

    def disturbed(self, latency_us: float) -> bool:
        """Whether its calls took longer than the profiler itself can explain: the host was busy.

        >>> kernels = (Kernel(microseconds=40.0), Kernel(microseconds=50.0))
        >>> busy = Profile(kernels, calls=1, call_us=200.0, other_us=0.0)
        >>> busy.disturbed(100.0), busy.disturbed(170.0)
        (True, False)
        """
        allowed = max(DRIFT * latency_us, STAMP * len(self.kernels))
        return self.call_us - latency_us > allowed


@dataclass
class Row:
    """A layer: its own counts without those of the modules inside, its time, what it took in."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_KEYS, 0))
    microseconds: float = 0.0
    kernels: int = 0
    fused: list[str] = field(default_factory=list)


def profiled(path: Path, device: Device, lease: Lease, workload: Workload) -> Profile | str:
    """The kernels of a file on a device, or why its runtime tells none; the device is held."""
    session = probe(path, device, lease, workload, mode="layers")
    if isinstance(session, str):
        return session
    found = session.results[0]
    parts = found.get("parts") or [()] * len(found["kernels"])
    kernels = tuple(
        Kernel(name, op, reads, writes, us, tuple(own))
        for (name, op, reads, writes, us), own in zip(found["kernels"], parts, strict=True)
    )
    return Profile(
        kernels, found["calls"], found["call_us"], found["other_us"],
        found.get("resolution_us", 0.0), found.get("stamp_us"),
    )  # fmt: skip


def predicted(path: Path, device: Device, workload: Workload) -> Profile:
    """The kernels that a file becomes on a device that is not here, with their predicted times.

    Raises: NasError as `nas.hardware.prediction.predict.predict`.
    """
    terms = predict_kernels(path, device, workload)
    kernels = tuple(Kernel(k.name, k.op, [], [k.name], term.us) for k, term in terms)
    total = sum(kernel.microseconds for kernel in kernels)
    return Profile(kernels, 0, total, 0.0, stamp_us=0.0)


def counted(counts: Counts) -> dict[str, Any]:
    """`layers`: the own `params`, `macs` and `activations` of each module that has any.

    They add up exactly to the first row, `""`, which is the whole.
    """
    rows = {name: row.counts for name, row in _own(counts).items() if any(row.counts.values())}
    return {"layers": {"": _whole(counts), **rows}}


def timed(
    counts: Counts, path: Path, modules: Mapping[str, str], profile: Profile, latency_ms: float
) -> dict[str, Any]:
    """`layers` as `counted` gives them, with their part of the latency, and `by_layer`.

    Each row has `latency_ms`, which add up to the measured one within `TOLERANCE`, its `share`,
    how many `kernels` it became, and the modules `fused` into it. `by_layer` says how the profile
    was turned into those: `ratio` is its sum over the measured latency, `overhead_us` what was
    taken off each kernel, `scale` what the rest was multiplied by, and whether it `converged`: not
    where the machine was too busy meanwhile. Without `calls` all of it was predicted.

    Args:
        counts: of the module that was exported to `path`.
        modules: operator of the file -> path of the module it came from.
        latency_ms: measured without the profiler.
    """
    rows = _own(counts)
    overhead = profile.overhead(1e3 * latency_ms)
    # a program of torch's is run operator by operator: its kernels are the file's own operators
    file = list(profile.kernels) if path.suffix == ".pt2" else nodes(path)
    _add_times(rows, profile, origins(file, profile.kernels), homes(file, modules), overhead)
    total = sum(row.microseconds for row in rows.values())
    shown = {
        name: {
            **row.counts,
            "latency_ms": latency_ms * row.microseconds / total,
            "share": row.microseconds / total,
            "kernels": row.kernels,
            "fused": row.fused,
        }
        for name, row in rows.items()
        if row.kernels or row.microseconds or any(row.counts.values())
    }
    return {
        "layers": {"": {**_whole(counts), "latency_ms": latency_ms, "share": 1.0}, **shown},
        "by_layer": {
            "latency_ms": latency_ms,
            "profiled_ms": profile.microseconds / 1e3,
            "profiled_call_ms": profile.call_us / 1e3,
            "ratio": profile.microseconds / 1e3 / latency_ms,
            "overhead_us": overhead,
            "scale": latency_ms / (total / 1e3),
            "calls": profile.calls,
            "converged": not profile.disturbed(1e3 * latency_ms),
            "resolution_us": profile.resolution_us,
            "tolerance": TOLERANCE,
        },
    }


def _whole(counts: Counts) -> dict[str, int]:
    return {key: getattr(counts, key) for key in _KEYS}


def _own(counts: Counts) -> dict[str, Row]:
    """A row for each module, with its counts less those of the modules directly inside."""
    rows: dict[str, Row] = {}
    for name, inclusive in counts.by_module.items():
        row = rows.setdefault(name or ITSELF, Row())
        for key in _KEYS:
            row.counts[key] += inclusive[key]
            if name:
                outer = rows.setdefault(name.rpartition(".")[0] or ITSELF, Row())
                outer.counts[key] -= inclusive[key]
    return rows


def _add_times(
    rows: dict[str, Row],
    profile: Profile,
    found: Sequence[Sequence[str]],
    modules: Mapping[str, str],
    overhead: float,
) -> None:
    """Gives each kernel's time to the row of the module that multiplies most in it."""
    for kernel, names in zip(profile.kernels, found, strict=True):
        parts = list(dict.fromkeys(modules.get(name, "") or ITSELF for name in names)) or [RUNTIME]
        main = max(parts, key=lambda p: rows[p].counts["macs"] if p in rows else 0)
        row = rows.setdefault(main, Row())
        row.microseconds += max(0.0, kernel.microseconds - overhead)
        row.kernels += 1
        row.fused += [p for p in parts if p != main and p not in row.fused]
    if profile.other_us:
        rows.setdefault(RUNTIME, Row()).microseconds += profile.other_us
    # What lies in a module without a kernel of its own belongs to the one that took it in.
    for row in list(rows.values()):
        for name in row.fused:
            inner = rows.get(name)
            if inner is not None and not inner.kernels:
                for key in _KEYS:
                    row.counts[key] += inner.counts[key]
                    inner.counts[key] = 0


def homes(file: Sequence[Node], modules: Mapping[str, str]) -> dict[str, str]:
    """The module of every operator of a file, also of those that came into it after the export.

    A quantizer's operators belong to the module whose parameter they read, else to that of the
    value that they read, else to that of whoever reads theirs.
    """
    paths = sorted({path for path in modules.values() if path}, key=len, reverse=True)
    found: dict[str, str] = {}
    made: dict[str, str] = {}  # value -> the module that computed it
    for node in file:
        home = modules.get(node.name.removesuffix("_quant"), modules.get(node.name))
        owned = (p for name in node.inputs for p in paths if name.startswith(p + "."))
        home = next(owned, None) if home is None else home
        if home is None:
            home = next((made[name] for name in node.inputs if name in made), None)
        if home is not None:
            found[node.name] = home
            made |= dict.fromkeys(node.outputs, home)
    readers = {name: found[n.name] for n in file if n.name in found for name in n.inputs}
    for node in reversed(file):
        if node.name not in found:
            found[node.name] = next((readers[o] for o in node.outputs if o in readers), "")
            readers |= dict.fromkeys(node.inputs, found[node.name])
    return found


# --- from the runtime's graph back to the file's --------------------------------------------------


def origins(file: Sequence[Node], kernels: Sequence[Kernel]) -> list[list[str]]:
    """For each kernel, the names of the file's operators that it does the work of.

    Names and values that survived tell most of it. Of what lies between, an operator belongs to
    the kernel that reads it where that one is a fused pattern still lacking its main operator,
    else to the kernel that made the last of its inputs. A change of layout goes with the
    kernel that needed it.
    """
    owner = _known(file, kernels)
    _before_patterns(file, kernels, owner)
    _after_makers(file, owner)
    found: list[list[str]] = [[] for _ in kernels]
    for node in file:
        if node.name in owner:
            found[owner[node.name]].append(node.name)
    wrote = {name: place for place, k in enumerate(kernels) for name in k.outputs}
    for place in reversed(range(len(kernels))):
        kernel = kernels[place]
        if not found[place] and kernel.op != _FROM_BLOCKED:
            readers = (i for i, k in enumerate(kernels) if set(kernel.outputs) & set(k.inputs))
            found[place] = list(found[next(readers, place)])
    for place, kernel in enumerate(kernels):
        if not found[place]:
            makers = [wrote[name] for name in kernel.inputs if name in wrote]
            found[place] = list(found[max(makers, default=place)])
    return found


def _known(file: Sequence[Node], kernels: Sequence[Kernel]) -> dict[str, int]:
    """Operator -> the kernel that has its name, or writes its value."""
    maker = {name: node.name for node in file for name in node.outputs}
    named = {node.name for node in file}
    wrote = {name: place for place, k in enumerate(kernels) for name in k.outputs}
    owner: dict[str, int] = {}
    for place, kernel in enumerate(kernels):
        target = place
        if kernel.op == _FROM_BLOCKED:
            target = wrote.get(kernel.inputs[0], place)
        label = _ADDED.sub("", kernel.name)
        known = (*kernel.parts, kernel.name, label, *kernel.outputs, maker.get(label))
        for name in (*known, *map(maker.get, kernel.outputs)):
            if name in named and name is not None:
                owner.setdefault(name, target)
    return owner


def _before_patterns(
    file: Sequence[Node], kernels: Sequence[Kernel], owner: dict[str, int]
) -> None:
    """Gives operators to the one kernel that reads them, while it lacks what it is named for."""
    readers: dict[str, list[str]] = {}
    for node in file:
        for name in node.inputs:
            readers.setdefault(name, []).append(node.name)
    held: list[set[str]] = [set() for _ in kernels]
    for node in file:
        if node.name in owner:
            held[owner[node.name]].add(node.op)
    for node in reversed(file):
        if node.name in owner:
            continue
        after = {owner.get(reader) for name in node.outputs for reader in readers.get(name, [])}
        (place,) = after if len(after) == 1 else (None,)
        if place is None:
            continue
        kernel = kernels[place]
        main = _MAIN.get(kernel.op, {kernel.op.removeprefix("Fused")})
        # one whose runtime says what it does the work of can lack its main operator alone
        if not held[place] & main and (not kernel.parts or node.op in main):
            owner[node.name] = place
            held[place].add(node.op)


def _after_makers(file: Sequence[Node], owner: dict[str, int]) -> None:
    """Gives what is left to the kernel that made the last of its inputs."""
    made: dict[str, int] = {}
    for node in file:
        if node.name not in owner:
            before = [made[name] for name in node.inputs if name in made]
            if not before:
                continue  # computed from constants, when the file was loaded
            owner[node.name] = max(before)
        made |= dict.fromkeys(node.outputs, owner[node.name])
