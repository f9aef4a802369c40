from __future__ import annotations

from dataclasses import replace

import optuna
import pytest
from example_page import START, findings
from example_study import spec, trials
from optuna.trial import TrialState

from nas.report.optuna import Refreshing, optuna_study, spans


def viewed() -> optuna.Study:
    found = findings()
    return optuna_study(found.spec, found.trials, spans(found.events, found.moments))


def test_every_trial_is_there_with_its_choices_and_numbers() -> None:
    study, made = viewed(), trials()
    assert [t.number for t in study.trials] == [t.number for t in made]
    for theirs, ours in zip(study.trials, made, strict=True):
        assert theirs.params == dict(ours.architecture.choices)
        if ours.state == "complete":
            assert theirs.values == pytest.approx(
                [ours.trained[0].confirm, ours.values["latency_ms"]]
            )
    states = [study.trials[n].state for n in (0, 36, 37, 38)]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED, TrialState.RUNNING]
    assert study.metric_names == ["accuracy", "latency_ms"]


def test_optuna_finds_the_same_front() -> None:
    found = findings()
    best = {t.number for t in viewed().best_trials}
    assert best == {m.trial for m in found.fronts["cpu"].members}
    first = next(m for m in found.fronts["cpu"].members)
    told = viewed().trials[first.trial].user_attrs
    assert told["on the front"].startswith(("certain", "likely", "possible"))
    assert "[" in told["accuracy"]


def test_the_timeline_is_when_trials_were_proposed_and_told() -> None:
    first = viewed().trials[0]
    assert first.datetime_start == START.replace(tzinfo=None)
    assert first.duration is not None
    assert first.duration.total_seconds() == 9
    assert viewed().trials[38].datetime_complete is None


def test_limits_and_files_are_where_optuna_looks() -> None:
    study = viewed()
    assert study.trials[37].system_attrs["constraints"] == [0.4]
    from optuna.artifacts import get_all_artifact_meta

    [meta] = get_all_artifact_meta(study.trials[0], storage=study._storage)
    assert (meta.artifact_id, meta.filename) == ("f", "trial-0.f")


@pytest.mark.filterwarnings("ignore:PedAnova")  # it says so for every target that it is given
def test_importances_and_plots_of_optuna_work_on_it() -> None:
    found = optuna.importance.get_param_importances(
        viewed(), target=lambda t: -t.values[0],
        evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
    )  # fmt: skip
    assert found


def test_a_view_follows_its_study() -> None:
    made = trials()
    state = {"version": 0, "trials": made[:3]}

    def make(storage: optuna.storages.BaseStorage) -> None:
        optuna_study(spec(), state["trials"], {}, storage)  # type: ignore[arg-type]

    view = Refreshing(lambda: state["version"], make)
    [study] = view.get_all_studies()
    assert len(view.get_all_trials(study._study_id)) == 3
    state["trials"] = made[:9]
    assert len(view.get_all_trials(study._study_id)) == 3  # nothing says that it changed
    state["version"] = 1
    assert len(view.get_all_trials(study._study_id)) == 9
    [again] = view.get_all_studies()
    assert again._study_id == study._study_id
    assert view.get_trial(8).number == 8


def test_a_network_without_a_number_is_no_result() -> None:
    bare = replace(trials()[0], measurements={})
    study = optuna_study(spec(), [bare], {})
    assert study.trials[0].state is TrialState.PRUNED
