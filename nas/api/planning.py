"""From a few words to an experiment as data: what can be checked before anything is done, is."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.api import sources as sources_of
from nas.api.crew import Crew
from nas.catalog import load_objective, load_space
from nas.core.errors import NasError, unknown
from nas.core.fidelity import Fidelity
from nas.core.objective import BUILTIN, TIMED, Constraint, Objective, known_objectives, resolve
from nas.core.promotion import RULES
from nas.core.refusals import nothing_left
from nas.core.space import SearchSpace
from nas.core.study import StudySpec
from nas.core.task import TaskSpec
from nas.hardware.capabilities import target
from nas.hardware.device import Device, attached, engine_of, named
from nas.hardware.runtimes import require
from nas.strategies.choose import create

TRIALS = 32
EPOCHS = 3
ASKING = ("edo", "senn")  # strategies that read what trained networks report
SEEDS = 2**32  # what every generator of random numbers takes


def plan(
    space: str | None, device: str, data: str, objectives: Sequence[str],
    constraints: Sequence[str], strategy: str, promotion: str, presets: Sequence[str],
    trials: int | None, hours: float | None, epochs: int | None, study: str | None, seed: int,
    fresh: bool, runtime: str | None = None, network: str | None = None,
    weights: str | Path | None = None, precision: str = "float32", hands: Crew | None = None,
) -> StudySpec:  # fmt: skip
    """The experiment as data, with everything checked that can be before anything is done."""
    from nas.training.tasks import brief_recipe, describe

    if space is None:
        raise NasError("which space is to be searched?", "type --space largekernel")
    if not 0 <= seed < SEEDS:
        raise NasError(f"not a seed: {seed}", f"give a whole number from 0 to {SEEDS - 1}")
    _known("promotion", promotion, RULES)
    if strategy in ASKING and promotion != "none":
        raise NasError(
            f"strategy {strategy!r} waits for trainings, which promotion {promotion!r} may stop",
            f"type --strategy {strategy} --promotion none",
        )
    found_space = load_space(space, network)
    found_device = _installed(_device(device, hands).under(runtime))
    described = describe(data)
    known = known_objectives(described)
    chosen = tuple(_objective(n, known) for n in objectives) or tuple(
        resolve([described.score_name, "latency_ms"], known)
    )
    resolve([o.name for o in chosen], {**known, **{o.name: o for o in chosen}})
    _networks_weights(network, weights)
    limits = tuple(_constraint(c, chosen, known, found_device, hands) for c in constraints)
    _one_file(found_device, limits, hands)
    _workloads(limits, described, found_device, hands)
    presets = ("untouched", *presets) if network else tuple(presets)
    wanted = [*(o.name for o in chosen), *(c.name for c in limits)]
    aimed = found_space.at(described, target(found_device, wanted, network, weights))
    _named(aimed, presets)
    create(strategy, aimed, chosen, limits, seed)  # one that is none is told of here
    probes = _probes({o.name for o in chosen} | {c.name for c in limits}, found_device)
    chosen = tuple(replace(o, needs="measure") if o.name in probes else o for o in chosen)
    spec = StudySpec(
        name=study or f"{_plain(found_space.name)}-{_short(data)}-{found_device.label}",
        space=space,
        task=described,
        device=found_device.name,
        objectives=chosen,
        constraints=limits,
        strategy=strategy,
        promotion=promotion,
        trials=trials or TRIALS,
        hours=hours,
        fidelity=brief(described, epochs),
        recipe=replace(brief_recipe(data), precision=precision).to_json(),
        seed=seed,
        presets=presets,
        network=network,
        weights=str(Path(weights).absolute()) if weights else None,
        fresh=fresh,
        runtime=str(found_device.engine) if runtime else None,
        probes=probes,
    )
    return replace(spec, files=sources_of.sources(spec))


def _named(space: SearchSpace, presets: Sequence[str]) -> None:
    """Raises NasError where the study's aims leave an axis nothing to do, or refuse a preset."""
    assert space.target is not None
    left = nothing_left(space.listed, space.target)
    if left is not None:
        raise NasError(f"{left[0]} exclude each other", f"{left[1]}; change one of the two")
    for preset in presets:
        space.preset(preset)


def _networks_weights(network: str | None, weights: str | Path | None) -> None:
    """Raises NasError where weights have no network to be of, or are no file."""
    if weights is None:
        return
    if network is None:
        raise NasError("--weights are of a network of your own", "add --network PKG.MOD:FN")
    if not Path(weights).is_file():
        raise NasError(f"no such file: {weights}", "name a .safetensors file with --weights")


def _plain(name: str) -> str:
    """A space's name as part of a study's: `mine.nets:small+bitwidth` has a colon."""
    return name.replace(":", ".")


def _installed(device: Device) -> Device:
    """The device, whose runtime is here if it is. Raises: NasError with the line that adds it.

    Where it is not attached, something must be known to predict from, for its runtime.
    """
    if not attached(device):
        from nas.hardware.prediction.predict import predictable

        predictable(device)
    elif device.address is None and device.stands is None:
        require(device.engine, device.kind)
    return device


def _device(name: str, hands: Crew | None) -> Device:
    """The device of that name as it stands to those who do the work."""
    return hands.standing(named(name)) if hands else named(name)


