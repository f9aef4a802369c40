"""Every command of the README does what it says, in a folder where nothing else is.

They run in the README's order, in this process, as a person would type them; a test that starts
further down first types what stands above it. What would take hours is made brief by options typed
after it: the first search is real, of a few trials, and the others are checked to the point where
they would begin (`--dry-run`). What names a machine that is nobody's here (an ssh host, a server of
PostgreSQL, a cluster) is only parsed.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIServer

import click
import numpy as np
import pytest
from PIL import Image
from readme import README, blocks, shown

from nas.cli.main import commands, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TEXT = README.read_text(encoding="utf-8")
ROOT = README.parent

BRIEF = {
    "replay": ["--trials", "6", "--seeds", "1"],
    "dashboard": ["--port", "0"],
    "train": ["--epochs", "1"],
}
FIRST = ["--trials", "2", "--epochs", "1", "--workers", "1", "--no-proxies"]
ELSEWHERE = re.compile(r"ssh://|postgresql|--runner ray|--address|s3://|tensorrt|hf:|cuda")
NETWORK = '''
from torch import nn


def net(task):
    """A network of one's own."""
    return nn.Sequential(nn.Conv2d(task.input[0], 8, 3, stride=4), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, task.outputs))
'''
TABLE = """
name = "toy"
data = "table.csv"
complete = true
source = "made up"
licence = "MIT"
[decisions]
kernel = [3, 5, 7]
width = [16, 32, 64]
[[objectives]]
name = "error"
columns = ["error"]
unit = "%"
goal = "minimize"
known = false
[[objectives]]
name = "latency_ms"
columns = ["latency_ms"]
unit = "ms"
goal = "minimize"
known = true
[[fidelities]]
epochs = 9
columns = ["error"]
[hypervolume]
reference = [60.0, 9.0]
"""


@dataclass
class World:
    """A folder with all that the README's commands name, and what they did there."""

    folder: Path
    searched: bool = False
    typed_so_far: int = 0

    def trial(self, study: str) -> str:
        """A trial of a study that was trained to its end."""
        from nas import Study

        complete = [t.number for t in Study(study).trials if t.trained]
        return str(complete[0])

    def typed(self, words: list[str]) -> list[str]:
        """The words to run: placeholders filled in, and what is long made brief."""
        name, *rest = words
        named = {"TABLE": "table", "STUDY": "largekernel-digits-cpu", "D": "a100"}
        rest = [named.get(word, word) for word in rest]
        if name == "search" and "--resume" not in rest:
            if self.searched:
                return [name, *rest, "--dry-run"]
            self.searched = True
            return [name, *rest, *FIRST]
        command = commands.get_command(click.Context(commands), name)
        given = [p.name for p in command.params if isinstance(p, click.Argument)] if command else []
        named_trial = given[:2] in (["study", "trial"], ["study", "trials"])
        if named_trial and len(rest) > 1 and not rest[1].startswith("-"):
            rest[1] = self.trial(rest[0])
        if name == "profile" and re.fullmatch(r"[\w.+-]+:\d+", rest[0]):
            study = rest[0].partition(":")[0]
            rest[0] = f"{study}:{self.trial(study)}"
        for i, word in enumerate(rest):
            if word == "--teacher":
                study = rest[i + 1].partition(":")[0]
                rest[i + 1] = f"{study}:{self.trial(study)}"
        for i, word in enumerate(rest):  # a folder must be new
            if word == "--output" and Path(rest[i + 1]).is_dir():
                shutil.rmtree(rest[i + 1])
        if name == "pick":  # the few trials of this search keep few limits
            rest = [re.sub(r"(<=|>=).*", lambda m: m[1] + ("1e9" if m[1] == "<=" else "0"), w)
                    for w in rest]  # fmt: skip
        return [name, *rest, *BRIEF.get(name, [])]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("NAS_STORAGE", raising=False)
        patch.setenv("COLUMNS", "80")
        patch.setattr(WSGIServer, "serve_forever", lambda self: None)
        patch.syspath_prepend(str(folder))
        (folder / "mine.py").write_text(NETWORK)
        _space(folder)
        _photos(folder / "photos.zip")
        _weights(folder / "net.safetensors")
        _table(folder / "table")
        rows = "".join(f"linear,{n},64,64,{n / 900:.4f}\n" for n in (64, 256, 1024, 4096))
        (folder / "measured.csv").write_text("op,m,n,k,latency_ms\n" + rows)
        for recipe in (ROOT / "studies").glob("*.toml"):
            (folder / "studies").mkdir(exist_ok=True)
            shutil.copy(recipe, folder / "studies")
        yield World(folder)
        sys.modules.pop("mine", None)


def _space(folder: Path) -> None:
    """The README's own space, where it shows one."""
    (folder / "search_spaces").mkdir()
    for block in blocks(TEXT, "python"):
        named = re.search(r'SearchSpace\("(\w+)"', block)
        if named:
            (folder / "search_spaces" / f"{named[1]}.py").write_text(block)


def _photos(path: Path) -> None:
    """Two classes of noise, in a zip of class folders."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("cats", "dogs"):
            for i in range(40):
                data = io.BytesIO()
                pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(data, "PNG")
                archive.writestr(f"{name}/{i}.png", data.getvalue())


def _weights(path: Path) -> None:
    """Weights of the network of one's own, for ten classes of 32 x 32 pixels."""
    import mine
    from safetensors.torch import save_file

    from nas.core.task import TaskSpec

    save_file(mine.net(TaskSpec("digits", (3, 32, 32), 10)).state_dict(), str(path))


def _table(folder: Path) -> None:
    folder.mkdir()
    (folder / "table.toml").write_text(TABLE)
    rows = [f"{k},{w},{60 - 5 * k / 7 - w / 4:.2f},{k * w / 60:.3f}"
            for k in (3, 5, 7) for w in (16, 32, 64)]  # fmt: skip
    (folder / "table.csv").write_text("kernel,width,error,latency_ms\n" + "\n".join(rows) + "\n")


COMMANDS = [words for words in shown(TEXT) if words and not words[0].startswith("-")]


def elsewhere(words: list[str]) -> bool:
    return ELSEWHERE.search(" ".join(words)) is not None


def type_up_to(position: int, world: World) -> None:
    """Types the commands that stand above a position and were not typed in this process yet."""
    for words in COMMANDS[world.typed_so_far : position]:
        if not elsewhere(words):
            run(world.typed(words))
    world.typed_so_far = max(world.typed_so_far, position)


@pytest.mark.parametrize("at", range(len(COMMANDS)), ids=[" ".join(w)[:90] for w in COMMANDS])
def test_a_command_does_what_it_says(
    at: int, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    if elsewhere(COMMANDS[at]):
        pytest.skip("it names a machine or a data set that is not here; tests/cli parses it")
    type_up_to(at, world)
    capsys.readouterr()
    typed = world.typed(COMMANDS[at])
    world.typed_so_far = at + 1
    code = run(typed)
    said = capsys.readouterr()
    assert code == 0, f"nas {' '.join(typed)}: {said.err}"
    assert said.out
    if "--json" in typed:
        json.loads(said.out)
    for i, word in enumerate(typed):
        if word in ("--output", "--plot"):
            assert Path(typed[i + 1]).exists()


def test_the_python_of_the_readme_runs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block that calls `nas.`, its searches made brief; they reuse what was trained above."""
    type_up_to(len(COMMANDS), world)
    ran = 0
    for block in blocks(TEXT, "python"):
        if not re.search(r"^\w*\s*=?\s*nas\.|^import nas$", block, re.MULTILINE):
            continue
        brief = re.sub(r"trials=\d+", "trials=2, epochs=1, workers=1, proxies=False", block)
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(brief, "README.md", "exec"), names)
        ran += 1
    assert ran


def test_scripts_that_the_readme_names_are_there() -> None:
    for path in re.findall(r"python ((?:benchmarks|studies)/[\w/]+\.py)", TEXT):
        assert (ROOT / path).is_file(), path
    for path in re.findall(r"`((?:benchmarks|studies)/[\w./-]+\.\w+)`", TEXT):
        if not path.endswith((".db", "RECIPE.toml")):
            assert (ROOT / path).is_file(), path
