"""Ranges of activations against numpy's own order, also where they are degenerate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_networks import Chain

from nas.transforms.quantize.file import quantize
from nas.transforms.quantize.plan import Plan
from nas.transforms.quantize.ranges import Tails, percentiles
from nas.transforms.quantize.static import prepared

numbers = st.floats(width=32, allow_subnormal=False) | st.just(0.0)


@given(st.lists(st.lists(numbers, max_size=9), max_size=5), st.integers(1, 4))
def test_tails_are_the_kth_values_from_both_ends(parts: list[list[float]], k: int) -> None:
    tails = Tails(k)
    for part in parts:
        tails.add(np.array(part, np.float32))
    kept = sorted(v for p in parts for v in np.array(p, np.float32).tolist() if np.isfinite(v))
    count = min(k, len(kept))
    assert tails.range == ((kept[count - 1], kept[-count]) if kept else (0.0, 0.0))


def network(folder: Path) -> Path:
    path = folder / "n.onnx"
    Chain(3, 8).conv(8, 3).op("Relu").conv(8, 3).op("GlobalAveragePool").op("Flatten").linear(
        10
    ).save(path)
    return path


def test_percentiles_hold_the_share_of_what_is_seen(tmp_path: Path) -> None:
    images = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)
    proto = prepared(network(tmp_path), tmp_path / "p.onnx")
    entry, batches = proto.graph.input[0].name, np.array_split(images, [16, 32])
    first = next(n for n in proto.graph.node if n.op_type == "Conv")
    given = [{entry: batch} for batch in batches]
    found = percentiles(proto, [*first.input[:1], *first.output], given, len(images), 0.99)
    low, high = found[entry]
    inside = np.mean((images >= low) & (images <= high))
    assert 0.99 <= inside < 0.991
    assert set(found) == {entry, first.output[0]} and found[first.output[0]][1] > 0


@pytest.mark.parametrize("first", [0.0, 1e-12, 1e-6, np.nan])
def test_a_first_batch_of_next_to_nothing_is_calibrated_like_any_other(
    first: float, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)
    images[:16] *= np.float32(first)
    plan = Plan(calibration="percentile")
    quantize(network(tmp_path), tmp_path / "q.onnx", plan, images)  # 40 are no whole batches of 16
    made = onnx.load(tmp_path / "q.onnx")
    assert "QuantizeLinear" in {node.op_type for node in made.graph.node}
    scales = [t for t in made.graph.initializer if t.name.endswith("_scale")]
    assert all(np.isfinite(onnx.numpy_helper.to_array(t)).all() for t in scales)
    assert not list(tmp_path.glob("*.ranges"))
