"""A study goes on only where its files are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from example_trials import trial

from nas.api.searching import _within_reach
from nas.core.errors import NasError
from nas.store.artifacts import Artifacts


def test_one_file_that_is_not_there_is_enough_to_refuse_but_a_damaged_one_is_known(
    tmp_path: Path,
) -> None:
    artifacts = Artifacts(tmp_path)
    names = []
    for content in (b"one", b"two"):
        (tmp_path / "made.onnx").write_bytes(content)
        names.append(artifacts.put(tmp_path / "made.onnx"))
    trials = {n: trial(n, state="running", file=name) for n, name in enumerate(names)}
    search = SimpleNamespace(trials=trials, spec=SimpleNamespace(name="s"))
    _within_reach(search, artifacts)  # type: ignore[arg-type]
    (tmp_path / names[0]).write_bytes(b"another")
    assert not artifacts.sound(names[0])
    _within_reach(search, artifacts)  # type: ignore[arg-type]
    (tmp_path / names[1]).unlink()
    with pytest.raises(NasError, match="are not at") as caught:
        _within_reach(search, artifacts)  # type: ignore[arg-type]
    assert names[1] in str(caught.value)
