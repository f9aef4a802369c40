"""A search hands its objectives to the strategy with the one first that trainings report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nas.api import searching
from nas.core.objective import Objective

THIN = """
from nas import Choice, SearchSpace, objective

space = SearchSpace("thin", [Choice("width", [4, 8])], build=lambda choices, task: None)

@objective(unit="1", goal="minimize", needs="trained")
def doubt(candidate):
    return 0.0
"""


def test_an_objective_of_ones_own_that_needs_training_comes_after_the_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asked(Exception):
        """Ends the search where it would begin."""

    def create(name: str, space: Any, objectives: Sequence[Objective], *rest: Any, **more: Any):
        raise Asked([o.name.rpartition(":")[2] for o in objectives])

    monkeypatch.chdir(tmp_path)
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "thin.py").write_text(THIN)
    monkeypatch.setattr(searching, "create", create)
    wanted = ["thin:doubt", "macs", "accuracy"]
    url = f"sqlite:///{tmp_path}/nas.db"
    with pytest.raises(Asked) as asked:
        searching.search(space="thin", objectives=wanted, runner="inline", storage=url)
    assert asked.value.args == (["macs", "accuracy", "doubt"],)
