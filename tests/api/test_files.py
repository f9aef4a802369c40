"""A trial's file is what was stored; what was removed is made again, to the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas import api
from nas.api.files import file_of
from nas.core.errors import NasError
from nas.core.study import StudySpec
from nas.core.trial import Trial
from nas.hardware.device import named
from nas.store.artifacts import Artifacts
from nas.store.store import Store

SPACE = '''"""One layer."""
from nas import Choice, SearchSpace

def build(choices, task):
    from torch import nn
    width = choices["width"]
    return nn.Sequential(
        nn.Conv2d(task.input[0], width, 3, stride=2, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, task.outputs))

space = SearchSpace("tiny", [Choice("width", [4, 8])], build)
'''


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished search of one trial, run for real."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "search_spaces").mkdir()
    (folder / "search_spaces" / "tiny.py").write_text(SPACE)
    (folder / "hardware_profiles").mkdir()
    board = 'title = "as torch runs it"\nkind = "cpu"\nruntime = "torch"\n'
    (folder / "hardware_profiles" / "board.toml").write_text(board)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("NAS_STORAGE", raising=False)
        api.search(space="tiny", objectives=("accuracy", "macs"), trials=1, epochs=1,
                   runner="inline", study="tiny")  # fmt: skip
    return folder


@pytest.fixture
def found(searched: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[StudySpec, Artifacts, Trial]:
    monkeypatch.chdir(searched)
    with Store(f"sqlite:///{searched}/studies/nas.db", read_only=True) as store:
        (trial,) = store.trials("tiny")
        return store.spec("tiny"), Artifacts(searched / "studies" / "artifacts"), trial


Found = tuple[StudySpec, Artifacts, Trial]


@pytest.mark.slow
def test_a_stored_file_is_taken_as_it_is(found: Found) -> None:
    spec, artifacts, trial = found
    for device in ("cpu", "a100"):
        path, build = file_of(spec, artifacts, trial, named(device))
        assert (path.name, build) == (trial.trained[0].file, trial.build)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "h100"])
def test_a_removed_file_is_made_again_of_the_same_bytes(found: Found, device: str) -> None:
    spec, artifacts, trial = found
    stored = artifacts.path(trial.trained[0].file)
    before = stored.read_bytes()
    stored.unlink()
    path, build = file_of(spec, artifacts, trial, named(device))
    assert (path, build) == (stored, trial.build) and path.read_bytes() == before


@pytest.mark.slow
def test_a_device_of_another_runtime_gets_a_file_of_its_own(found: Found) -> None:
    spec, artifacts, trial = found
    path, build = file_of(spec, artifacts, trial, named("board"))
    assert path.suffix == ".pt2" and build != trial.build
    assert path.parent == artifacts.folder


@pytest.mark.slow
def test_without_file_and_weights_there_is_nothing_to_time(found: Found) -> None:
    spec, artifacts, trial = found
    lost = [artifacts.path(trial.trained[0].file),
            *(artifacts.path(r.checkpoint) for r in trial.rungs if r.checkpoint)]  # fmt: skip
    kept = {path: path.read_bytes() for path in lost if path.exists()}
    for path in kept:
        path.unlink()
    try:
        with pytest.raises(NasError, match="the weights of trial 0 are not in"):
            file_of(spec, artifacts, trial, named("cpu"))
        failed = api.retarget("tiny", "a100").failed
        assert "the weights of trial 0" in failed[0]
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


@pytest.mark.slow
def test_a_changed_space_is_noticed(found: Found, searched: Path) -> None:
    spec, artifacts, trial = found
    file = searched / "search_spaces" / "tiny.py"
    stored = artifacts.path(trial.trained[0].file)
    before = stored.read_bytes()
    stored.unlink()
    file.write_text(SPACE.replace("nn.ReLU()", "nn.GELU()"))
    try:
        with pytest.raises(NasError, match="now build another network"):
            file_of(spec, artifacts, trial, named("cpu"))
    finally:
        file.write_text(SPACE)
        stored.write_bytes(before)
