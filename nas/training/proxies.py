"""Zero-cost proxies: numbers of an untrained network that may go with what it is worth trained.

They are for ranking aids and reports, never for judging: `nas show STUDY --proxies` says how much
each is worth on the study at hand, beside the sizes, which are proxies too. They see the network
in floating point alone, not its bits, its adapters, or how it is trained: where an architecture
chooses bits or adapters, none is defined.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from nas.core.task import Task
from nas.training.watching import (
    blocks,
    bounded,
    leaves,
    prepared,
    redraw,
    signs,
    watched,
    weights,
    without_norms,
)

EXAMPLES = 16
NOISY = 8  # of random inputs
REPEATS = 2
NEARBY = 1e-2  # how far Zen's second input is from the first
NAMES = ("grad_norm", "snip", "synflow", "jacob_cov", "naswot", "meco", "zen", "az_expressivity",
         "az_progressivity", "az_trainability")  # fmt: skip
REFUSED = (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError)


@dataclass(frozen=True)
class Proxies:
    """The proxies that are defined for a network, and why the others are not."""

    values: dict[str, float]
    undefined: dict[str, str]


class Undefined(Exception):
    """A proxy is not defined for a network; the message is the reason."""


def unseen(axes: Sequence[str]) -> Proxies:
    """No proxy at all, where axes chose what proxies cannot see."""
    why = f"it sees the network in floating point alone, not what {' and '.join(axes)} chose"
    return Proxies({}, dict.fromkeys(NAMES, why))


def proxies(module: nn.Module, task: Task, seed: int = 0, examples: int = EXAMPLES) -> Proxies:
    """Every proxy of an untrained module, which is left as it was.

    Args:
        module: as it was built.
        task: gives one batch of training data and the loss.
        seed: of that batch, of random inputs and of random weights.
        examples: how many of the batch are used, at most.
    """
    batch = next(iter(task.batches("train", seed)))
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    inputs, target = batch[0][:examples].to(device), batch[1]
    if isinstance(target, Tensor):
        target = target[:examples].to(device)
    else:
        inputs = batch[0].to(device)  # targets of unknown form are not cut

    def loss(output: Any) -> Tensor:
        found: Tensor = task.loss(output, target)
        return found

    shape = (min(NOISY, len(inputs)), *inputs.shape[1:])
    ways: dict[tuple[str, ...], Callable[[], tuple[float, ...]]] = {
        ("grad_norm", "snip"): lambda: gradients(module, inputs, loss),
        ("synflow",): lambda: (synflow(module, shape[1:]),),
        ("jacob_cov",): lambda: (jacob_cov(module, inputs),),
        ("naswot",): lambda: (naswot(module, inputs),),
        ("meco",): lambda: (meco(module, inputs),),
        ("zen",): lambda: (zen(module, shape, seed),),
        ("az_expressivity", "az_progressivity", "az_trainability"): lambda: az_nas(
            module, shape, seed
        ),
    }
    values: dict[str, float] = {}
    undefined: dict[str, str] = {}
    for names, way in ways.items():
        try:
            found = way()
        except Undefined as why:
            undefined |= dict.fromkeys(names, str(why))
            continue
        except REFUSED as error:  # a network that no gradient or no double passes through
            undefined |= dict.fromkeys(names, f"{type(error).__name__}: {error}"[:200])
            continue
        for name, value in zip(names, found, strict=True):
            if math.isfinite(value):
                values[name] = value
            else:
                undefined[name] = "not a finite number"
    return Proxies(values, undefined)


def gradients(
    module: nn.Module, inputs: Tensor, loss: Callable[[Any], Tensor]
) -> tuple[float, float]:
    """grad_norm, the sum over weights of the gradient's norm, and SNIP, the sum of |w * dL/dw|.

    Batch norms use the batch. Sources: Abdelfattah et al. 2021 (zero-cost NAS); Lee et al. 2019
    (SNIP), where the gradient of a mask of ones is w * dL/dw.
    """
    net = prepared(module)
    trained = weights(net)
    found = torch.autograd.grad(loss(net(inputs)), trained, allow_unused=True)
    pairs = [(w.detach().double(), g.double()) for w, g in zip(trained, found, strict=True)
             if g is not None]  # fmt: skip
    norm = sum(float(g.norm()) for _, g in pairs)
    return norm, sum(float((w * g).abs().sum()) for w, g in pairs)


def synflow(module: nn.Module, shape: tuple[int, ...]) -> float:
    """The decimal logarithm of the sum of |w * dR/dw|: how much flow the weights conserve.

    R is the sum of the outputs for an input of ones, with every parameter and buffer made positive
    and every norm off, in double precision. It grows exponentially with depth, hence the logarithm.
    Source: Tanaka et al. 2020. Raises: Undefined where a softmax, sigmoid or tanh takes part, or a
    ReLU6 is given more than it lets through: what flows in is not what flows out, and of numbers
    this large their gradient is zero.
    """
    net = copy.deepcopy(module).eval().double()
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.abs_()
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    squashed: list[str] = []
    with without_norms(), bounded(squashed):
        total = _sum(net(torch.ones(1, *shape, dtype=torch.float64, device=device)))
    if squashed:
        names = ", ".join(sorted(set(squashed)))
        raise Undefined(f"softmax, sigmoid, tanh and ReLU6 conserve no flow, and it has {names}")
    trained = weights(net)
    found = torch.autograd.grad(total, trained, allow_unused=True)
    pairs = zip(trained, found, strict=True)
    flow = sum(float((w.detach() * g).abs().sum()) for w, g in pairs if g is not None)
    return math.log10(flow) if flow > 0 else -math.inf


def jacob_cov(module: nn.Module, inputs: Tensor) -> float:
    """How differently a network answers to different examples.

    Of the gradients of the summed outputs by each input, correlated with each other, v are the
    eigenvalues: minus the sum of log(v + k) + 1 / (v + k), k = 1e-5. Source: Mellor et al. 2020
    (the first version of "NAS without training"), as in Abdelfattah et al. 2021.
    """
    given = inputs.detach().clone().requires_grad_()
    [jacobian] = torch.autograd.grad(_sum(prepared(module)(given)), given)
    correlation = torch.corrcoef(jacobian.flatten(1).double())
    if not bool(torch.isfinite(correlation).all()):
        return math.nan
    values = torch.linalg.eigvalsh(correlation).clamp_min(0) + 1e-5  # symmetric: never complex
    return -float((values.log() + 1 / values).sum())


def naswot(module: nn.Module, inputs: Tensor) -> float:
    """The log-determinant of how many units agree on whether they are on, example by example.

    A unit is a value before an activation, on where it is above zero (for a ReLU, where it passes
    the value on). Undefined where two examples switch on the same units. Source: Mellor et al.
    2021. Raises: Undefined where no such unit is seen.
    """
    seen: list[Tensor] = []
    with torch.no_grad(), signs(seen):
        prepared(module)(inputs)
    codes = [on for on in seen if len(on) == len(inputs)]
    if not codes:
        raise Undefined("it counts units that ReLU or the like switches on and off, and saw none")
    agreed = torch.zeros(len(inputs), len(inputs), dtype=torch.float64, device=inputs.device)
    for on in codes:
        agreed += on @ on.T + (1 - on) @ (1 - on).T
    sign, logarithm = torch.linalg.slogdet(agreed)
    return float(logarithm) if sign > 0 else math.nan


def meco(module: nn.Module, inputs: Tensor) -> float:
    """The sum over maps of the least eigenvalue of the correlation between their channels.

    Of the first example. Only maps of modules without parts count, each once, and only where they
    have more pixels than channels: elsewhere the least eigenvalue is zero whatever the network.
    Source: Jiang et al. 2023 (MeCo).
    """
    net = prepared(module)
    with torch.no_grad(), watched(net, leaves(net)) as maps:
        net(inputs)
    total, before, counted = 0.0, torch.empty(0), 0
    for output in maps.outputs:
        channels = output[0].flatten(1).double()
        again = channels.shape == before.shape and bool(torch.equal(channels, before))
        before = channels
        if again or not 1 < channels.shape[0] < channels.shape[1]:
            continue
        correlation = torch.corrcoef(channels).nan_to_num(0.0)  # a constant channel has none
        total += float(torch.linalg.eigvalsh(correlation)[0])
        counted += 1
    return total if counted else math.nan


def zen(module: nn.Module, shape: tuple[int, ...], seed: int = 0, repeats: int = REPEATS) -> float:
    """How far the last map moves when the input moves a little, with what norms divided out.

    The mean over repeats, each with normal weights and inputs, of log E|f(x) - f(x + 0.01 e)|, f
    the last map before it is pooled, plus the logarithm of the deviation that each norm before f
    divides by. Undefined without norms. Source: Lin et al. 2021 (Zen-NAS), who take 32 repeats, and
    treat plain networks with batch norm alone; here residual links stay, and layer and group norms
    count as batch norms do.
    """
    net = prepared(module)
    scores = []
    with _seeded(seed), torch.no_grad():
        for _ in range(repeats):
            redraw(net, nn.init.normal_)
            first = torch.randn(shape, device=_device(net))
            second = first + NEARBY * torch.randn_like(first)
            one, variances = _last_map(net, first)
            other, _ = _last_map(net, second)
            if not variances:
                return math.nan
            moved = (one - other).abs().flatten(1).sum(1).double().mean()
            scores.append(float(moved.log()) + sum(0.5 * math.log(v) for v in variances if v > 0))
    return sum(scores) / len(scores)


def az_nas(module: nn.Module, shape: tuple[int, ...], seed: int = 0) -> tuple[float, float, float]:
    """Expressivity, progressivity and trainability of AZ-NAS, over the network's blocks.

    Expressivity is the sum over blocks of the entropy of the shares of their maps' principal
    components, progressivity its least growth from one block to the next, trainability the mean of
    2 - s - 1 / (s + 1e-6), s the largest singular value of a block's Jacobian as random signs going
    backward estimate it. The fourth part is the complexity, MACs; the four are joined by ranks
    among all networks at hand (`nas.report.correlations`). Source: Lee and Ham 2024.
    """
    net = prepared(module)
    with _seeded(seed):
        redraw(net, lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"))
        with watched(net, blocks(net)) as maps:
            net(torch.randn(shape, device=_device(net)).requires_grad_())
        seen = maps.outputs
        if len(seen) < 2:
            return (math.nan,) * 3
        entropies = [_entropy(m.detach()) for m in seen]
        singular = [s for one, two in pairwise(seen) if (s := _largest(one, two)) is not None]
    growth = min(b - a for a, b in pairwise(entropies))
    passed = [2 - s - 1 / (s + 1e-6) for s in singular]
    return sum(entropies), growth, sum(passed) / len(passed) if passed else math.nan


def _entropy(output: Tensor) -> float:
    """Entropy of the shares of variance along a map's principal components, `(B, C, H, W)`."""
    values = output.double().transpose(0, 1).flatten(1)
    values = values - values.mean(1, keepdim=True)
    spread = torch.linalg.eigvalsh(values @ values.T / values.shape[1]).clamp_min(0)
    shares = spread / spread.sum()
    return -float((shares * (shares + 1e-8).log()).sum())


