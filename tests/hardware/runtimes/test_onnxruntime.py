import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from nas.core.errors import NasError
from nas.hardware.runtimes import Runtime, opened

ENGINES = [Runtime("onnxruntime"), Runtime("openvino")]


def by_hand(path, rows):
    """The chain of products in float64."""
    out = rows.astype(np.float64)
    for weight in onnx.load(path).graph.initializer:
        out = out @ numpy_helper.to_array(weight).astype(np.float64)
    return out


@pytest.fixture(params=ENGINES, ids=str)
def engine(request):
    pytest.importorskip(request.param.name)
    return request.param


@pytest.mark.parametrize(
    ("name", "count", "batch"), [("small", 10, 4), ("small", 3, 64), ("fixed", 10, 64)]
)
def test_every_row_comes_out_once_in_order(engine, files, name, count, batch):
    rows = np.random.default_rng(0).standard_normal((count, 64)).astype(np.float32)
    found = opened(files[name], engine)(rows, batch)
    assert found.shape == (count, 64)
    assert np.allclose(found, by_hand(files[name], rows), rtol=1e-4, atol=1e-5)


def test_files_that_do_not_run_are_named(engine, files):
    with pytest.raises(NasError, match=rf"broken\.onnx does not run under {engine.name} \d"):
        opened(files["broken"], engine)
    with pytest.raises(NasError, match=r"does not run(.|\n)*shape \(63,\)"):
        opened(files["small"], engine)(np.zeros((2, 63), np.float32))
