"""What goes into a record's samples comes out of them, and nothing else does."""

from __future__ import annotations

import base64
import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.core.errors import NasError
from nas.hardware import samples
from nas.hardware.samples import SERIES, packed, unpacked

number = st.one_of(st.just(0.0), st.floats(1e-3, 1e9))


@given(st.lists(st.tuples(number, number, st.integers(0, 999), number), max_size=50))
def test_every_call_comes_back_to_five_figures(calls: list[tuple[float, ...]]) -> None:
    series = {name: [call[i] for call in calls] for i, name in enumerate(SERIES)}
    found = unpacked(json.loads(json.dumps(packed(series))))
    for name in SERIES:
        assert found[name] == pytest.approx(np.array(series[name]), rel=6e-5)
    assert found["passes"].tolist() == series["passes"]


def test_a_thousand_calls_take_a_few_kilobytes() -> None:
    rng = np.random.default_rng(0)
    refs = np.repeat(50 + rng.exponential(1, 63), 16)[:1000]
    calls = {"samples": 150 + rng.exponential(3, 1000), "refs": refs,
             "passes": np.arange(1000) // 50, "away": rng.exponential(1, 1000) // 3}  # fmt: skip
    assert len(json.dumps(packed(calls))) < 6000


def test_what_is_no_series_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = packed({name: [1.0, 2.0] for name in SERIES})
    cut = base64.b64encode(zlib.compress(b"\0" * 4000)[:-6]).decode()
    odd = base64.b64encode(zlib.compress(b"\0" * 7)).decode()
    for text in ("", "no base64!", base64.b64encode(b"no zlib").decode(), cut, odd):
        with pytest.raises(NasError, match="cannot be read"):
            unpacked({**whole, "refs": text})
    monkeypatch.setattr(samples, "MOST", 1 << 10)
    with pytest.raises(NasError, match="does not end"):
        unpacked({**whole, "away": base64.b64encode(zlib.compress(b"\0" * 4096)).decode()})
