"""Every call that a session timed, in a few bytes: anybody can work the number out anew.

A record has them as text: `numpy` arrays of 32-bit floats to five figures, by zlib, in base64:
seven kilobytes for a thousand calls with their references, fifty for the most that a session makes.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nas.core.errors import NasError
from nas.core.pareto import Array

SERIES = ("samples", "refs", "passes", "away")  # what an agent says of each call
MOST = 1 << 24  # bytes of one series, unpacked: hundreds of times what a session times


def packed(result: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """The series of a session's calls as text.

    >>> calls = {"samples": [152.3, 150.1], "refs": [50, 50], "passes": [0, 1], "away": [0, 0]}
    >>> unpacked(packed(calls))["samples"].round(1).tolist()
    [152.3, 150.1]
    """
    return {name: _text(np.asarray(result[name], dtype=np.float64)) for name in SERIES}


def unpacked(found: Mapping[str, Any]) -> dict[str, Array]:
    """The series of a record's session, `(N,)` each, in the order of the calls.

    `samples` are microseconds of a call, `refs` of the slower reference run beside it, `passes` the
    pass it belongs to, `away` the microseconds for which another process had the core
    (`nas.hardware.agent.estimates.estimate` makes the number of them).

    Raises: NasError for text that is not such a series.
    """
    return {name: _array(found[name]) for name in SERIES}


def _text(values: Array) -> str:
    size = np.floor(np.log10(np.maximum(np.abs(values), 1e-9)))
    unit = 10.0 ** (size - 4)  # five figures: a hundred times finer than any interval here
    short = (np.round(values / unit) * unit).astype("<f4")
    return base64.b64encode(zlib.compress(short.tobytes(), 9)).decode()


def _array(text: str) -> Array:
    unpack = zlib.decompressobj()
    try:
        data = unpack.decompress(base64.b64decode(text, validate=True), MOST)
        if unpack.unconsumed_tail or not unpack.eof:
            raise ValueError("it does not end")
        return np.frombuffer(data, dtype="<f4").astype(np.float64)
    except (ValueError, zlib.error) as error:
        raise NasError(
            f"the samples of this record cannot be read: {error}",
            "measure it again: nas profile STUDY:TRIAL --device D",
        ) from None
