"""The choice: measured once, the same in every process, forced where asked."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from nas.core.errors import NasError
from nas.networks.largekernel import choice, kept
from nas.networks.largekernel.geometry import Geometry
from nas.networks.largekernel.passes import METHODS, Choice
from nas.networks.mixers.depthwise import Depthwise

CPU = torch.device("cpu")
SHAPE = Geometry(8, 16, (16, 16), (31, 31))
WAYS = ("forward", "input", "weight")


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and choices that are measured."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("NAS_LARGEKERNEL", raising=False)
    monkeypatch.setattr(choice, "_chosen", {})
    return tmp_path


def maps(geometry: Geometry) -> torch.Tensor:
    x = torch.randn(geometry.batch, geometry.channels, *geometry.size)
    return x.contiguous(memory_format=torch.channels_last)


def test_a_shape_is_measured_once_and_then_read(
    measuring: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    real = choice.measured
    monkeypatch.setattr(choice, "measured", lambda *a: calls.append(a) or real(*a))
    first = choice.choose(maps(SHAPE), SHAPE)
    monkeypatch.setattr(choice, "_chosen", {})
    monkeypatch.setattr(kept, "_known", {})
    assert choice.choose(maps(SHAPE), SHAPE) == first
    assert len(calls) == 1
    [(name, value)] = json.loads(kept.path().read_text()).items()
    assert value == {"forward": first.forward, "input": first.input, "weight": first.weight}
    assert "31x31" in name and "8x16x16x16" in name and torch.__version__ in name


def test_another_process_takes_the_same(measuring: Path) -> None:
    name = choice._name(choice._rounded(SHAPE), CPU, torch.float32, True)
    kept.path().parent.mkdir(parents=True, exist_ok=True)
    kept.path().write_text(
        json.dumps({name: {"forward": "toeplitz", "input": "fft", "weight": "fft"}})
    )
    program = (
        "import torch; torch.set_num_threads(1)\n"
        "from nas.networks.largekernel.choice import choose\n"
        "from nas.networks.largekernel.geometry import Geometry\n"
        "x = torch.zeros(8, 16, 16, 16).contiguous(memory_format=torch.channels_last)\n"
        "print(choose(x, Geometry(8, 16, (16, 16), (31, 31))))\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert said.strip() == str(Choice("toeplitz", "fft", "fft"))


def test_a_broken_file_is_replaced(measuring: Path) -> None:
    kept.path().parent.mkdir(parents=True, exist_ok=True)
    kept.path().write_text("{no json")
    choice.choose(maps(SHAPE), SHAPE)
    assert len(json.loads(kept.path().read_text())) == 1


def test_without_a_place_to_keep_it_the_rule_decides(
    measuring: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = measuring / "file"
    file.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))  # no folder can be made in a file
    assert choice.choose(maps(SHAPE), SHAPE) == choice.by_rule(SHAPE, CPU, torch.float32)


def test_small_convolutions_are_not_measured(measuring: Path) -> None:
    small = Geometry(2, 2, (4, 4), (3, 3))
    assert choice.choose(maps(small), small) == Choice(*["native"] * 3)  # one call
    assert not kept.path().exists()


@pytest.mark.parametrize("value", [None, {"forward": "fft"}, dict.fromkeys(WAYS, "winograd")])
def test_what_no_method_is_named_by_is_measured_anew(measuring: Path, value: object) -> None:
    name = choice._name(choice._rounded(SHAPE), CPU, torch.float32, True)
    kept.path().parent.mkdir(parents=True, exist_ok=True)
    kept.path().write_text(json.dumps({name: value}))
    found = asdict(choice.choose(maps(SHAPE), SHAPE))
    assert set(found.values()) <= set(METHODS)
    assert json.loads(kept.path().read_text()) == {name: found}


def test_a_method_that_fails_here_is_left_to_others_and_the_log_says_why(
    measuring: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("there is no compiler\nsearched in many folders")

    monkeypatch.setattr(type(METHODS["fft"]), "forward", fails)
    found = choice.choose(maps(SHAPE), SHAPE)
    assert found.forward != "fft"
    said = [record.getMessage() for record in caplog.records]
    assert said == ["a convolution is left to other ways, fft fails here: there is no compiler"]


def test_counting_operators_measures_nothing(measuring: Path) -> None:
    layer, x = Depthwise(16, 31), maps(SHAPE)
    counted = []
    for _ in range(2):
        with FlopCounterMode(display=False) as counter:
            layer(x)
        counted.append(counter.get_total_flops())
    with FakeTensorMode():
        Depthwise(16, 31)(torch.randn(8, 16, 16, 16))
    assert counted[0] == counted[1] > 0
    assert not kept.path().exists()


def test_what_is_forced_is_taken_where_it_applies(
    measuring: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with choice.forced("stripes"):
        assert choice.choose(maps(SHAPE), SHAPE).forward != "stripes"  # 31 rows are too many
        with choice.forced("fft"):
            assert choice.choose(maps(SHAPE), SHAPE) == Choice("fft", "fft", "fft")
    monkeypatch.setenv("NAS_LARGEKERNEL", "toeplitz")
    assert choice.choose(maps(SHAPE), SHAPE) == Choice(*["toeplitz"] * 3)
    monkeypatch.setenv("NAS_LARGEKERNEL", "fast")
    with pytest.raises(NasError, match="no way to convolve named 'fast'"):
        choice.choose(maps(SHAPE), SHAPE)


def test_measuring_leaves_random_numbers_alone(measuring: Path) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    x = torch.ones(8, 16, 16, 16)
    choice.choose(x, SHAPE)
    assert kept.path().exists()
    assert torch.equal(torch.rand(3), wanted)


def test_the_rule_knows_small_maps_from_large_ones() -> None:
    at = torch.float32
    assert choice.by_rule(Geometry(16, 64, (56, 56), (51, 51)), CPU, at).forward == "fft"
    assert choice.by_rule(Geometry(16, 64, (16, 16), (7, 7)), CPU, at).forward == "direct"
