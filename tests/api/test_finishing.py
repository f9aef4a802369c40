"""Points trained to their end by Ray: the same bytes as one process makes, whoever is killed."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest

from nas import api

SPACE = """
from nas import Choice, SearchSpace

def build(choices, task):
    from torch import nn
    width = choices["width"]
    return nn.Sequential(nn.Conv2d(task.input[0], width, 3, stride=4), nn.BatchNorm2d(width),
                         nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(width, task.outputs))

space = SearchSpace("thin", [Choice("width", [4, 8])], build,
                    presets={"narrow": {"width": 4}, "wide": {"width": 8}})
"""


class Killing:
    """Once every training has begun, ends all workers below a folder, as a full memory would."""

    def __init__(self, folder: Path, trainings: int) -> None:
        self.folder, self.trainings = folder, trainings
        self.seen: list[tuple[str, int]] = []
        self.killed = 0

    def on(self, what: str, done: int, total: int) -> None:
        self.seen.append((what, done))
        if not self.killed and len({name for name, _ in self.seen}) == self.trainings:
            for process in self.workers():
                os.kill(process, signal.SIGKILL)
                self.killed += 1

    def workers(self) -> list[int]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                mine = (process / "cwd").resolve() == self.folder
                words = (process / "cmdline").read_text()
            except OSError:  # it ended meanwhile, or is not ours to look at
                continue
            if mine and "nas.runners.worker" in words:
                found.append(int(process.name))
        return found


@pytest.mark.long
@pytest.mark.timeout(900)  # three loads of torch, on a machine that may have much else to do
def test_ray_trains_several_points_to_the_bytes_that_one_process_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "thin.py").write_text(SPACE)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))  # and so locks of its own
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NAS_STORAGE", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "local")  # not the cluster of other tests of this machine
    api.search(
        space="thin", objectives=["accuracy", "macs"], presets=["narrow", "wide"], trials=2,
        epochs=1, runner="inline", study="few", proxies=False,
    )  # fmt: skip
    watch = Killing(tmp_path, trainings=2)
    given = {"epochs": 3, "precision": "float32"}
    found = api.train("few", [0, 1], runner="ray", workers=2, resources=("cpu=1",), watch=watch,
                      **given)  # fmt: skip
    assert watch.killed and not found["failed"]
    assert watch.seen.count(("trial 0", 3)) == watch.seen.count(("trial 1", 3)) == 1
    here = api.train("few", [0, 1], runner="inline", **given)
    rows = [(r["trial"], r["epochs"], r["weights"], r["file"]) for r in found["trained"]]
    assert rows == [(r["trial"], r["epochs"], r["weights"], r["file"]) for r in here["trained"]]
