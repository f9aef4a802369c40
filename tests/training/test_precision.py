"""bfloat16: asked for, measured, or left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from nas.core.errors import NasError
from nas.networks.largekernel import choice, kept
from nas.training import precision
from nas.training.recipe import Recipe

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_float32_goes_without_saying() -> None:
    assert "precision" not in Recipe().to_json()
    lower = Recipe(precision="bfloat16")
    assert Recipe.from_json(lower.to_json()) == lower
    with pytest.raises(NasError, match="no precision named 'fp8'"):
        Recipe(precision="fp8")


def test_what_is_asked_for_is_not_measured() -> None:
    assert precision.lowered("bfloat16", CPU, (16, 3, 32, 32))
    assert not precision.lowered("float32", CPU, (16, 3, 32, 32))
    assert not precision.lowered("fastest", CPU, (16, 40))
    assert not kept.path().exists()


@pytest.mark.parametrize(("speedup", "lower"), [(1.5, True), (1.1, False)])
def test_the_fastest_is_measured_once(
    monkeypatch: pytest.MonkeyPatch, speedup: float, lower: bool
) -> None:
    calls = []
    monkeypatch.setattr(precision, "_speedup", lambda *a: calls.append(a) or speedup)
    for _ in range(2):
        assert precision.lowered("fastest", CPU, (16, 3, 32, 32)) is lower
    assert calls == [(CPU, 16, 16)]


def test_a_block_is_really_timed(one_thread: None) -> None:
    """By one thread, whose own time is taken: what else the machine does is not in it."""
    torch.manual_seed(1)
    wanted = torch.rand(2)
    torch.manual_seed(1)
    assert 0.05 < precision._speedup(CPU, 2, 2) < 20
    assert torch.equal(torch.rand(2), wanted)


def test_what_is_measured_may_measure_in_its_turn(
    monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    """The block has a layer whose way is measured too, where nothing is known of it yet."""
    monkeypatch.delenv("NAS_LARGEKERNEL", raising=False)
    monkeypatch.setattr(choice, "_chosen", {})
    precision.lowered("fastest", CPU, (16, 3, 32, 32))
    held = json.loads(kept.path().read_text())
    assert sum(name.startswith("bfloat16") for name in held) == 1 and len(held) > 1


def test_outputs_are_float32_again() -> None:
    layer = nn.Linear(4, 3)
    with precision.within(True, CPU):
        output = layer(torch.ones(2, 4))
    assert output.dtype == torch.bfloat16
    assert precision.widened(output).dtype == torch.float32
    both = precision.widened({"a": output, "b": [output, 3]})
    assert both["a"].dtype == both["b"][0].dtype == torch.float32 and both["b"][1] == 3
