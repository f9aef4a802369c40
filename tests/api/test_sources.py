import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nas.api import planning, searching, sources
from nas.api.sources import unchanged
from nas.core.errors import NasError
from nas.store.store import Store

SPACE = """
from nas import Choice, SearchSpace, objective

def build(choices, task):
    raise AssertionError("nothing is built")

space = SearchSpace("thin", [Choice("width", [4, 8])], build)

@objective(unit="", goal="minimize", needs="choices")
def width(candidate):
    return candidate.choices["width"]
"""
RECIPE = """[search]
space = "thin"
"""


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A study that rests on a file of every kind, just begun."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "ownnet", raising=False)
    for folder in ("search_spaces", "hardware_profiles"):
        (tmp_path / folder).mkdir()
    (tmp_path / "search_spaces" / "thin.py").write_text(SPACE)
    (tmp_path / "hardware_profiles" / "mine.toml").write_text('kind = "cpu"\n')
    (tmp_path / "ownnet.py").write_text("def net(task):\n    return None\n")
    (tmp_path / "start.safetensors").write_bytes(b"weights")
    (tmp_path / "thin.toml").write_text(RECIPE)
    spec = planning.plan(
        "bitwidth", "mine", "digits", ["accuracy", "thin:width"], [], "random", "none", [], 4,
        None, 1, "one", 0, False, None, "ownnet:net", "start.safetensors",
    )  # fmt: skip
    return replace(spec, files={**spec.files, **sources.recipe("thin.toml")})


def test_a_study_that_rests_on_what_it_did_goes_on(begun):
    assert set(begun.files) == {
        "search_spaces/bitwidth.py", "hardware_profiles/mine.toml", "search_spaces/thin.py",
        f"{Path.cwd().name}/ownnet.py", "start.safetensors", f"{Path.cwd().name}/thin.toml",
    }  # fmt: skip
    assert unchanged(begun, sources.recipe("thin.toml"), False) == begun
    assert unchanged(replace(begun, files={}), {}, False).files  # of before files were recorded


@pytest.mark.parametrize(
    "name",
    ["search_spaces/thin.py", "hardware_profiles/mine.toml", "ownnet.py", "start.safetensors",
     "thin.toml"],
)  # fmt: skip
def test_a_file_that_changed_is_told_in_two_lines(begun, name):
    path = Path.cwd() / name
    path.write_bytes(path.read_bytes() + b"\n# another\n")
    also = sources.recipe("thin.toml")
    with pytest.raises(NasError) as refused:
        unchanged(begun, also, False)
    problem, hint = str(refused.value).splitlines()
    assert problem.startswith("changed since study 'one' began: ") and name in problem
    assert hint.strip().endswith("nas search --study one --resume --changed")
    accepted = unchanged(begun, also, True)
    assert accepted.files != begun.files and unchanged(accepted, also, False) == accepted


def test_a_file_that_is_gone_and_other_data_are_told_whatever_is_accepted(begun):
    Path("start.safetensors").unlink()
    with pytest.raises(NasError, match=r"the weights .*start.safetensors cannot be read"):
        unchanged(begun, {}, True)
    other = replace(begun, weights=None, task=replace(begun.task, digest="of others"))
    with pytest.raises(NasError, match="the data digits is not what study 'one' was begun with"):
        unchanged(other, {}, True)


def test_resuming_looks_before_it_claims_the_study(begun, tmp_path):
    url = f"sqlite:///{tmp_path}/nas.db"
    with Store(url) as store:
        store.create(begun)
    Path("search_spaces/thin.py").write_text(SPACE.replace("[4, 8]", "[4, 8, 16]"))
    for dry_run in (True, False):
        with pytest.raises(NasError, match=r"search_spaces/thin\.py"):
            searching.search(study="one", resume=True, dry_run=dry_run, storage=url)
    with Store(url) as store:
        assert store.spec("one") == begun and store.claim("one") == 1
