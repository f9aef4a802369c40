from __future__ import annotations

import torch
from transforms.sparsify.conftest import examples, residual

from nas.transforms.sparsify.distortion import curves, flat


def test_curves_are_what_masking_does_and_leave_no_trace() -> None:
    module = residual().train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    half = (torch.arange(16) < 8).view(-1, 1, 1, 1)
    options = [
        lambda: {},
        lambda: {"stem.weight": half},
        lambda: {"stem.weight": torch.zeros(16, 1, 1, 1, dtype=torch.bool)},
    ]
    (found,) = curves(module, examples(8), [options])
    assert module.training and module.norm.training
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    by_hand = residual().eval()
    with torch.no_grad():
        plain = by_hand(examples(8))
        by_hand.stem.weight.mul_(half)
        masked = by_hand(examples(8))
    assert found[0] == 0 < found[1] < found[2]
    torch.testing.assert_close(torch.tensor(found[1]), (masked - plain).square().mean().double())


def test_an_output_is_all_its_tensors_and_nothing_else() -> None:
    output = {"boxes": [torch.ones(2, 2), 3], "scores": (torch.zeros(1), None, "name")}
    assert flat(output).tolist() == [1.0, 1.0, 1.0, 1.0, 0.0]
