"""Peers on tables with gaps: they are told of a row as of that row, whatever they asked for."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nas.core.architecture import Architecture
from nas.core.decision import Choice
from nas.core.objective import Objective
from nas.core.space import SearchSpace
from nas.core.trial import History, Proposal
from nas.runners.replay import Oracle, Replay
from nas.runners.table import Table
from nas.strategies.choose import create

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
WIDTHS = np.arange(0, 40, 2)


@pytest.fixture
def rivals(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, as a script beside it would import it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("rivals")


def table() -> Table:
    """Networks of even widths in a space of all: the wider, the better and dearer."""
    return Table(
        name="gaps",
        space=SearchSpace("gaps", [Choice("width", list(range(40)))], build=lambda c, t: None),
        complete=False,
        objectives=(
            Objective("error", "%", "minimize", "trained"),
            Objective("cost", "ms", "minimize", "file"),
        ),
        known=(False, True),
        values=(60.0 - WIDTHS[:, None], 1.0 + WIDTHS[:, None]),
        codes=WIDTHS[:, None],
        levels=(),
        reference=(61.0, 41.0),
    )


class Asking:
    """Asks for odd widths, one after the other, and remembers what it is told."""

    def __init__(self) -> None:
        self.asked = iter(range(1, 40, 2))
        self.told: list[tuple[Any, Any]] = []

    def ask(self) -> dict[str, int]:
        return {"width": next(self.asked)}

    def tell(self, raw: Any, point: Any) -> None:
        self.told.append((raw["width"], tuple(point)))


def test_a_searcher_of_another_package_is_told_of_the_row(rivals: Any) -> None:
    searcher, found = Asking(), table()
    peer = rivals.Rival(searcher, found.space, found.objectives)
    Replay(found, peer, seed=0).run(8)
    assert len(searcher.told) == 7  # the last one waits for the next proposal
    assert all(point == (60.0 - width, 1.0 + width) for width, point in searcher.told)


def test_a_searcher_that_keeps_what_it_asked_for_learns_from_what_it_is_told(rivals: Any) -> None:
    told: list[Any] = []
    searcher = SimpleNamespace(
        trial_configs={0: {"width": "3"}}, on_trial_complete=lambda *given: told.append(given)
    )
    syne = rivals.SyneTune.__new__(rivals.SyneTune)
    syne._searcher, syne._space, syne._told = searcher, table().space, 0
    syne.tell({"width": 4}, (56.0, 5.0))
    assert searcher.trial_configs == {0: {"width": "4"}}
    assert told == [(0, {"width": "4"}, [56.0, 5.0])]


def test_a_generation_of_pymoos_is_of_the_rows(rivals: Any) -> None:
    pytest.importorskip("pymoo")
    peer = rivals.make("pymoo-nsga2", table(), 0)
    infills = peer._searcher
    infills.ask()
    infills.tell({"width": 4}, (56.0, 5.0))
    assert infills._infills[0].X == {"width": 4} and infills._infills[0].F[0] == 56.0


@pytest.mark.parametrize("name", ["evolution", "nsga2"])
def test_a_peer_that_is_given_the_costs_learns_of_the_rows(rivals: Any, name: str) -> None:
    found = table()
    peer = create(name, found.space, found.objectives, (), 0)
    screened = rivals.Screened(peer, found, Oracle(found, 0), 4)
    Replay(found, screened, seed=0).run(15)
    inner = screened._inner
    assert len(inner.proposals) >= 4 * 14
    learnt = 0
    for number, event in inner.results.items():
        if event.payload["state"] == "complete":
            payload = inner.proposals[number].payload
            width = Architecture.from_json(payload["architecture"]).choices["width"]
            assert event.payload["values"] == {"error": 60.0 - width, "cost": 1.0 + width}
            learnt += 1
    assert learnt >= 14


def test_a_peer_that_is_given_the_costs_sees_all_that_it_drew(rivals: Any) -> None:
    class Counting:
        def __init__(self) -> None:
            self.before: list[int] = []

        def propose(self, history: History, count: int) -> list[Proposal]:
            self.before.append(len(history.proposals))
            drawn = [Architecture("gaps", {"width": (7 * n) % 40}) for n in range(count)]
            return [Proposal(a) for a in drawn]

    peer, found = Counting(), table()
    Replay(found, rivals.Screened(peer, found, Oracle(found, 0), 4), seed=0).run(3)
    assert peer.before[:3] == [0, 4, 8]
