"""Masks over one weight: the largest entries, or the N largest of each M along the inputs."""

from __future__ import annotations

import torch
from torch import Tensor


def largest(scores: Tensor, count: int) -> Tensor:
    """A mask of exactly `count` entries, those with the highest scores; ties by place.

    >>> largest(torch.tensor([3.0, 1.0, 2.0]), 2).tolist()
    [True, False, True]
    """
    flat = scores.reshape(-1)
    mask = torch.zeros(flat.numel(), dtype=torch.bool, device=scores.device)
    mask[flat.argsort(descending=True, stable=True)[:count]] = True
    return mask.view(scores.shape)


def n_of_m(scores: Tensor, n: int, m: int) -> Tensor:
    """A mask of the `n` highest scores in each `m` neighbours along dimension 1, the inputs.

    Kernels that skip zeros count along the inputs, for each output and each place of a
    convolution's kernel. Raises: ValueError where `m` does not divide the inputs.

    >>> n_of_m(torch.tensor([[1.0, 4.0, 3.0, 2.0]]), 2, 4).tolist()
    [[False, True, True, False]]
    """
    inputs = scores.shape[1]
    if inputs % m:
        raise ValueError(f"{inputs} inputs are no multiple of {m}")
    rows = scores.movedim(1, -1)
    groups = rows.reshape(-1, m)
    order = groups.argsort(dim=1, descending=True, stable=True)
    mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(1, order[:, :n], True)
    return mask.view(rows.shape).movedim(-1, 1).contiguous()


def obeys(weight: Tensor, n: int, m: int) -> bool:
    """Whether each `m` neighbours along the inputs have at most `n` that are not zero."""
    if weight.shape[1] % m:
        return False
    groups = weight.movedim(1, -1).reshape(-1, m)
    return bool(((groups != 0).sum(dim=1) <= n).all())
