"""What a new study takes from earlier ones: their fronts as first points, their results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import TASK, ToyPerform, toy_space, toy_spec
from test_engine import drive, new_search

from nas.api.earlier import earlier_results, first_points
from nas.core.decision import Choice, Integer
from nas.core.errors import NasError
from nas.core.front import front_of
from nas.core.measurement import Measurement
from nas.core.objective import BUILTIN, Constraint
from nas.core.space import SearchSpace
from nas.core.study import StudySpec
from nas.core.trial import Timing
from nas.session import Bench
from nas.store.store import Store

LATENCY = {"objectives": (BUILTIN["accuracy"], BUILTIN["latency_ms"])}
BENCH = Bench("host", "runtime 1", "protocol 1")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path}/nas.db") as opened:
        yield opened


def searched(store: Store, **changes: Any) -> StudySpec:
    """A study that was searched to its end, in the database."""
    spec = toy_spec(**{"name": "old", **changes})
    search = new_search(spec)
    events = drive(search, ToyPerform(spec))
    store.create(spec)
    epoch = store.claim(spec.name)
    store.commit(spec.name, epoch, events, list(search.trials.values()))
    store.release(spec.name, epoch)
    return spec


def new(**changes: Any) -> StudySpec:
    return toy_spec(**{"name": "new", "strategy": "surrogate", **changes})


def test_the_surest_members_of_a_front_come_first(store: Store) -> None:
    old = searched(store)
    members = front_of(old, store.trials("old")).members
    starts = first_points(store, new(trials=40), toy_space(), ["old", "old"])
    assert len(members) == len(starts) >= 2
    sure = {f"from old trial {m.trial}": m for m in members}
    assert {s.origin for s in starts} == set(sure)
    shares = [sure[s.origin].membership for s in starts]
    assert shares == sorted(shares, reverse=True)
    assert all(dict(s.choices) == dict(sure[s.origin].choices) for s in starts)


def test_at_most_half_of_the_trials_are_first_points(store: Store) -> None:
    searched(store)
    assert len(first_points(store, new(trials=4), toy_space(), ["old"])) == 2
    assert len(first_points(store, new(trials=1), toy_space(), ["old"])) == 1


def test_several_studies_give_each_network_once(store: Store) -> None:
    searched(store)
    searched(store, name="older", seed=4)
    both = first_points(store, new(trials=99), toy_space(), ["old", "older"])
    assert len({tuple(sorted(s.choices.items())) for s in both}) == len(both)
    assert {s.origin.split()[1] for s in both} == {"old", "older"}


def test_choices_that_the_space_lacks_are_repaired_and_say_so(store: Store) -> None:
    searched(store)
    smaller = SearchSpace(
        "toy", [Choice("kernel", [3, 5]), Integer("depth", 1, 2), Choice("bits", [8, 4])],
        build=lambda choices, task: None,
    )  # fmt: skip
    starts = first_points(store, new(trials=99), smaller, ["old"])
    assert starts and all(s.origin.endswith(", repaired") for s in starts)
    assert all(not smaller.check(s.choices) for s in starts)


def test_another_task_gives_architectures_alone(store: Store) -> None:
    searched(store)
    spec = new(task=replace(TASK, digest="e" * 32))
    assert first_points(store, spec, toy_space(), ["old"])
    assert earlier_results(store, spec, toy_space(), {}) == []


def test_axes_may_differ(store: Store) -> None:
    searched(store)
    assert first_points(store, new(space="toy+bitwidth"), toy_space(), ["old"])


@pytest.mark.parametrize(
    ("changes", "studies", "problem"),
    [
        ({}, ["odl"], r"no study named 'odl'\n  did you mean 'old'"),
        ({"space": "large"}, ["old"], "searched the space 'toy', not 'large'\n  type --space toy"),
        ({"network": "mine:net"}, ["old"],
         "is of no network of your own, not of mine:net\n  leave --from old out"),
        ({}, ["empty"], "no point on its front to start from\n  .*--study empty --resume"),
    ],
)  # fmt: skip
def test_mistakes(store: Store, changes: dict[str, Any], studies: list[str], problem: str) -> None:
    searched(store)
    store.create(toy_spec(name="empty"))
    with pytest.raises(NasError, match=problem):
        first_points(store, new(**changes), toy_space(), studies)


def test_results_of_the_same_space_data_and_training_are_taken(store: Store) -> None:
    searched(store)
    events = earlier_results(store, new(), toy_space(), {})
    trials = {t.number: t for t in store.trials("old")}
    assert [e.trial for e in events] == [-1 - i for i in range(len(events))]
    assert len(events) == len({t.key for t in trials.values()})
    for event in events:
        trial = trials[event.payload["trial"]]
        assert event.payload["study"] == "old"
        assert event.payload["values"]["macs"] == trial.costs["macs"]
        if trial.trained:
            assert event.payload["values"]["accuracy"] == trial.trained[0].score
        else:
            assert "accuracy" not in event.payload["values"]
        assert event.payload["rungs"] == [[r.epochs, r.score] for r in trial.rungs if not r.repeat]


@pytest.mark.parametrize(
    "changes",
    [{"fresh": True}, {"strategy": "evolution"}, {"space": "other"}, {"network": "mine:net"},
     {"weights": "w.safetensors"}, {"recipe": {"batch": 64}}],
)  # fmt: skip
def test_other_results_are_not(store: Store, changes: dict[str, Any]) -> None:
    searched(store)
    assert earlier_results(store, new(**changes), toy_space(), {}) == []


FILES = {"search_spaces/toy.py": "1", "mine/net.py": "2", "w.safetensors": "3",
         "hardware_profiles/cpu.toml": "4", "mine/recipe.toml": "5"}  # fmt: skip


@pytest.mark.parametrize("changed", ["search_spaces/toy.py", "mine/net.py", "w.safetensors"])
def test_results_of_other_code_or_weights_are_not_taken(store: Store, changed: str) -> None:
    searched(store, files=FILES)
    assert earlier_results(store, new(files=FILES), toy_space(), {})
    assert earlier_results(store, new(files={**FILES, changed: "9"}), toy_space(), {}) == []
    elsewhere = {f"copy/{Path(n).name}": found for n, found in FILES.items()}
    assert earlier_results(store, new(files=elsewhere), toy_space(), {})
    elsewhere[f"copy/{Path(changed).name}"] = "9"
    assert earlier_results(store, new(files=elsewhere), toy_space(), {}) == []


def test_files_that_decide_no_result_may_differ(store: Store) -> None:
    """A profile and a recipe say what counts elsewhere; an objective of one's own is one's own."""
    searched(store, files={**FILES, "search_spaces/theirs.py": "6"})
    other = {**FILES, "hardware_profiles/cpu.toml": "8", "mine/recipe.toml": "9"}
    spec = new(files={**other, "search_spaces/ours.py": "7"})
    assert earlier_results(store, spec, toy_space(), {})


def test_a_latency_counts_where_it_was_timed_alike(store: Store) -> None:
    searched(store, **LATENCY)
    trial = store.trials("old")[0]
    [measured] = [m for n, m in trial.measurements.items() if n.endswith("/untrained")]
    epoch = store.claim("old")
    timing = Timing(trial.build, "untrained", "b1", "host", "runtime 1", "protocol 1", "cpu",
                    measured)  # fmt: skip
    store.commit("old", epoch, timings=[timing])

    def latencies(bench: Bench) -> dict[int, float]:
        events = earlier_results(store, new(**LATENCY), toy_space(), {"cpu": bench})
        found = {e.payload["trial"]: e.payload["values"].get("latency_ms") for e in events}
        return {n: v for n, v in found.items() if v is not None}

    same = latencies(BENCH)
    assert same[trial.number] == measured.value
    assert latencies(replace(BENCH, host="another")) == {}


def test_limits_are_those_of_the_new_study(store: Store) -> None:
    searched(store)
    limit = Constraint.parse("macs<=20000")
    for event in earlier_results(store, new(constraints=(limit,)), toy_space(), {}):
        macs = event.payload["values"]["macs"]
        assert (event.payload["violations"]["macs<=20000"] > 0) == (macs > 20000)


def timed(store: Store, device: str = "cpu", workload: str = "b1") -> None:
    """Files what the old trials' untrained forms took at `BENCH`; p99 is half as much again."""
    rows = []
    for trial in store.trials("old"):
        value = trial.costs["macs"] / 1e5
        found = Measurement("latency_ms", value, "ms", value, value, 0.0, 50, "measured",
                            "untrained form", {"p99_ms": 1.5 * value})  # fmt: skip
        rows.append(Timing(trial.build, "untrained", workload, BENCH.host, BENCH.runtime,
                           BENCH.protocol, device, found))  # fmt: skip
    store.commit("old", store.claim("old"), timings=rows)


