"""A compressed file that is slower than its twin says so in one line, with the layers to blame."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from nas.api import twin
from nas.core.decision import Choice
from nas.core.measurement import Measurement
from nas.core.space import SearchSpace


def timing(value: float, half: float = 0.05) -> Measurement:
    return Measurement("latency_ms", value, "ms", value - half, value + half, half / 2, 9,
                       "measured", "trained file")  # fmt: skip


SHIPMENT = SimpleNamespace(
    written=SimpleNamespace(paths=(Path("own.onnx"),)), twin_files={"": Path("twin.onnx")}
)
LAYERS = {
    "own.onnx": {"stem": 0.5, "stages.0.mix": 1.5, "head": 0.2, "stages.0.cast": 0.3},
    "twin.onnx": {"stem": 0.6, "stages.0.mix": 0.4, "head": 0.1},
}


@pytest.fixture(autouse=True)
def layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin, "_layers", lambda shipment, path, ms: LAYERS[path.name])


def test_a_quicker_one_says_nothing() -> None:
    assert twin.slower(SHIPMENT, timing(1.0), timing(1.2)) is None


def test_the_layers_that_lose_most_are_named() -> None:
    found = twin.slower(SHIPMENT, timing(2.5), timing(1.1))
    assert found is not None and "\n" not in found["line"]
    assert found["line"] == (
        "compressed, and slower than its uncompressed twin: 2.5 ms against 1.1 ms; "
        "most is lost in stages.0.mix +1.1 ms, stages.0.cast +0.3 ms, head +0.1 ms"
    )
    assert found["layers"] == pytest.approx(
        {"stages.0.mix": 1.1, "stages.0.cast": 0.3, "head": 0.1}
    )


def test_what_intervals_do_not_tell_apart_is_only_perhaps_slower() -> None:
    found = twin.slower(SHIPMENT, timing(1.18, 0.1), timing(1.1))
    assert found is not None and "perhaps slower" in found["line"]
    assert twin.slower(SHIPMENT, timing(1.12), timing(1.1)) is None


def test_without_a_profile_no_layer_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin, "_layers", lambda shipment, path, ms: {})
    found = twin.slower(SHIPMENT, timing(2.5), timing(1.1))
    assert found is not None and found["line"].endswith("no layer of it could be told apart")


def test_a_point_that_no_axis_touched_has_no_twin() -> None:
    plain = SearchSpace("toy", [Choice("width", [4, 8])], build=lambda choices, task: None)
    spec = SimpleNamespace(space="toy")
    shipment = SimpleNamespace(
        searched=SimpleNamespace(spec=spec, space=plain), written=SimpleNamespace(format="onnx")
    )
    assert twin.twin_of(shipment) is None
    both = [Choice("width", [4, 8]), Choice("bitwidth.weights", ["no", "8"])]
    joint = SearchSpace("toy+bitwidth", both, build=lambda choices, task: None)
    shipment.searched = SimpleNamespace(spec=SimpleNamespace(space="toy+bitwidth"), space=joint)
    shipment.architecture = SimpleNamespace(choices={"width": 8, "bitwidth.weights": "no"})
    assert twin.twin_of(shipment) is None
