"""A worker that counts: what the build counts, and nothing of what cannot be built."""

from dataclasses import replace

import numpy as np
import pytest

from nas.api.planning import plan
from nas.catalog import load_space
from nas.core.architecture import Architecture
from nas.hardware.counting import count
from nas.runners.counter import Counter
from nas.transforms.fold import fold


@pytest.mark.slow
def test_what_it_counts_is_what_a_build_counts_and_a_lost_worker_costs_one_network(tmp_path):
    spec = plan(
        "largekernel", "cpu", "digits", (), (), "surrogate", "halving", (), 4, None, None, None,
        0, False,
    )  # fmt: skip
    space = load_space("largekernel").at(spec.task)
    rng = np.random.default_rng(4)
    chosen = [space.sample_sized(rng, size) for size in (0.1, 0.3)]
    broken = Architecture("largekernel", {"stem.kind": "patch"})
    counter = Counter(replace(spec, name="counted"), str(tmp_path))
    try:
        found = counter([chosen[0], broken, chosen[1]])
        for architecture, counts in zip(chosen, (found[0], found[2]), strict=True):
            built = count(fold(space.build(architecture.choices, spec.task), spec.task.input)[0],
                          spec.task.input)  # fmt: skip
            assert counts == {"macs": built.macs}
        assert found[1] == {}
        counter._worker.process.kill()
        other = space.sample_sized(rng, 0.2)
        assert counter([other, chosen[0]]) == [{}, found[0]]
        assert counter._worker is None
    finally:
        counter.close()
