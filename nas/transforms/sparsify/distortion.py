"""What zeroing parts of a network does to its output, part by part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from nas.transforms.running import evaluating
from nas.transforms.sparsify.allocate import Array

FORWARDS = 4096  # of one example, that curves may take; at 16 examples for each option
FEWEST, MOST = 16, 64  # examples; the paper takes 256 to 1024 and 101 options a layer
Masks = Mapping[str, Tensor]


def flat(output: object) -> Tensor:
    """All tensors of an output, one after the other."""
    found = [t for t in pytree.tree_leaves(output) if isinstance(t, Tensor)]
    return torch.cat([t.reshape(-1) for t in found])


def examples_for(layers: Sequence[Sequence[object]]) -> int:
    """How many examples outputs are compared on, the fewer the more options there are.

    Sixteen lead to amounts that differ from those by 256 as much as those by 256 others do.

    >>> examples_for([range(10)] * 8), examples_for([range(10)] * 40)
    (51, 16)
    """
    return min(MOST, max(FEWEST, FORWARDS // max(1, sum(map(len, layers)))))


def curves(
    module: nn.Module, examples: Tensor, layers: Sequence[Sequence[Callable[[], Masks]]]
) -> list[Array]:
    """For each layer and option, the mean squared change of the output when it alone is masked.

    Args:
        examples: `(N, ...)`, on the module's device.
        layers: for each layer its options; each returns masks by the names of parameters. The
            module is left as it is.
    """
    names = dict(module.named_parameters())
    with evaluating(module), torch.no_grad():
        plain = flat(module(examples))
        found = []
        for options in layers:
            row = []
            for option in options:
                masks = option()
                if all(bool(mask.all()) for mask in masks.values()):
                    row.append(0.0)
                    continue
                masked = {name: names[name] * mask for name, mask in masks.items()}
                output = torch.func.functional_call(module, masked, (examples,))
                row.append(float((flat(output) - plain).square().mean()))
            found.append(np.array(row))
    return found
