"""Random inputs: the same numbers in every process."""

from __future__ import annotations

from typing import Any

import numpy as np

INPUTS = 20261121  # seed of every input
Array = np.ndarray[Any, np.dtype[Any]]
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


def random_input(spec: Any, job: dict[str, Any], rng: np.random.Generator) -> Array:
    """Normal random numbers of an input's shape, never zeros (zeros run faster than data).

    The first free dimension is the batch, later ones the resolution. Raises: ValueError where the
    file's fixed shape contradicts the job.
    """
    shape: list[int] = []
    for place, size in enumerate(spec.shape):
        asked = job["batch"] if place == 0 else job["resolution"] if place >= 2 else None
        if isinstance(size, int) and place != 0 and asked not in (None, size):
            raise ValueError(f"input {spec.name!r} is fixed at {spec.shape}, not side {asked}")
        if isinstance(size, int) and place == 0 and size != asked:
            raise ValueError(f"input {spec.name!r} is fixed at batch {size}, not {asked}")
        if not isinstance(size, int) and asked is None:
            raise ValueError(f"input {spec.name!r} has a free dimension {size!r} in {spec.shape}")
        shape.append(size if isinstance(size, int) else int(asked or 1))
    if spec.type in TYPES:
        return rng.standard_normal(shape).astype(TYPES[spec.type])
    if spec.type in ("tensor(int64)", "tensor(int32)", "tensor(uint8)", "tensor(int8)"):
        return rng.integers(1, 100, shape).astype(spec.type[7:-1])
    raise ValueError(f"input {spec.name!r} has type {spec.type}, which no random input is made for")
