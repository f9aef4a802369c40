"""Sparsity: channels that are removed for good, weights that are zero, and the way there.

`groups` finds channels that go together, `widths` and `allocate` say how many stay where,
`patterns` which single weights, `schedules` when; `dynamic` moves masks while a network trains, and
`held` keeps what is masked at zero. `channels` and `weights` are the stages made of these.
"""

from __future__ import annotations

from functools import partial

from nas.transforms.sparsify import channels, weights
from nas.transforms.sparsify.plan import Plan
from nas.transforms.stages import Transform

__all__ = ["Plan", "sparsifying"]


def sparsifying(plan: Plan) -> Transform:
    """The transform that a plan names."""
    stages = channels if plan.pattern == "channels" else weights
    prepare = partial(stages.prepare, plan=plan)
    if plan.pattern == "channels" and plan.schedule.rounds == 0:  # all is done before training
        return Transform("sparsity", prepare)
    during, finish = partial(stages.during, plan=plan), partial(stages.finish, plan=plan)
    return Transform("sparsity", prepare, during, finish)
