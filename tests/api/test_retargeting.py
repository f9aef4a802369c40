"""A study goes to another device: what is timed, what is kept, what a kill costs."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from api.conftest import SPEC, Toy
from rich.console import Console

from nas import api
from nas.api import retargeting, study
from nas.core.errors import NasError
from nas.core.front import front_of
from nas.core.measurement import Measurement
from nas.core.objective import BUILTIN
from nas.core.retarget import candidates, searched
from nas.core.trial import Trial
from nas.hardware import timing
from nas.hardware.device import named
from nas.report.tables import pick_table
from nas.store.store import Store


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs."""


@dataclass
class Bench:
    """A device that times by arithmetic: sizes to a power. `dies_at` counts batches."""

    dies_at: int | None = None
    fails: frozenset[int] = frozenset()
    power: int = -1
    batches: list[tuple[int, int]] = field(default_factory=list)
    conditions: dict[str, str] = field(default_factory=lambda: {"host": "this"})

    def __call__(
        self, files: Sequence[Path], device: Any, lease: Any, workload: Any, processes: int,
        basis: str,
    ) -> list[Measurement | str]:  # fmt: skip
        assert (device.name, lease.device, basis) == ("board", "cpu", "trained file")
        if len(self.batches) == self.dies_at:
            raise Killed
        self.batches.append((len(files), processes))
        return [self.one(path.stat().st_size, processes) for path in files]

    def one(self, size: int, processes: int) -> Measurement | str:
        if size in self.fails:
            return "it hangs"
        value = (size / 1e4) ** self.power + 0.001 * processes
        return Measurement(
            "latency_ms", value, "ms", 0.97 * value, 1.03 * value, 0.01 * value, 40, "measured",
            "trained file", {"p99_ms": 1.5 * value, **self.conditions},
        )  # fmt: skip


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench()
    monkeypatch.setattr(timing, "measure", made)
    return made


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retargeting, "BATCH", 3)


def trials(toy: Toy) -> list[Trial]:
    with Store(toy.url, read_only=True) as store:
        return store.trials("toy")


def numbers(toy: Toy, device: str = "board") -> dict[int, float]:
    name = f"latency_ms@{device}:b1/trained"
    return {t.number: t.measurements[name].value for t in trials(toy) if name in t.measurements}


def able(toy: Toy) -> list[int]:
    return [t.number for t in candidates(SPEC, trials(toy))]


class Steps:
    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    def on(self, what: str, done: int, total: int) -> None:
        self.seen.append((what, done, total))


def test_every_candidate_is_timed_and_the_front_is_of_the_device(toy: Toy, bench: Bench) -> None:
    steps = Steps()
    expected = able(toy)
    found = api.retarget("toy", "board", watch=steps)
    assert sorted(numbers(toy)) == sorted(expected)
    assert (found.measured, found.predicted, found.missing) == (len(expected), 0, 0)
    assert found.front.device == "board"
    assert found.front.to_json() == front_of(SPEC, trials(toy), "board").to_json()
    assert found.front.to_json() == api.front("toy", "board").to_json()
    assert found.tau.value is not None and found.tau.value < 0
    with Store(toy.url, read_only=True) as store:
        assert store.front("toy", "board") == found.front
        assert store.front("toy") == api.front("toy")
        bench_ = retargeting.bench(retargeting.named("board"))
        assert bench_ is not None
        for number in expected:
            build = trials(toy)[number].build or ""
            row = store.timing(build, "trained", "b1", **vars(bench_))
            assert row is not None and row.device == "board"
    assert steps.seen[0] == ("timing on board", 0, len(expected))
    assert ("timing on board", len(expected), len(expected)) in steps.seen


def test_the_front_is_timed_again_in_three_processes(toy: Toy, bench: Bench) -> None:
    found = api.retarget("toy", "board")
    single = [size for size, processes in bench.batches if processes == 1]
    assert sum(single) == len(able(toy)) and set(single[:-1]) == {3}
    assert {p for _, p in bench.batches} == {1, 3}
    sizes = {t.number: toy.artifacts.path(t.trained[0].file).stat().st_size
             for t in trials(toy) if t.trained}  # fmt: skip
    for member in found.front.members:
        value = member.measurements["latency_ms"].value
        assert value == pytest.approx(1e4 / sizes[member.trial] + 0.003)


