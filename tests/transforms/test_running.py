"""A network that was looked at is what it was: its modes, its hooks, what it answers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas.transforms.running import evaluating, watched


def chain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 2))


def test_every_part_gets_its_own_mode_back() -> None:
    module = nn.Sequential(nn.Dropout(), nn.Dropout())
    module[0].eval()
    with evaluating(module):
        assert not module[1].training and torch.is_grad_enabled()
    assert [part.training for part in module] == [False, True]


def test_calls_are_told_in_order_and_what_is_said_to_them_changes_nothing() -> None:
    module, x = chain().train(), torch.ones(5, 3)
    plain = module.eval()(x)
    module.train()
    told: list[tuple[str, tuple[int, ...]]] = []

    def enters(path: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        told.append((f"{path} takes", tuple(inputs[0].shape)))
        return torch.zeros(())  # a hook of torch's own would put it in the input's place

    def leaves(path: str, layer: nn.Module, inputs: Any, named: Any, output: Tensor) -> Tensor:
        told.append((f"{path} makes", tuple(output.shape)))
        return torch.zeros(())

    layers = [(path, layer) for path, layer in module.named_children() if path != "1"]
    with watched(module, layers, enters, leaves):
        torch.testing.assert_close(module(x), plain, rtol=0, atol=0)
    assert told == [("0 takes", (5, 3)), ("0 makes", (5, 4)), ("2 takes", (5, 4)),
                    ("2 makes", (5, 2))]  # fmt: skip
    module(x)
    assert len(told) == 4 and module.training


def test_a_run_that_fails_leaves_no_hook_behind() -> None:
    module, told = chain().train(), []
    with (
        pytest.raises(RuntimeError),
        watched(module, module.named_children(), lambda path, *_: told.append(path)),
    ):
        module(torch.ones(5, 7))
    assert told == ["0"] and module.training
    module(torch.ones(5, 3))
    assert told == ["0"]