def _largest(one: Tensor, two: Tensor) -> float | None:
    """The largest singular value of the mean Jacobian between two maps; None where none is found.

    Where the second map is smaller, each of its pixels answers to a square of the first's.
    """
    back = torch.randint(0, 2, two.shape, device=two.device).to(two.dtype) * 2 - 1
    [given] = torch.autograd.grad(two, one, back, retain_graph=True, allow_unused=True)
    stride = one.shape[2] // two.shape[2]
    whole = stride >= 1 and one.shape[2:] == (stride * two.shape[2], stride * two.shape[3])
    if given is None or not whole or not bool(torch.isfinite(given).all()):
        return None
    given = nn.functional.pixel_unshuffle(given, stride)
    rows, columns = (t.double().transpose(0, 1).flatten(1) for t in (given, back))
    return float(torch.linalg.matrix_norm(rows @ columns.T / rows.shape[1], ord=2))


def _last_map(net: nn.Module, inputs: Tensor) -> tuple[Tensor, list[float]]:
    """The last map of more than one pixel, or the output, and the variances of norms before it."""
    with watched(net, list(net.modules())) as maps:
        output = net(inputs)
    places = [i for i, m in enumerate(maps.outputs) if m.shape[2] * m.shape[3] > 1]
    if not places:
        return _flat(output), [v for _, v in maps.variances]
    last = places[-1]
    return maps.outputs[last], [v for before, v in maps.variances if before <= last]


def _sum(output: Any) -> Tensor:
    return _flat(output).sum()


def _flat(output: Any) -> Tensor:
    """Every number of an output, `(B, numbers)`."""
    return torch.cat([t.flatten(1) for t in _tensors(output)], 1)


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    else:
        for part in output.values() if isinstance(output, dict) else output:
            yield from _tensors(part)


def _device(net: nn.Module) -> torch.device:
    return next((p.device for p in net.parameters()), torch.device("cpu"))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers from this seed, and then those that would have come."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
