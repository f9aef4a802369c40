"""Networks drawn at random from the space `largekernel`, folded and exported; and their int8 form.

A sample is named by its seed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nas.catalog import load_space
from nas.core.architecture import Architecture
from nas.core.space import SearchSpace
from nas.core.task import TaskSpec

SIDES = (32, 48, 64, 32)
LARGEST = 31  # kernel


@functools.cache
def _space(side: int) -> tuple[SearchSpace, TaskSpec]:
    task = TaskSpec("digits", (3, side, side), 10)
    return load_space("largekernel").at(task), task


def draw(seed: int) -> Iterator[tuple[int, Architecture]]:
    """Side and architecture of one network after the other, kernels 3 to 31."""
    rng = np.random.default_rng(seed)
    place = 0
    while True:
        side = SIDES[place % len(SIDES)]
        found = _space(side)[0].sample(rng)
        kernels = [int(v) for name, v in found.choices.items() if name.endswith(".kernel")]
        if max(kernels, default=0) <= LARGEST:
            place += 1
            yield side, found


def exported(folder: Path, count: int, seed: int) -> list[Path]:
    """The first `count` networks of a sample as ONNX files; those that are there are kept."""
    paths: list[Path] = []
    for side, found in itertools.islice(draw(seed), count):
        paths.append(folder / f"{seed}-{len(paths):03d}.onnx")
        _export(*_space(side), found, paths[-1], len(paths) - 1)
    return paths


def published(folder: Path, names: Sequence[str], side: int) -> list[Path]:
    """Published networks of the space on images of `side` pixels, in the same way."""
    paths = [folder / f"{name}-{side}.onnx" for name in names]
    space, task = _space(side)
    for name, path in zip(names, paths, strict=True):
        _export(space, task, space.preset(name), path, 0)
    return paths


def _export(space: SearchSpace, task: TaskSpec, found: Architecture, path: Path, seed: int) -> None:
    import torch

    from nas.deploy.export import export
    from nas.transforms.fold import fold

    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    module, _ = fold(space.build(found.choices, task), task.input)
    # A file is there whole or not at all, whatever ends this process.
    part = path.with_suffix(".new")
    export(module, task.input, part)
    part.rename(path)


def quantized(paths: Sequence[Path], folder: Path) -> list[Path]:
    """The networks in int8: static QDQ, unsigned activations, signed weights by channel."""
    import onnx
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Images(CalibrationDataReader):
        """Two images of noise: the ranges decide values, not which kernels run."""

        def __init__(self, side: int) -> None:
            shape = (1, 3, side, side)
            drawn = [np.random.default_rng(i).standard_normal(shape) for i in range(2)]
            self.left = iter([{"input": image.astype(np.float32)} for image in drawn])

        def get_next(self) -> dict[str, Any] | None:
            return next(self.left, None)

    onnxruntime.set_default_logger_severity(3)
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for path in paths:
        target = folder / path.name
        found.append(target)
        if not target.exists():
            shape = onnx.load(path).graph.input[0].type.tensor_type.shape
            part = target.with_suffix(".new")
            quantize_static(
                str(path), str(part), Images(shape.dim[2].dim_value),
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True,
            )  # fmt: skip
            part.rename(target)
    return found
