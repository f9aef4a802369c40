import numpy as np
import onnx
import pytest

from nas.hardware.anchors import layers, write_anchors
from nas.hardware.runtimes import Runtime, opened, parse


def rows():
    return np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)


def test_anchors_are_small_deterministic_and_run(tmp_path):
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        assert [p.stem for p in write_anchors(folder)] == ["dense", "depthwise"]
    for name in ("dense.onnx", "depthwise.onnx"):
        one, two = ((tmp_path / f / name).read_bytes() for f in "ab")
        assert one == two and len(one) < 100_000
        onnx.checker.check_model(onnx.load_from_string(one), full_check=True)
        found = opened(tmp_path / "a" / name, Runtime("onnxruntime"))(rows())
        assert found.shape[0] == 2 and np.isfinite(found).all() and found.std() > 0


@pytest.mark.parametrize(
    ("text", "tolerance"),
    [("torch", 1e-5), ("torch:channels_last", 1e-5), ("torch:bf16", 2e-2), ("openvino", 1e-5)],
)
def test_anchors_are_the_same_functions_in_every_runtime(tmp_path, text, tolerance):
    engine = parse(text, "cpu")
    pytest.importorskip(engine.name)
    for plain, other in zip(write_anchors(tmp_path), write_anchors(tmp_path, engine), strict=True):
        expected = opened(plain, Runtime("onnxruntime"))(rows())
        found = opened(other, engine)(rows())
        assert other.suffix == engine.suffix and found.shape == expected.shape
        assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def test_one_is_dense_and_one_is_depthwise():
    assert {layer.groups for layer in layers("dense")} == {1}
    deep = [layer for layer in layers("depthwise") if layer.groups > 1]
    assert len(deep) == 3 and all(layer.weight.shape[1:] == (1, 7, 7) for layer in deep)
