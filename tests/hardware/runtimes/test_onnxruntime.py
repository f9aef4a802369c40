import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from nas.core.errors import NasError
from nas.hardware.runtimes.onnxruntime import outputs, version


def by_hand(path, rows):
    """The chain of products in float64."""
    out = rows.astype(np.float64)
    for weight in onnx.load(path).graph.initializer:
        out = out @ numpy_helper.to_array(weight).astype(np.float64)
    return out


@pytest.mark.parametrize(
    ("name", "count", "batch"), [("small", 10, 4), ("small", 3, 64), ("fixed", 10, 64)]
)
def test_every_row_comes_out_once_in_order(files, name, count, batch):
    rows = np.random.default_rng(0).standard_normal((count, 64)).astype(np.float32)
    found = outputs(files[name], rows, batch=batch)
    assert found.shape == (count, 64)
    assert np.allclose(found, by_hand(files[name], rows), rtol=1e-4, atol=1e-5)


def test_files_that_do_not_run_are_named(files):
    rows = np.zeros((2, 64), np.float32)
    with pytest.raises(NasError, match=r"broken\.onnx does not run"):
        outputs(files["broken"], rows)
    with pytest.raises(NasError, match="does not run"):
        outputs(files["small"], np.zeros((2, 63), np.float32))
    assert version().startswith("onnxruntime 1.")