@pytest.mark.parametrize(
    ("text", "device", "workload", "factor"),
    [("latency_ms<=2", "cpu", "b1", 1.0), ("latency_ms.p99<=2", "cpu", "b1", 1.5),
     ("latency_ms@board:b8<=2", "board", "b8", 1.0)],
)  # fmt: skip
def test_limits_on_latency_are_held_where_it_was_timed_alike(
    store: Store, text: str, device: str, workload: str, factor: float
) -> None:
    searched(store)
    timed(store, device, workload)
    spec = new(constraints=(Constraint.parse(text),))
    trials = {t.number: t for t in store.trials("old")}
    events = earlier_results(store, spec, toy_space(), {device: BENCH})
    excess = {e.payload["trial"]: e.payload["violations"][text] for e in events}
    for number, found in excess.items():
        latency = factor * trials[number].costs["macs"] / 1e5
        assert found == pytest.approx((latency - 2) / 2)
    assert min(excess.values()) < 0 < max(excess.values())
    other = {device: replace(BENCH, host="another")}
    unknown = earlier_results(store, spec, toy_space(), other)
    assert len(unknown) == len(events) and not any(e.payload["violations"] for e in unknown)


@pytest.mark.parametrize("text", ["accuracy>=80", "error<=20"])
def test_limits_on_the_score_are_held_against_what_was_trained(store: Store, text: str) -> None:
    searched(store)
    events = earlier_results(store, new(constraints=(Constraint.parse(text),)), toy_space(), {})
    trials = {t.number: t for t in store.trials("old")}
    broken = {}
    for event in events:
        runs = trials[event.payload["trial"]].trained
        assert set(event.payload["violations"]) == ({text} if runs else set())
        if runs:
            broken[runs[0].score] = event.payload["violations"][text] > 0
    assert len(set(broken.values())) == 2
    assert all(found == (score < 80) for score, found in broken.items())


