"""The range of each activation that a file's integers must hold, from examples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

INSIDE = 0.9999  # of the values seen; what is cut is shared by both ends
Floats = npt.NDArray[np.float32]


@dataclass
class Tails:
    """The `k` smallest and largest of the values seen, which may come in any number of parts.

    A histogram would need bins before the range is known: onnxruntime's keeps the width of its
    first ones, and where the first batch is all but zero the next one asks for petabytes.
    """

    k: int
    low: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    high: Floats = field(default_factory=lambda: np.zeros(0, np.float32))

    def add(self, values: Floats) -> None:
        """Takes more values in; those that are not finite say nothing of a range."""
        flat = values[np.isfinite(values)].ravel()
        low, high = np.append(self.low, flat), np.append(self.high, flat)
        k = self.k
        self.low = np.partition(low, k - 1)[:k] if len(low) > k else low
        self.high = np.partition(high, len(high) - k)[-k:] if len(high) > k else high

    @property
    def range(self) -> tuple[float, float]:
        """From the k-th smallest to the k-th largest value.

        >>> tails = Tails(2)
        >>> tails.add(np.array([5, 1, 9], np.float32)); tails.add(np.array([7, 3], np.float32))
        >>> tails.range
        (3.0, 7.0)
        """
        return (float(self.low.max()), float(self.high.min())) if len(self.low) else (0.0, 0.0)


def percentiles(
    proto: ModelProto,
    tensors: Sequence[str],
    batches: Iterable[Mapping[str, Any]],
    examples: int,
    inside: float = INSIDE,
) -> dict[str, tuple[float, float]]:
    """The range that holds the share `inside` of each tensor's values.

    Args:
        proto: with shapes. tensors: names in it. batches: inputs by name, of so many `examples`.
    """
    from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

    inputs = {value.name for value in proto.graph.input}
    own = {value.name for value in proto.graph.output}
    known = {value.name: value for value in proto.graph.value_info}
    shown = ModelProto()
    shown.CopyFrom(proto)
    shown.graph.output.extend(known[n] for n in tensors if n in known and n not in own)
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
    session = InferenceSession(shown.SerializeToString(), options, ["CPUExecutionProvider"])
    asked = [n for n in tensors if n in known or n in own]
    found: dict[str, Tails] = {}
    for batch in batches:
        values = dict(zip(asked, session.run(asked, dict(batch)), strict=True))
        values |= {n: batch[n] for n in tensors if n in inputs}
        rows = len(next(iter(batch.values())))
        for name, value in values.items():
            if value.dtype == np.float32:
                k = int(value.size // rows * examples * (1 - inside) / 2) + 1
                found.setdefault(name, Tails(k)).add(value)
    return {name: tails.range for name, tails in found.items()}
