"""How much a trained network would gain by growing: self-expanding networks' score.

Appolinary et al. 2024 (arXiv 2401.05686), after Mitchell et al. 2023: a larger network that answers
as the trained one does is given the trained one's weights; what it could gain from the data by
natural gradient, `g^T F^-1 g`, is compared with what the trained one could. New layers begin as
identities, new channels and all else that is new as noise of 1e-4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, islice
from typing import Any

import torch
from torch import Tensor, nn

from nas.core.task import Task
from nas.transforms.report import Report

EXAMPLES = 64  # whose gradients make the Fisher information
NOISE = 1e-4
DAMPING = 1e-12  # added to each entry of the diagonal
PENALTY = 0.1  # lambda, of the square of the share of parameters that are new: our scale for it
LEAST = 1e-3  # of what noise alone would gain: less than this is taken for so much
ALIKE = 1e-2  # how far answers may move, as a share of the largest

Builder = Callable[[], nn.Module]
State = Mapping[str, Tensor]


def asked(module: nn.Module, task: Task, grown: Mapping[str, Builder], seed: int) -> Report:
    """The score of each larger network over the trained one's, as what the network suggests.

    Args:
        module: trained. task: whose training examples are looked at.
        grown: the larger networks, by the decision that makes them so.
    """
    pairs = _examples(task)
    count = sum(p.numel() for p in module.parameters())
    own = max(natural(module, task, pairs), LEAST * count / len(pairs))
    suggests: dict[str, float] = {}
    skipped: list[tuple[str, str]] = []
    for name, build in grown.items():
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            larger = build()
            grow(larger, module, pairs[0][0])
        if not answers_alike(larger, module, pairs):
            skipped.append((name, "the larger network cannot begin where this one is"))
            continue
        added = sum(p.numel() for p in larger.parameters()) / count - 1
        gain = natural(larger, task, pairs) * math.exp(-PENALTY * added**2)
        suggests[name] = max(0.0, gain) / own
    notes = (f"natural gradient: {own:.4g} over {len(pairs)} examples",)
    return Report("growth", (), tuple(skipped), notes, suggests)


def natural(module: nn.Module, task: Task, pairs: list[tuple[Tensor, Any]]) -> float:
    """`g^T F^-1 g`, `g` the mean gradient of examples and `F` the diagonal of their second moments.

    That is `sum(g_A * g_B / (mean(g_i^2) + 1e-12))` over all weights, in evaluation. `g_A`, `g_B`
    are the means of every other example: of one mean's square most would be noise, which adds
    `weights / examples` whatever there is to gain.
    """
    module.eval()
    parameters = list(module.parameters())
    halves = [[torch.zeros_like(p, dtype=torch.float64) for p in parameters] for _ in range(2)]
    square = [torch.zeros_like(half) for half in halves[0]]
    for number, (inputs, target) in enumerate(pairs):
        loss = task.loss(module(inputs), target)
        grads = torch.autograd.grad(loss, parameters, allow_unused=True)
        mean = halves[number % 2]
        for i, grad in enumerate(grads):
            if grad is not None:
                mean[i] += grad.double() / len(pairs[number % 2 :: 2])
                square[i] += grad.double().square() / len(pairs)
    each = [a * b / (s + DAMPING) for a, b, s in zip(*halves, square, strict=True)]
    return float(sum(entry.sum() for entry in each))


@torch.no_grad()
def grow(larger: nn.Module, module: nn.Module, inputs: Tensor) -> list[str]:
    """Gives a larger network, in place, the weights of a smaller one; returns its new layers.

    Tensors of the same name are the smaller's, in their first places where they have become larger;
    new layers answer what they are given, up to noise.
    """
    state = module.state_dict()
    for name, tensor in larger.state_dict().items():
        if name in state and state[name].dim() == tensor.dim():
            _filled(tensor, state[name])
    new = list(_new(larger, state))
    for path in new:
        if not identical(larger, path, inputs):
            _carry(larger.get_submodule(path))
    return new


def _carry(layer: nn.Module) -> None:
    """Makes the convolutions of a layer, such as a new shortcut's, hand on what they are given."""
    for part in layer.modules():
        if isinstance(part, nn.Conv2d):
            given = part.weight
            part.weight.copy_(nn.init.dirac_(given, part.groups) + NOISE * torch.randn_like(given))


def _filled(tensor: Tensor, known: Tensor) -> None:
    """Puts known numbers first; beside them kernels have noise, all else stays as it was built."""
    if any(small > large for small, large in zip(known.shape, tensor.shape, strict=True)):
        return
    if known.shape != tensor.shape and tensor.dim() > 1 and tensor.is_floating_point():
        tensor.normal_(0, NOISE)
    tensor[tuple(slice(size) for size in known.shape)] = known


def _new(larger: nn.Module, state: State) -> Iterator[str]:
    """The paths of the outermost layers of which the smaller network has nothing."""
    done: list[str] = []
    for path, layer in larger.named_modules():
        tensors = [f"{path}.{name}" for name in layer.state_dict()]
        known = any(name in state for name in tensors)
        if path and tensors and not known and not any(path.startswith(f"{d}.") for d in done):
            done.append(path)
            yield path


@torch.no_grad()
def identical(network: nn.Module, path: str, inputs: Tensor) -> bool:
    """Makes a layer answer what it is given, up to noise; False where it has no such weights.

    Tried are zeros in each of its parts, from the last, where a branch would end; then in two of
    them, since a block may have two branches.
    """
    layer, seen = network.get_submodule(path), list[Any]()
    handle = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network.eval()(inputs)
    handle.remove()
    if not seen or not isinstance(seen[0], Tensor):
        return False
    own = [list(part.parameters(recurse=False)) for part in layer.modules()]
    parts = [part for part in reversed(own) if part]
    for some in (*combinations(parts, 1), *combinations(parts, 2)):
        parameters = [parameter for part in some for parameter in part]
        before = [parameter.clone() for parameter in parameters]
        for parameter in parameters:
            parameter.zero_()
        if _same(layer(seen[0]), seen[0]):
            for parameter in parameters:
                parameter.normal_(0, NOISE)
            return True
        for parameter, value in zip(parameters, before, strict=True):
            parameter.copy_(value)
    return False


def _same(found: Any, given: Tensor) -> bool:
    alike = isinstance(found, Tensor) and found.shape == given.shape
    return alike and torch.allclose(found, given, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def answers_alike(larger: nn.Module, module: nn.Module, pairs: list[tuple[Tensor, Any]]) -> bool:
    """Whether both answer the same, up to what noise may move."""
    inputs = torch.cat([given for given, _ in pairs[:8]])
    wanted, found = module.eval()(inputs), larger.eval()(inputs)
    return bool((found - wanted).abs().max() <= ALIKE * wanted.abs().max().clamp(min=1e-12))


def _examples(task: Task) -> list[tuple[Tensor, Any]]:
    """The first training examples, each by itself."""
    single = (
        (inputs[i : i + 1], target[i : i + 1])
        for inputs, target in task.batches("train", 0)
        for i in range(len(inputs))
    )
    return list(islice(single, EXAMPLES))
