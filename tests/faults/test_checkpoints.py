"""What a training leaves in an object store, where the node that trains is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from audit import audit
from clusters import MARKS, Place, awaited, ended, errors, workers

from nas.core.errors import NasError
from nas.store.store import Store

pytestmark = MARKS
SPACE = '''
"""Networks small enough to train in seconds."""
from nas import Choice, SearchSpace

def build(choices, task):
    from torch import nn
    width = choices["width"]
    return nn.Sequential(nn.Conv2d(3, width, 3, stride=4), nn.BatchNorm2d(width), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, task.outputs))

space = SearchSpace("small", [Choice("width", [8, 16, 24, 32])], build)
'''
NODES = ("one", "two")


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Two nodes that have no folder of temporary files in common, and so no copies of files."""
    pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("NAS_LOCKS", str(tmp_path / "locks"))
    place = Place(tmp_path, nodes=0)
    try:
        for name in NODES:
            (tmp_path / name).mkdir()
            place.join(env_vars={"TMPDIR": str(tmp_path / name)})
        yield place
    finally:
        place.close()


def rungs(url: str) -> list[str]:
    """The checkpoints that were reported, in order."""
    try:
        with Store(url, read_only=True) as store:
            events = store.events("s")
    except NasError:
        return []  # it is not there yet
    return [e.payload["values"]["checkpoint"] for e in events if "rung" in e.payload]


def node_of(process: int, folder: Path) -> str | None:
    """The node that a process belongs to, by its folder of temporary files."""
    environment = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    return next((n for n in NODES if f"TMPDIR={folder / n}".encode() in environment), None)


def copies(folder: Path) -> set[str]:
    """The checkpoints and weights that a node has copies of."""
    return {path.name for path in folder.glob("nas-artifacts-*/*/*.safetensors")}


@pytest.mark.long
def test_a_training_begun_on_one_node_is_gone_on_with_by_another(
    apart: Place, url: str, tmp_path: Path
) -> None:
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "small.py").write_text(SPACE)
    objectives = "--objective accuracy --objective macs --promotion none --no-proxies"
    brief = "--space small --trials 2 --epochs 27 --max-concurrent 1"
    store = f"file://{tmp_path}/store"
    search = apart.nas_search(url, "s", *objectives.split(), *brief.split(), "--artifacts", store)
    first, *_ = awaited("a rung", lambda: rungs(url) or search.poll())
    [name] = {found for n in workers() if (found := node_of(n, tmp_path))}
    [other] = {*NODES} - {name}
    assert first in copies(tmp_path / name) and not copies(tmp_path / other)
    apart.leave(apart.nodes[NODES.index(name)])
    ended(search)
    # what the lost node left is what the other one went on from
    assert copies(tmp_path / name) & copies(tmp_path / other)
    assert {*rungs(url)} <= {path.name for path in (tmp_path / "store").iterdir()}
    assert errors(url, "s") == []
    assert audit(url, "s") == []
