import onnx

from nas.hardware.anchors import write_anchors
from nas.hardware.runtimes.onnxruntime import outputs


def test_anchors_are_small_deterministic_and_run(tmp_path):
    import numpy as np

    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        assert [p.stem for p in write_anchors(folder)] == ["dense", "depthwise"]
    for name in ("dense.onnx", "depthwise.onnx"):
        one, two = ((tmp_path / f / name).read_bytes() for f in "ab")
        assert one == two and len(one) < 100_000
        onnx.checker.check_model(onnx.load_from_string(one), full_check=True)
        rows = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
        found = outputs(tmp_path / "a" / name, rows)
        assert found.shape[0] == 2 and np.isfinite(found).all() and found.std() > 0
