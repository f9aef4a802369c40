"""What zeroing parts of a network does to its output, part by part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from nas.transforms.running import evaluating
from nas.transforms.sparsify.allocate import Array

EXAMPLES = 64  # that outputs are compared on; the paper takes 256 to 1024 and 101 options a layer
Masks = Mapping[str, Tensor]


def flat(output: object) -> Tensor:
    """All tensors of an output, one after the other."""
    found = [t for t in pytree.tree_leaves(output) if isinstance(t, Tensor)]
    return torch.cat([t.reshape(-1) for t in found])


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
                masked = {name: names[name] * mask for name, mask in option().items()}
                output = torch.func.functional_call(module, masked, (examples,))
                row.append(float((flat(output) - plain).square().mean()))
            found.append(np.array(row))
    return found