def test_a_limit_takes_the_nearest_to_the_front(toy: Toy, bench: Bench) -> None:
    order = able(toy)
    found = api.retarget("toy", "board", limit=4)
    assert set(numbers(toy)) == set(order[:4])
    assert found.missing == len(order) - 4
    done = len(bench.batches)
    assert api.retarget("toy", "board", limit=4) == found and len(bench.batches) == done
    api.retarget("toy", "board", limit=5)
    assert bench.batches[done] == (1, 1)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_what_a_killed_run_timed_is_kept_and_the_next_goes_on(
    toy: Toy, bench: Bench, at: int
) -> None:
    bench.dies_at = at
    with pytest.raises(Killed):
        api.retarget("toy", "board")
    assert len(numbers(toy)) == min(3 * at, len(able(toy)))
    bench.dies_at = None
    found = api.retarget("toy", "board")
    assert sum(size for size, processes in bench.batches if processes == 1) == len(able(toy))
    whole = numbers(toy)
    api.retarget("toy", "board", fresh=True)
    assert numbers(toy) == whole
    assert found.missing == 0


def test_fresh_times_everything_again(toy: Toy, bench: Bench) -> None:
    first = api.retarget("toy", "board")
    done = len(bench.batches)
    assert api.retarget("toy", "board") == first and len(bench.batches) == done
    assert api.retarget("toy", "board", fresh=True) == first
    assert bench.batches[done:] == bench.batches[:done]


def test_a_fresh_run_that_is_killed_leaves_no_single_timing_on_the_front(
    toy: Toy, bench: Bench
) -> None:
    first = api.retarget("toy", "board")
    bench.dies_at = len(bench.batches) + 3
    with pytest.raises(Killed):
        api.retarget("toy", "board", fresh=True)
    bench.dies_at = None
    assert api.retarget("toy", "board") == first


