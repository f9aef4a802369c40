"""Local search: neighbours of the front until none is left."""

import numpy as np

from nas.core.decision import Choice, Integer, Real
from nas.core.objective import Constraint, Objective
from nas.core.space import SearchSpace
from nas.core.trial import Event, History
from nas.strategies.candidates import Genes
from nas.strategies.local import LocalSearch

SPACE = SearchSpace(
    "plane", [Choice("x", [0, 1, 2, 3]), Choice("y", [0, 1, 2, 3])], build=lambda c, t: None
)
OBJECTIVES = [
    Objective("error", "%", "minimize", "trained"),
    Objective("cost", "", "minimize", "file"),
]


def searched(strategy, trials, values):
    history = History()
    for number in range(trials):
        [proposal] = strategy.propose(history, 1)
        payload = {"architecture": proposal.architecture.to_json(), "origin": "strategy",
                   "notes": {}}  # fmt: skip
        history.append(Event("proposed", number, payload))
        told = {"state": "complete", "values": values(proposal.architecture.choices),
                "violations": {}, "error": None}  # fmt: skip
        history.append(Event("told", number, told))
    return [(p.payload["architecture"]["choices"]) for p in history.proposals.values()]


def test_goes_down_to_the_best_one_step_at_a_time():
    strategy = LocalSearch(SPACE, OBJECTIVES, seed=1, start=1)
    tried = searched(strategy, 16, lambda c: {"error": c["x"] + c["y"], "cost": c["x"] + c["y"]})
    distances = [c["x"] + c["y"] for c in tried]
    for number in range(1, distances.index(0)):
        best = min(tried[:number], key=lambda c: c["x"] + c["y"])
        now = tried[number]
        assert (best["x"] != now["x"]) + (best["y"] != now["y"]) <= 1
    assert len({(c["x"], c["y"]) for c in tried}) == 16  # then starts anew until all are tried


def test_neighbours_are_all_that_differ_in_one_decision():
    space = SearchSpace(
        "tree",
        [Choice("a", ["p", "q"]), Integer("n", 1, 3), Choice("b", [1, 2], when={"a": ["q"]}),
         Real("r", 0.0, 1.0)],
        build=lambda c, t: None,
    )  # fmt: skip
    genes = Genes(space)
    code = genes.code(space.architecture({"a": "q", "n": 2, "b": 1, "r": 0.5}))
    near = genes.neighbours(code, np.random.default_rng(0))
    plain = {tuple(row[:3]) for row in near if row[3] == code[3]}
    assert plain == {(0.0, 1.0, -1.0), (1.0, 0.0, 0.0), (1.0, 2.0, 0.0), (1.0, 1.0, 1.0)}
    assert all(not space.check(genes.architecture(row).choices) for row in near)


def test_what_breaks_a_limit_least_is_the_front_as_long_as_nothing_keeps_it():
    limit = Constraint.parse("cost<=0")
    strategy, history = LocalSearch(SPACE, OBJECTIVES, [limit], seed=1, start=1), History()
    for number, (x, y) in enumerate([(3, 3), (2, 1), (0, 3), (1, 3)]):
        architecture = SPACE.architecture({"x": x, "y": y}).to_json()
        history.append(Event("proposed", number, {"architecture": architecture}))
        told = {"state": "infeasible", "values": {"cost": x + y}, "violations": {str(limit): x + y}}
        history.append(Event("told", number, told))
    found = {tuple(p.architecture.choices.values()) for p in strategy.propose(history, 8)}
    of_one = {(0, 1), (1, 1), (3, 1), (2, 0), (2, 2), (2, 3)}
    of_other = {(0, 0), (0, 1), (0, 2), (2, 3)}
    assert found == of_one | of_other
