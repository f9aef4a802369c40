"""How much the loss minds each layer's weights being moved: traces of the Hessian's main part."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.transforms.running import evaluating

EXAMPLES = 32
PROBES = 4


def traces(
    module: nn.Module,
    weights: Sequence[Tensor],
    examples: Tensor,
    seed: int = 0,
    probes: int = PROBES,
) -> list[float]:
    """The Gauss-Newton trace of each weight, the mean over examples, estimated.

    That is the Hessian's trace less the part that vanishes where the network fits. It needs no
    targets: of class scores `(N, C)` they are drawn from the network's own probabilities (the
    Fisher information), of any other output squared errors are taken. Signs drawn for each example
    (Hutchinson 1990) make the gradient of one sum tell the sum of all squared gradients.

    The papers take the Hessian of about a thousand images; the Gauss-Newton part, of fewer, is our
    choice: it is never negative.
    """
    numbers = torch.Generator().manual_seed(seed)  # drawn here wherever the module is
    examples = examples.to(next(module.parameters()).device)
    sums = [0.0] * len(weights)
    wanted = [w.requires_grad for w in weights]
    for weight in weights:
        weight.requires_grad_(True)
    with evaluating(module), torch.enable_grad():
        for _ in range(probes):
            output = module(examples)
            found = torch.autograd.grad(_probe(output, numbers), list(weights), allow_unused=True)
            if all(gradient is None for gradient in found):
                raise ValueError("none of these weights is a parameter that the network uses")
            for i, gradient in enumerate(found):
                sums[i] += 0.0 if gradient is None else float(gradient.double().square().sum())
    for weight, grad in zip(weights, wanted, strict=True):
        weight.requires_grad_(grad)
    return [total / (probes * len(examples)) for total in sums]


def _probe(output: Tensor, numbers: torch.Generator) -> Tensor:
    """A sum whose squared gradient has the trace as its mean."""
    if output.dim() == 2 and output.shape[1] > 1:
        likely = output.detach().softmax(1)
        drawn = torch.multinomial(likely.cpu(), 1, generator=numbers).squeeze(1)
        each = F.cross_entropy(output, drawn.to(output.device), reduction="none")
    else:
        each = output
    signs = torch.randint(0, 2, each.shape, generator=numbers) * 2 - 1
    return (each * signs.to(each.device)).sum()