def test_other_conditions_are_timed_again(
    toy: Toy, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.power = 1
    api.retarget("toy", "board")
    done = list(bench.batches)
    here = retargeting.bench(retargeting.named("board"))
    assert here is not None
    monkeypatch.setattr(retargeting, "bench", lambda device: replace(here, runtime="newer"))
    bench.conditions = {"host": "another"}
    mixed = api.retarget("toy", "board", limit=1)
    moved = mixed.front.unlike
    assert all("host: " in why for reasons in moved.values() for why in reasons)
    assert set(moved) <= {m.trial for m in mixed.front.members} and moved
    assert json.loads(json.dumps(mixed.to_json()))["unlike"].keys() == {str(n) for n in moved}
    assert api.front("toy", "board").unlike == moved
    api.retarget("toy", "board")
    assert sum(n for n, processes in bench.batches[len(done) :] if processes == 1) == len(able(toy))
    assert not api.retarget("toy", "board").front.unlike


def test_pick_says_which_alternatives_were_timed_under_other_conditions(
    toy: Toy, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.power = 1
    api.retarget("toy", "board")
    alike = api.pick("toy", prefer="latency_ms", device="board")
    assert alike.alternatives and not alike.unlike
    here = retargeting.bench(retargeting.named("board"))
    assert here is not None
    monkeypatch.setattr(retargeting, "bench", lambda device: replace(here, runtime="newer"))
    bench.conditions = {"host": "another"}
    api.retarget("toy", "board", limit=1)
    for prefer in ("latency_ms", "accuracy"):
        found = api.pick("toy", prefer=prefer, device="board")
        moved = found.member.measurements["latency_ms"].record["host"]
        others = {m.trial for m in found.alternatives
                  if m.measurements["latency_ms"].record["host"] != moved}  # fmt: skip
        assert others and set(found.unlike) == others
        assert found.to_json()["unlike"].keys() == {str(n) for n in others}
        shown = Console(width=200, record=True, file=io.StringIO())
        shown.print(pick_table(found))
        text = shown.export_text()
        assert f"cannot be compared with trial {found.member.trial} and its like: host: " in text
        assert "alike: nas retarget toy --device board" in text


def test_a_trial_beaten_on_a_slower_host_is_not_passed_over_in_silence(
    toy: Toy, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = api.retarget("toy", "board").front
    assert not done.unlike and not done.elsewhere
    members = [m.trial for m in done.members]
    read = study.timing_of

    def of(trial: Trial, device: str) -> Measurement | None:
        timing = read(trial, device)
        slower = timing is not None and trial.number not in members
        return (
            replace(timing, record={**timing.record, "host": "slower"})
            if timing and slower
            else timing
        )

    monkeypatch.setattr(study, "timing_of", of)
    found = api.front("toy", "board")
    assert not found.unlike
    assert set(found.elsewhere) == set(numbers(toy)) - set(members)
    assert all(why == ["host: 'this' and 'slower'"] for why in found.elsewhere.values())


def test_a_file_that_fails_fails_alone_and_is_tried_again(toy: Toy, bench: Bench) -> None:
    first = able(toy)[0]
    file = toy.artifacts.path(trials(toy)[first].trained[0].file)
    bench.fails = frozenset({file.stat().st_size})
    found = api.retarget("toy", "board")
    assert found.failed[first] == "it hangs" and found.missing == len(found.failed)
    assert first not in numbers(toy)
    assert json.loads(json.dumps(found.to_json()))["failed"][str(first)] == "it hangs"
    assert (trials(toy)[first].attempts, trials(toy)[first].error) == (0, None)
    bench.fails = frozenset()
    assert api.retarget("toy", "board").missing == 0


def test_the_studys_own_device_is_measured_again(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(Bench):
        def __call__(self, files: Any, device: Any, *rest: Any, **more: Any) -> Any:
            return super().__call__(files, replace(device, name="board"), *rest, **more)

    monkeypatch.setattr(timing, "measure", Own())
    before = trials(toy)
    found = api.retarget("toy", "cpu")
    assert (found.origin, found.front.device) == ("cpu", "cpu")
    assert found.tau.n == len(able(toy)) and (found.tau.value or 1) < 0
    with Store(toy.url, read_only=True) as store:
        assert searched(store.events("toy")) == before != store.trials("toy")


def test_a_device_that_is_not_here_is_predicted_and_once_here_measured(
    toy: Toy, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = toy.folder / "hardware_profiles" / "board.toml"
    facts = '[facts]\nfp32_tflops = { value = 1, source = "x" }\n' + (
        'bandwidth_gbs = { value = 50, source = "x" }\n'
    )
    here = profile.read_text()
    profile.write_text(here + 'names = ["A board that nobody has"]\n' + facts)
    found = api.retarget("toy", "board")
    assert (found.measured, found.predicted) == (0, len(able(toy)))
    sources = {m.measurements["latency_ms"].source for m in found.front.members}
    bases = {m.measurements["latency_ms"].basis for m in found.front.members}
    assert sources == {"predicted"} and bases <= {"datasheet", "extrapolated"}
    assert not bench.batches

    with Store(toy.url, read_only=True) as store:
        events = len(store.events("toy"))
    assert api.retarget("toy", "board") == found
    with Store(toy.url, read_only=True) as store:
        assert len(store.events("toy")) == events  # the same prediction says nothing new

    profile.write_text(here)
    assert api.retarget("toy", "board", limit=2).measured == 2
    assert api.retarget("toy", "board").measured == len(able(toy))
    measured = numbers(toy)
    profile.write_text(here + 'names = ["A board that nobody has"]\n' + facts)
    again = api.retarget("toy", "board")
    assert (again.measured, again.predicted) == (len(able(toy)), 0)
    assert numbers(toy) == measured
    with Store(toy.url, read_only=True) as store:
        kept = [e.payload["measurement"]["source"] for e in store.events("toy")
                if e.payload.get("job") == "retarget"]  # fmt: skip
    assert kept.count("predicted") == len(able(toy)) <= kept.count("measured")


def test_what_a_study_measures_besides_time_is_measured_there_too(
    toy: Toy, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nas.evaluate import timing

    asked: list[Path] = []

    def weigh(file: Path, device: Any, lease: Any, workload: Any, basis: str) -> Measurement | str:
        assert (device.name, lease.device, basis) == ("board", "cpu", "trained file")
        if len(asked) == 4:
            raise Killed
        asked.append(file)
        return Measurement(
            "energy_mj", float(len(asked)), "mJ", 0.0, 99.0, 0.1, 5, "measured", basis, {}
        )

    monkeypatch.setattr(timing, "PROBES", {"energy_mj": weigh})
    wanted = (*SPEC.objectives, BUILTIN["energy_mj"])
    with Store(toy.url) as store:
        epoch = store.claim("toy")
        store.revise(replace(SPEC, objectives=wanted, probes=("energy_mj",)), epoch)
        store.release("toy", epoch)
    with pytest.raises(Killed):
        api.retarget("toy", "board")
    asked.append(Path())
    found = api.retarget("toy", "board", limit=len(able(toy)))
    assert len(asked) - 1 == len(set(asked)) - 1 == len(able(toy))
    assert {o.name for o in found.front.objectives} == {o.name for o in wanted}
    assert all("energy_mj" in m.measurements for m in found.front.members)


def test_a_search_goes_on_after_a_retarget(toy: Toy, bench: Bench) -> None:
    api.retarget("toy", "board")
    longer = replace(SPEC, trials=14)
    toy.search(longer)
    assert len(trials(toy)) == 14
    found = api.retarget("toy", "board")
    assert found.missing == 0 and found.measured == len(able(toy))


def test_a_device_of_which_nothing_is_known_is_refused_and_leaves_no_trace(toy: Toy) -> None:
    profile = toy.folder / "hardware_profiles" / "board.toml"
    profile.write_text('kind = "cuda"\nnames = ["A board that nobody has"]')
    before = trials(toy)
    with pytest.raises(NasError, match="nothing is known of the speed of 'board'"):
        api.retarget("toy", "board")
    with pytest.raises(NasError, match="can only be measured"):
        api.retarget("toy", "a100", runtime="torch:bf16")
    assert trials(toy) == before
    with Store(toy.url, read_only=True) as store:
        assert not [e for e in store.events("toy") if e.payload.get("job") == "retarget"]


def test_mistakes_are_told(toy: Toy, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NasError, match="no study named 'tpy'"):
        api.retarget("tpy", "board")
    with pytest.raises(NasError, match="no device named 'bord'"):
        api.retarget("toy", "bord")
    with pytest.raises(NasError, match="no study database"):
        api.retarget("toy", "board", storage=f"sqlite:///{toy.folder}/nowhere.db")
    assert not (toy.folder / "nowhere.db").exists()
    with pytest.raises(NasError, match="has no numbers for device 'board', only for cpu") as error:
        api.front("toy", "board")
    assert error.value.hint == "nas retarget toy --device board"
    with Store(toy.url) as store:
        store.create(replace(SPEC, name="empty"))
    with pytest.raises(NasError, match="'empty' has no trained candidates"):
        api.retarget("empty", "board")


def test_one_process_writes_a_study(toy: Toy, bench: Bench) -> None:
    with Store(toy.url) as store:
        store.claim("toy")
        with pytest.raises(NasError, match="is being written by process"):
            api.retarget("toy", "board")
        assert not bench.batches
        assert api.retarget("toy", "board", take_over=True).missing == 0
        api.retarget("toy", "board")  # the claim was given back


def test_pick_and_show_speak_of_any_device_with_numbers(toy: Toy, bench: Bench) -> None:
    found = api.retarget("toy", "board")
    picked = api.pick("toy", prefer="latency_ms", device="board")
    assert picked.member.trial == found.front.members[0].trial
    there = {n: v for n, v in numbers(toy).items()}
    limit = sorted(there.values())[len(there) // 2]
    both = api.pick("toy", [f"latency_ms@board<={limit}"], prefer="accuracy")
    best = max(
        (t for t in trials(toy) if there.get(t.number, limit + 1) <= limit),
        key=lambda t: t.trained[0].confirm,
    )
    assert both.member.measurements["accuracy"].value == best.trained[0].confirm
    assert both.member.measurements["latency_ms@board"].value <= limit
    rows = {r["trial"]: r["measurements"] for r in api.show("toy", device="board")["rows"]}
    assert rows[both.member.trial]["latency_ms"]["value"] == there[both.member.trial]
    with pytest.raises(NasError, match="no numbers for device 'a100'"):
        api.pick("toy", ["latency_ms@a100<=1"])


@pytest.mark.slow
def test_real_files_on_a_real_processor(toy: Toy) -> None:
    found = api.retarget("toy", "board", limit=3)
    assert found.measured == 3 and not found.failed
    for member in found.front.members:
        timed = member.measurements["latency_ms"]
        assert timed.source == "measured" and timed.record["device"] == "board"
        assert len(timed.record["processes_ms"]) == 3
    predicted = api.retarget("toy", "a100", limit=3)
    assert predicted.predicted == 3
    assert all(m.measurements["latency_ms"].low < m.measurements["latency_ms"].value
               for m in predicted.front.members)  # fmt: skip


@pytest.mark.parametrize(
    ("device", "runtime", "engine"),
    [
        ("a100", None, "torch:compiled"),
        ("a100", "torch", "torch"),
        ("cpu", None, "torch:bf16"),
        ("cpu", "torch:bf16", "torch:bf16"),
    ],
)
def test_a_runtime_may_be_named_for_another_device(
    device: str, runtime: str | None, engine: str
) -> None:
    spec = replace(SPEC, device="cpu", runtime="torch:bf16")
    assert str(retargeting._under(spec, named(device), runtime).engine) == engine


def test_one_device_has_numbers_of_one_runtime() -> None:
    with pytest.raises(NasError) as refused:
        retargeting._under(replace(SPEC, device="cpu"), named("cpu"), "openvino")
    assert "are under onnxruntime" in refused.value.problem
    assert 'runtime = "openvino"' in refused.value.hint


def test_another_workload_is_timed_kept_apart_and_limited_by_pick(toy: Toy, bench: Bench) -> None:
    api.retarget("toy", "board", storage=toy.url)
    usual = api.front("toy", "board", storage=toy.url)
    before = len(bench.batches)
    api.retarget("toy", "board", workloads=["b1-4"], storage=toy.url)
    timed_again = len(bench.batches) - before
    assert timed_again > 0
    api.retarget("toy", "board", workloads=["b2"], storage=toy.url)
    assert len(bench.batches) - before == timed_again  # known: b1, b2 and b4 were timed
    assert api.front("toy", "board", storage=toy.url) == usual
    names = {n for t in trials(toy) for n in t.measurements if "board" in n}
    assert names == {f"latency_ms@board:{w}/trained" for w in ("b1", "b2", "b4")}
    found = api.pick(
        "toy", ["latency_ms:b1-4<=1000", "size_mb<=1000"], device="board", storage=toy.url
    )
    numbers = found.member.measurements
    assert {"latency_ms", "latency_ms@board:b2", "latency_ms@board:b4", "size_mb"} <= set(numbers)
    with pytest.raises(NasError, match=r"nothing of 'toy' was timed under b8 on board") as caught:
        api.pick("toy", ["latency_ms:b1-8<=1000"], device="board", storage=toy.url)
    assert caught.value.hint == "nas retarget toy --device board --workload b1-8"
    with pytest.raises(NasError, match="not a workload: 'x'"):
        api.retarget("toy", "board", workloads=["x"], storage=toy.url)


def test_callers_at_once_are_measured_each_file_by_itself(
    toy: Toy, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def concurrent(path: Path, device: Any, lease: Any, workload: Any, basis: str) -> Measurement:
        asked.append(workload.name)
        found = bench.one(path.stat().st_size, 1)
        assert isinstance(found, Measurement)
        return found

    monkeypatch.setattr("nas.hardware.streams.concurrent", concurrent)
    api.retarget("toy", "board", workloads=["b1s4"], limit=2, storage=toy.url)
    assert asked and set(asked) == {"b1s4"} and not bench.batches
    kept = [t for t in trials(toy) if "latency_ms@board:b1s4/trained" in t.measurements]
    assert len(kept) == 2