def _one_file(device: Device, limits: Sequence[Constraint], hands: Crew | None) -> None:
    """Raises NasError where a constraint's device takes another kind of file than the study's."""
    takes = engine_of(device).suffix
    for limit in (c for c in limits if c.device not in (None, device.name)):
        other = _device(str(limit.device), hands)
        if engine_of(other).suffix != takes:
            how = (
                f"takes {engine_of(other).suffix}" if attached(other) else "is predicted from ONNX"
            )
            raise NasError(
                f"a candidate is one file: {device.name} under {device.engine} takes {takes}, "
                f"{other.name} {how}",
                f"leave {limit} out, and after the search type: "
                f"nas retarget STUDY --device {other.name}",
            )


def brief(task: TaskSpec, epochs: int | None) -> Fidelity:
    """A training short enough for a search: few epochs, each of 20 in sqrt(n) of n examples.

    Of the digits' 1,797 that is half, of CIFAR-10's 60,000 a twelfth: what a search can afford
    grows slower than what there is.
    """
    share = min(1.0, 20 / math.sqrt(task.examples)) if task.examples else 1.0
    return Fidelity(epochs=epochs or EPOCHS, data=round(share, 4))


def _probes(asked: Set[str], device: Device) -> tuple[str, ...]:
    """What is to be measured on the device besides time. Raises: NasError for what cannot be.

    Memory is measured where the runtime tells it, and counted elsewhere.
    """
    from nas.hardware.energy import unreadable

    found = []
    if "peak_memory_mb" in asked and attached(device):
        found += ["peak_memory_mb"] if device.kind == "cpu" or device.runtime == "torch" else []
    if "energy_mj" in asked:
        why = unreadable(device)
        if why is not None:
            raise NasError(
                f"energy_mj cannot be measured: {why}",
                "leave it out, or name a device whose counters you may read: nas devices",
            )
        found.append("energy_mj")
    return tuple(found)


def _objective(name: str, known: dict[str, Objective]) -> Objective:
    return load_objective(name)[0] if ":" in name else resolve([name], known)[0]


def _constraint(
    text: str,
    chosen: Sequence[Objective],
    known: dict[str, Objective],
    device: Device,
    hands: Crew | None,
) -> Constraint:
    """A constraint on something this search knows. Raises: NasError otherwise."""
    constraint = Constraint.parse(text)
    names = {**known, **{o.name: o for o in chosen}}
    if constraint.name not in names:
        raise unknown("objective", constraint.name, names)
    _sensible(constraint, names[constraint.name])
    if constraint.device not in (None, device.name):
        other = _installed(_device(constraint.device or "", hands))
        constraint = replace(constraint, device=other.name)
    if constraint.name not in TIMED:
        bare = f"write {constraint.name}{constraint.sense}{constraint.limit:g}"
        if constraint.device not in (None, device.name):
            problem = f"constraint {text!r}: {constraint.name} is the same on every device"
            raise NasError(problem, bare)
        if not constraint.usual:
            problem = f"constraint {text!r}: {constraint.name} is of one example in a call"
            raise NasError(problem, bare)
        if constraint.quantile:
            raise NasError(f"constraint {text!r}: {constraint.name} has no quantiles", bare)
    return constraint


def _sensible(limit: Constraint, of: Objective) -> None:
    """Raises NasError for a limit on one of our own numbers that all networks break."""
    share = of.unit == "%"
    if of.name in BUILTIN and limit.sense == "<=" and limit.limit <= 0:
        raise NasError(
            f"constraint {str(limit)!r}: {of.name} is above 0", f"write {of.name}<=NUMBER"
        )
    if share and limit.sense == ">=" and limit.limit > 100:
        raise NasError(f"constraint {str(limit)!r}: {of.name} is 100 % at most", f"{of.name}>=90")
    if share and limit.sense == ">=" and 0 < limit.limit <= 1:
        raise NasError(
            f"constraint {str(limit)!r}: {of.name} is in %, of which that is next to nothing",
            f"write {of.name}>={100 * limit.limit:g}",
        )


def _workloads(
    limits: Sequence[Constraint], task: TaskSpec, own: Device, hands: Crew | None
) -> None:
    """Raises NasError where a limit is on a workload that cannot be had of its device or task."""
    for limit in limits:
        device = own if limit.device in (None, own.name) else _device(str(limit.device), hands)
        if (limit.streams or 1) > 1 and not attached(device):
            raise NasError(
                f"{limit}: {device.name} is not attached, and callers at once are not predicted",
                "leave :s out, or name a device that is here: nas devices",
            )
        if limit.quantile and not attached(device):
            raise NasError(
                f"{limit}: {device.name} is not attached, and quantiles are not predicted",
                f"write '{replace(limit, quantile=None)}'",
            )
        if limit.resolution and len(task.input) != 3:
            raise NasError(
                f"{limit}: what comes in is {'x'.join(map(str, task.input))}, which has no side",
                "leave :r out",
            )


def _short(data: str) -> str:
    """A data source as part of a study's name: the last word of its path."""
    stem = Path(data.partition(":")[2] or data).stem
    return "".join(c if c.isalnum() else "-" for c in stem).strip("-")[:24] or "data"


def _known(kind: str, name: str, known: Any) -> None:
    if name not in known:
        raise unknown(kind, name, list(known))
