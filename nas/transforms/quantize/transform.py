"""The axis's transform: what a plan does before, during and after training, and to the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nas.core.errors import NasError
from nas.core.task import Task
from nas.transforms.quantize.allocate import OPTIONS, Weights, by_hessian, by_precision
from nas.transforms.quantize.codes import BITS, codes, double_rounded, widest_steps
from nas.transforms.quantize.file import CPU, NAME, quantize
from nas.transforms.quantize.learned import Steps, learn, learning, settle
from nas.transforms.quantize.plan import FORMATS, Plan, format_of
from nas.transforms.quantize.schedule import begin, begun, rounding, switching
from nas.transforms.quantize.seen import Call, calls, described, off_grid
from nas.transforms.quantize.sensitivity import EXAMPLES as SENSED
from nas.transforms.quantize.sensitivity import traces
from nas.transforms.report import Report
from nas.transforms.stages import Addition, Given, Transform
from nas.transforms.unnamed import weighted, with_rest

EXAMPLES = 128  # training examples that ranges are taken from, where a task names no number
LOOKED = 16  # of them, to find out in which order layers run
REST = "the file's report says what becomes of it"
BARE = 4  # bits below which a depthwise convolution loses too much


def quantizing(plan: Plan) -> Transform:
    """The transform that a plan names; one that learns nothing works on the exported file alone."""

    def write(source: Path, target: Path, given: Given) -> Report:
        if source.suffix != ".onnx":
            raise NasError(
                f"number formats are written into ONNX files, not into {source.suffix} files",
                "type --runtime onnxruntime, or leave the axis bitwidth out",
            )
        count = given.task.calibration if isinstance(given.task, Task) else EXAMPLES
        examples = given.examples(count).numpy()
        return quantize(source, target, plan, examples, given.kernels or CPU, given.batch)

    def prepare(module: nn.Module, given: Given) -> tuple[nn.Module, Report]:
        return module, _learning(module, plan, given)

    def during(module: nn.Module, given: Given) -> Addition:
        if plan.method == "qat":
            return rounding(module)
        if plan.average is None:
            return switching(module)
        examples = given.examples(SENSED)
        return switching(
            module,
            sensitivities=lambda weights: traces(module, weights, examples, given.seed),
            seed=given.seed,
        )

    def finish(module: nn.Module, given: Given) -> tuple[nn.Module, Report]:
        return module, _finished(module, plan, given)

    trained = plan.method != "ptq"
    return Transform(
        NAME,
        prepare=prepare if trained else None,
        during=during if trained else None,
        finish=finish if trained or plan.average is not None else None,
        write=write,
    )


def _chosen(
    module: nn.Module, plan: Plan, given: Given
) -> tuple[list[tuple[Call, str]], dict[str, str]]:
    """The layers whose weights will be codes on a grid with their formats, and why others not."""
    found = calls(module, _examples(module, given, 2))
    ragged = off_grid(module, given.task.input, found)
    chosen, left = [], dict(ragged)
    for call, layer in zip(found, described(found), strict=True):
        wanted, why = format_of(layer, plan)
        if FORMATS[wanted].how != "static":
            left[call.path] = why or f"{wanted} learns no steps"
        elif call.path not in ragged:
            chosen.append((call, wanted))
    return chosen, left


def _examples(module: nn.Module, given: Given, count: int) -> torch.Tensor:
    """Training examples where the module is."""
    device = next((t.device for t in module.state_dict().values()), torch.device("cpu"))
    if device.type == "meta":
        return torch.empty(count, *given.task.input, device=device)
    return given.examples(count).to(device)


def _learning(module: nn.Module, plan: Plan, given: Given) -> Report:
    """Lets layers learn their steps."""
    chosen, left = _chosen(module, plan, given)
    for call, wanted in chosen:
        learn(call.layer, FORMATS[wanted].bits, plan.method == "switching")
    touched = tuple(f"{call.path}: learns its steps, {wanted}" for call, wanted in chosen)
    skipped = tuple((path, f"{why}: steps are chosen after training") for path, why in left.items())
    report = Report(NAME, touched, skipped)
    return with_rest(report, weighted(module), f"it learns no steps, {REST}")


def _finished(module: nn.Module, plan: Plan, given: Given) -> Report:
    """Puts weights on their grids, with as many bits as each layer has in the end."""
    if plan.method == "ptq":
        return _divide_plain(module, plan, given)
    listed = list(learning(module))
    real = not any(t.is_meta for t in module.state_dict().values())
    if real and not begun(module):
        _look(module, given)
    if real:
        _join(module, given)
    notes: tuple[str, ...] = ()
    if real and plan.average is not None and listed:
        rows = [layer.weight for _, layer, _ in listed]
        ends = _ends(module, given)
        options = [_options(layer, path in ends) for path, layer, _ in listed]
        for (_, _, steps), bits in zip(
            listed, _bits(module, rows, options, plan, given), strict=True
        ):
            steps.bits.fill_(bits)
        notes = (f"bits divided by {plan.allocator}",)
    touched = []
    for path, layer, steps in listed:
        touched.append(f"{path}: on its learned grid of {int(steps.bits) if real else BITS} bits")
        settle(layer, keep_input=True)
    return Report(NAME, tuple(touched), (), notes)


def _look(module: nn.Module, given: Given) -> None:
    """First steps for a network that was not trained so far."""
    listed = list(learning(module))
    module.eval()
    for _, _, steps in listed:
        steps.train()
    with torch.no_grad():
        module(_examples(module, given, LOOKED))
    module.eval()
    begin(module)


def _join(module: nn.Module, given: Given) -> None:
    """Gives layers that read one tensor one step, the longest: a file's tensor has only one."""
    steps = {path: s for path, _, s in learning(module)}
    groups: dict[int, list[Steps]] = {}
    for call in calls(module, _examples(module, given, 2)):
        if call.path in steps:
            groups.setdefault(call.given, []).append(steps[call.path])
    with torch.no_grad():
        for group in (g for g in groups.values() if len(g) > 1):
            longest = torch.stack([s.input_step() for s in group]).amax(0)
            signed = torch.stack([s.signed for s in group]).any(0)
            for s in group:
                s.input_start.copy_(longest)
                s.input_log.zero_()
                s.signed.copy_(signed)


