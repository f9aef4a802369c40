"""`nas.api.replaying`: the document that a replay prints, and what it refuses."""

import json

import pytest

from nas.api import replaying
from nas.api.replaying import replay
from nas.core.errors import NasError
from nas.runners.replay import Oracle

TOML = """
name = "toy"
data = "table.csv"
complete = true
[decisions]
a = [0, 1, 2, 3]
b = [0, 1, 2, 3]
[[objectives]]
name = "error"
columns = ["err"]
unit = "%"
goal = "minimize"
[[objectives]]
name = "cost"
columns = ["cost"]
unit = "ms"
goal = "minimize"
known = true
[hypervolume]
reference = [60, 8]
"""


@pytest.fixture
def folder(tmp_path):
    rows = [f"{a},{b},{50 - 10 * a - 5 * b},{1 + a + b}" for a in range(4) for b in range(4)]
    (tmp_path / "table.toml").write_text(TOML)
    (tmp_path / "table.csv").write_text("\n".join(["a,b,err,cost", *rows]) + "\n")
    return tmp_path


def test_the_document_is_plain_data_of_the_stated_form(folder):
    found = json.loads(json.dumps(replay(folder, "surrogate", trials=16, seeds=2)))
    assert found["table"] == "toy" and found["strategy"] == "surrogate"
    assert [run["seed"] for run in found["runs"]] == [0, 1]
    for run in found["runs"]:
        assert [n for n, _ in run["curve"]] == list(range(1, 17))
        assert run["curve"][-1][1] == pytest.approx(1.0)
        assert run["epochs_curve"][-1] == [16.0, pytest.approx(1.0)]
        assert run["cost_asks"] > 0
    assert found["summary"]["evaluations"]["0.99"]["reached"] == 2


def test_a_run_is_the_same_again_and_another_seed_is_another_run(folder):
    first, again, other = (replay(folder, "evolution", 6, [s])["runs"][0] for s in (1, 1, 2))
    assert first == again
    assert first["curve"] != other["curve"]


def test_hidden_costs_are_never_asked_for(folder):
    assert replay(folder, "surrogate", 16, 1, costs=False)["runs"][0]["cost_asks"] == 0


def test_each_seed_asks_for_the_costs_that_it_will_be_told(folder, monkeypatch):
    seeds = []
    monkeypatch.setattr(
        replaying, "Oracle", lambda table, seed: seeds.append(seed) or Oracle(table, seed)
    )
    replay(folder, "surrogate", 4, [3, 5])
    assert seeds == [3, 5]


def test_optuna_samplers_go_by_their_own_names(folder):
    found = replay(folder, "optuna:RandomSampler", 4, 1)
    assert found["runs"][0]["curve"] == replay(folder, "random", 4, 1)["runs"][0]["curve"]


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"strategy": "surogate"}, "no strategy named 'surogate'"),
        ({"promotion": "halve"}, "no promotion named 'halve'"),
        ({"promotion": "halving"}, "has no fidelities"),
        ({"trials": 0}, "trials=0"),
    ],
)
def test_what_cannot_be_replayed_is_said(folder, changed, problem):
    with pytest.raises(NasError, match=problem):
        replay(folder, **{"seeds": 1, **changed})