def test_what_was_probed_alike_counts_and_what_was_counted_under_its_name_does_not(
    store: Store,
) -> None:
    searched(store)
    first = store.trials("old")[0]
    found = Measurement("energy_mj", 3.0, "mJ", 3.0, 3.0, 0.0, 5, "measured", "untrained form", {})
    row = Timing(first.build, "untrained", "b1", BENCH.host, BENCH.runtime,
                 BENCH.filed("energy_mj"), "cpu", found)  # fmt: skip
    store.commit("old", store.claim("old"), timings=[row])
    limit = Constraint.parse("energy_mj<=2")
    objectives = (BUILTIN["accuracy"], BUILTIN["energy_mj"])
    spec = new(objectives=objectives, probes=("energy_mj",), constraints=(limit,))
    events = earlier_results(store, spec, toy_space(), {"cpu": BENCH})
    [event] = [e for e in events if e.payload["violations"]]
    assert event.payload["trial"] == first.number
    assert event.payload["values"]["energy_mj"] == 3.0
    assert event.payload["violations"] == {"energy_mj<=2": 0.5}


def test_a_network_of_two_studies_counts_once(store: Store) -> None:
    searched(store)
    before = earlier_results(store, new(), toy_space(), {})
    searched(store, name="again")
    after = earlier_results(store, new(), toy_space(), {})
    assert len(after) == len(before)