def _divide_plain(module: nn.Module, plan: Plan, given: Given) -> Report:
    """Rounds plain weights to the bits that each layer is given."""
    chosen, left = _chosen(module, plan, given)
    skipped = tuple((path, f"8 bits: {why}") for path, why in left.items())
    if any(t.is_meta for t in module.state_dict().values()) or not chosen:
        return _undivided(module, Report(NAME, (), skipped))
    weights = [call.layer.weight for call, _ in chosen]
    ends = _ends(module, given)
    options = [_options(call.layer, call.path in ends) for call, _ in chosen]
    touched = []
    for (call, _), bits in zip(chosen, _bits(module, weights, options, plan, given), strict=True):
        rows = call.layer.weight.detach().flatten(1).cpu().numpy()
        steps = widest_steps(rows)
        kept = codes(rows, steps)
        if bits < BITS:
            kept, steps = double_rounded(kept, bits), steps * 2 ** (BITS - bits)
        left_over = torch.from_numpy((kept * steps[:, None]).astype(np.float32))
        with torch.no_grad():
            call.layer.weight.copy_(left_over.view_as(call.layer.weight))
        touched.append(f"{call.path}: {bits} bits")
    notes = (f"bits divided by {plan.allocator}",)
    return _undivided(module, Report(NAME, tuple(touched), skipped, notes))


def _undivided(module: nn.Module, report: Report) -> Report:
    return with_rest(report, weighted(module), f"its bits are not divided, {REST}")


def _ends(module: nn.Module, given: Given) -> set[str]:
    """The paths of the first and the last layer that run."""
    found = calls(module, _examples(module, given, 2))
    return {call.path for call in (*found[:1], *found[-1:])}


def _options(layer: nn.Module, end: bool) -> tuple[int, ...]:
    """The bits that a layer may have: the first and the last keep 8."""
    if end:
        return OPTIONS[:1]
    bare = getattr(layer, "groups", 1) > 1
    return tuple(b for b in OPTIONS if b >= BARE or not bare)


def _bits(
    module: nn.Module,
    weights: Sequence[torch.Tensor],
    options: Sequence[tuple[int, ...]],
    plan: Plan,
    given: Given,
) -> list[int]:
    """Each layer's bits, at the plan's average or the least that is possible."""
    assert plan.average is not None
    trace = [1.0] * len(weights)
    if plan.allocator == "hessian":
        trace = traces(module, weights, _examples(module, given, SENSED), given.seed)
    listed = [
        Weights(w.detach().flatten(1).cpu().numpy(), t, o)
        for w, t, o in zip(weights, trace, options, strict=True)
    ]
    sizes = [layer.rows.size for layer in listed]
    least = sum(min(x.options) * n for x, n in zip(listed, sizes, strict=True)) / sum(sizes)
    divide = by_hessian if plan.allocator == "hessian" else by_precision
    return divide(listed, max(plan.average, least))
