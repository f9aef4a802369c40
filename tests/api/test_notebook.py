from __future__ import annotations

import builtins
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from example_study import toy_store, trials

import nas
from nas.api.notebook import front_html
from nas.core.errors import NasError


@pytest.fixture
def toy(tmp_path: Path) -> nas.Study:
    toy_store(tmp_path)
    return nas.Study("toy", f"sqlite:///{tmp_path}/studies/nas.db")


def test_a_study_shows_itself(toy: nas.Study) -> None:
    assert repr(toy) == (
        "Study('toy': largekernel on cpu, 36 complete, 1 infeasible, 1 failed, 1 running)"
    )
    shown = toy._repr_html_()
    for member in toy.front().members:
        assert f"<td>{member.trial}</td>" in shown
    assert shown.count("<tr>") == len(toy.front().members) + 1
    assert re.search(r'<img alt="the front"[^>]*src="data:image/png;base64,', shown)


def test_a_notebook_says_whose_numbers_cannot_be_compared(toy: nas.Study) -> None:
    apart = replace(toy.front(), unlike={3: ["host: 'a' and <b>"]})
    first = apart.members[0].trial
    said = f"<p>trial 3 cannot be compared with trial {first} and its like: host: "
    assert said in front_html(apart) and "&lt;b&gt;" in front_html(apart)
    assert said not in toy._repr_html_()


def test_a_table_has_a_row_for_each_trial(toy: nas.Study) -> None:
    frame = toy.to_pandas()
    made = trials()
    assert list(frame.index) == [t.number for t in made]
    assert frame.loc[3, "accuracy"] == pytest.approx(made[3].trained[0].confirm)
    assert (
        frame.loc[3, "latency_ms_low"]
        < frame.loc[3, "latency_ms"]
        < frame.loc[3, "latency_ms_high"]
    )
    assert frame.loc[3, "stages.0.kernel"] == made[3].architecture.choices["stages.0.kernel"]
    assert frame["membership"].notna().sum() == len(toy.front().members)
    assert frame.loc[36, "error"].startswith("out of memory")
    assert frame.loc[3, "latency_ms_basis"] == "trained file" and frame.loc[3, "unlike"] == ""


def test_without_pandas_it_says_what_adds_it(
    toy: nas.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def refuse(name: str, *given: Any, **options: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return original(name, *given, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(NasError, match="pandas is not installed") as caught:
        toy.to_pandas()
    assert caught.value.hint == "type pip install pandas"


def test_it_picks_views_and_reads(toy: nas.Study) -> None:
    assert toy.pick("latency_ms<=0.4").member.measurements["latency_ms"].value <= 0.4
    assert len(toy.to_optuna().trials) == len(toy.trials) == 39
    assert toy.spec.name == "toy"


def test_an_unknown_study_is_said_when_it_is_asked(toy: nas.Study) -> None:
    with pytest.raises(NasError, match="no study named 'toi'"):
        nas.Study("toi", toy.storage).front()
