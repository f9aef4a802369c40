"""Learning from a teacher: a larger point of the front, or a network of the user's own.

The teacher looks at the very tensor that the student does: the same crop, the same mixture. That it
is consistent so, and asked in every step of a long training, is what makes it a good one (Beyer et
al. 2022); outputs stored once for each image would be of other inputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.training.mixing import Once
from nas.transforms.stages import Addition, Criterion


def distilling(teacher: nn.Module, share: float, temperature: float) -> Addition:
    """Makes `share` of the loss the divergence from the teacher's classes (Hinton et al. 2015).

    Args:
        teacher: in evaluation, on the student's device; it is not trained.
        share: from 0 to 1; the rest is the loss so far.
        temperature: both outputs are divided by it; the divergence is multiplied by its square,
            so that its gradient does not depend on it.
    """
    for parameter in teacher.eval().parameters():
        parameter.requires_grad_(False)
    asked = Once(teacher)

    def distilled(loss: Criterion) -> Criterion:
        def both(module: nn.Module, inputs: Tensor, target: Any) -> Tensor:
            student = Once(module)
            own = loss(student, inputs, target)
            with torch.no_grad():
                said = asked(inputs)
            return (1 - share) * own + share * divergence(student(inputs), said, temperature)

        return both

    return Addition(criterion=distilled)


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of softened classes `(B, C)`, times the temperature's square.

    >>> float(divergence(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0]]), 2.0))
    0.0
    """
    logs = functional.log_softmax(student.float() / temperature, dim=1)
    wanted = functional.log_softmax(teacher.float() / temperature, dim=1)
    found = functional.kl_div(logs, wanted, reduction="batchmean", log_target=True)
    return found * temperature**2
