"""The axis `adapter` as stages: freeze and put in, train, merge what merges and keep the rest."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn

from nas.core.errors import NasError
from nas.core.task import Task
from nas.networks.parts.log import Log
from nas.networks.parts.sparse import MADE, is_made
from nas.transforms.adapt import linear, weights
from nas.transforms.adapt.adapted import Adapted
from nas.transforms.adapt.beside import Beside
from nas.transforms.adapt.dynamic import (
    Dynamic,
    Leaving,
    advance,
    balanced,
    masked_gradients,
    paid,
    sweep,
)
from nas.transforms.adapt.insertion import METHODS, Work
from nas.transforms.adapt.plan import Plan
from nas.transforms.adapt.polyhistor import Several, constant
from nas.transforms.adapt.prompts import Frame, Framed, Prompted
from nas.transforms.adapt.pruning import drop
from nas.transforms.adapt.sara import Progress, halve, penalised
from nas.transforms.adapt.seen import SECTIONS, Seen, look
from nas.transforms.report import Report
from nas.transforms.stages import Addition, Batches, Criterion, Given, Transform
from nas.transforms.unnamed import weighted, with_rest

NAME = "adapter"
UNKNOWN = "no weights were given: what is frozen are those that the network was built with"


def adapting(plan: Plan) -> Transform:
    """The transform that a plan names. Raises: NasError for an unknown method."""
    if plan.method not in METHODS:
        raise NasError(f"no adapter named {plan.method!r}", f"known: {', '.join(METHODS)}")

    def prepare(module: nn.Module, given: Given) -> tuple[nn.Module, Report]:
        return adapted(module, plan, given)

    def during(module: nn.Module, given: Given) -> Addition:
        return added(module, plan)

    def finish(module: nn.Module, given: Given) -> tuple[nn.Module, Report]:
        return deployed(module, plan, given)

    def judge(module: nn.Module, given: Given, batches: Batches) -> Report:
        return judged(module, plan, given, batches)

    return Transform(NAME, prepare, during, finish, judge=judge if plan.heads else None)


def _takeable(seen: Seen, module: nn.Module, log: Log) -> Seen:
    """What was seen without layers whose weights are made of others: they are left frozen."""
    made = {layer.path for layer in seen.layers if is_made(module.get_submodule(layer.path))}
    for path in sorted(made):
        log.skip(path, MADE)
    return replace(
        seen, layers=tuple(layer for layer in seen.layers if layer.path not in made),
        pairs=tuple(pair for pair in seen.pairs if not made & {pair[0], *pair[1], pair[2]}),
    )  # fmt: skip


def adapted(module: nn.Module, plan: Plan, given: Given) -> tuple[nn.Module, Report]:
    """The network frozen but for its head, with the plan's adapters in it."""
    task, log = given.task, Log()
    seen, parts = _takeable(look(module, task.input), module, log), weighted(module)
    work = Work(module, seen, plan, given, log)
    if plan.method == "polyhistor":
        whole: Adapted = work.several(task.parts)
    elif plan.heads:
        whole = work.dynamic(task.outputs)
    else:
        whole = Adapted(module, seen.head)
    METHODS[plan.method](work, whole)
    for path in seen.uncalled:
        log.skip(path, "its weights are read by another module, not by calling it")
    log.touch(seen.head, "the head: trained")
    whole.train(module.training)
    notes = () if given.pretrained else (UNKNOWN,)
    report = Report(NAME, tuple(log.touched), tuple(log.skipped), notes)
    why = "the head alone is trained" if plan.method == "head" else "no adapter has a place there"
    return whole, with_rest(report, parts, f"frozen, {why}")


def added(module: nn.Module, plan: Plan) -> Addition:
    """What the plan's adapters add to plain training."""

    def begin(optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            group["times"] = plan.rate

    sara = isinstance(module, Adapted) and isinstance(module.notes, Progress)
    early = isinstance(module, Dynamic)
    if early and plan.masked:
        masked_gradients(module, plan.masked)

    def criterion(loss: Criterion) -> Criterion:
        loss = penalised(loss, module) if sara and plan.penalty else loss
        return balanced(loss) if early else loss

    def after(share: float) -> None:
        if sara:
            halve(module, share)
        if early:
            advance(module, share)

    return Addition(criterion, after, begin) if sara or early else Addition(begin=begin)


def deployed(module: nn.Module, plan: Plan, given: Given) -> tuple[nn.Module, Report]:
    """The network with all that merges merged, in place; the rest stays, and is named."""
    assert isinstance(module, Adapted)
    network, log = module.network, Log()
    for path in weights.merge(network):
        log.touch(path, "merged")
    for maker, between, reader in module.pairs:
        log.touch(maker, drop(network, maker, between, reader, plan.density))
    for path, found in list(network.named_modules()):
        if not isinstance(found, Beside):
            continue
        merged = linear.merged(found)
        if merged is None:
            log.skip(path, "an activation keeps its adapter: it stays with its cost")
        else:
            network.set_submodule(path, merged)
            log.touch(path, "linear adapters merged")
    for path, found in network.named_modules():
        if isinstance(found, Prompted):
            log.skip(path, "prompts cannot be merged: their tokens stay")
    return _around(module, network, plan, given, log), Report(
        NAME, tuple(log.touched), tuple(log.skipped)
    )


def _around(module: Adapted, network: nn.Module, plan: Plan, given: Given, log: Log) -> nn.Module:
    """The deployed network with what lies around it."""
    if isinstance(module, Several):
        log.skip("", "several tasks: the network runs once for each")
        return constant(module)
    if isinstance(module, Dynamic) and plan.leave < SECTIONS:
        exit = module.of_quarter[plan.leave]
        path = module.exits[exit]
        log.touch(path, "the network is left behind it; what comes after is gone")
        return Leaving(network, path, module.heads[exit], given.task.input)
    if isinstance(module, Dynamic):
        log.touch("", f"{len(module.heads)} early heads taken away: the network runs to its end")
    if isinstance(module.front, Frame):
        log.skip("", "a constant added to the input stays")
        return Framed(module.front, network)
    return network


def judged(module: nn.Module, plan: Plan, given: Given, batches: Batches) -> Report:
    """What leaving by confidence would bring and cost, as notes."""
    task = given.task
    assert isinstance(module, Dynamic) and isinstance(task, Task)
    merged = deepcopy(module)
    deployed(merged, replace(plan, leave=SECTIONS), given)  # adapters that merge cost nothing
    costs, notes = paid(merged, task.input), []
    for one in sweep(module, task, batches()):
        shares = " ".join(f"{share:.0%}" for share in one.left)
        spent = sum(share * cost for share, cost in zip(one.left, costs, strict=True))
        notes.append(
            f"leaving where sure above {one.threshold:g}: {task.score_name} {one.score:.2f} on "
            f"{one.n} examples, which leave at {shares}, after {spent / 1e6:.3g} of "
            f"{costs[-1] / 1e6:.3g} million multiply-adds on average"
        )
    return Report(NAME, (), (), tuple(notes))
