import numpy as np
import pytest

from nas.hardware.agent.inputs import random_input


class Spec:
    def __init__(self, shape, kind="tensor(float)"):
        self.name, self.shape, self.type = "x", shape, kind


def test_inputs_are_random_fixed_and_never_zero():
    task = {"batch": 2, "resolution": 8, "seed": 3}
    spec = Spec(["n", 3, "h", "w"])
    one, two = (random_input(spec, task, np.random.default_rng(3)) for _ in range(2))
    assert one.shape == (2, 3, 8, 8) and one.dtype == np.float32
    assert np.array_equal(one, two) and np.all(one != 0)
    ids = random_input(Spec(["n", 5], "tensor(int64)"), task, np.random.default_rng(0))
    assert ids.dtype == np.int64 and ids.min() > 0


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (Spec([4, 3, 8, 8]), "fixed at batch 4"),
        (Spec(["n", 3, 32, 32]), "not side 8"),
        (Spec(["n", "c", 8, 8]), "free dimension 'c'"),
        (Spec(["n", 3], "tensor(string)"), "tensor\\(string\\)"),
    ],
)
def test_a_file_that_contradicts_the_job_says_how(spec, reason):
    task = {"batch": 2, "resolution": 8, "seed": 0}
    with pytest.raises(ValueError, match=reason):
        random_input(spec, task, np.random.default_rng(0))
