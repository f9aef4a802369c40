from __future__ import annotations

import io
from dataclasses import replace

import pytest
from example_study import front, spec, study, trials
from rich.console import Console, RenderableType

from nas.core.front import front_of
from nas.core.measurement import Measurement
from nas.core.membership import verdict
from nas.core.objective import Constraint
from nas.report import tables
from nas.report.documents import study_document, trial_document
from nas.report.pick import pick


def printed(shown: RenderableType, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False, markup=False).print(shown)
    return out.getvalue()


@pytest.mark.parametrize("names", [(), ("accuracy", "latency_ms", "params"), ("accuracy",)])
def test_a_front_fits_80_columns(names: tuple[str, ...]) -> None:
    _, _, made = study(*names)
    lines = printed(tables.front_table(made)).splitlines()
    assert max(map(len, lines)) <= 80
    rows = {line.split()[0] for line in lines[3 : lines.index("", 3) : 2]}
    assert rows == {str(m.trial) for m in made.members}


def test_a_narrow_terminal_loses_no_number() -> None:
    _, _, made = study()
    text = printed(tables.front_table(made), width=40)
    assert max(map(len, text.splitlines())) <= 40
    words = text.split()
    assert all(word.rstrip(":") in words for word in ("source", "latency_ms", "likely"))
    assert words.count("measured") >= len(made.members)


def test_every_point_has_interval_membership_and_network() -> None:
    _, _, made = study()
    text = printed(tables.front_table(made))
    share = next(m.membership for m in made.members if m.trial == 3)
    row = "    3  95.7 [93.6, 97.8] %  0.500 [0.480, 0.525] ms     likely {} %    measured"
    assert row.format(round(100 * share)) in text
    assert {verdict(m.membership) for m in made.members} == {"certain", "likely", "possible"}
    assert "certain" in text and "possible too: trial 16 (" in text
    assert "       depth 1/3/2/3  kernel 7/7/3/31  mixer" in text
    assert "[low, high]: where a repeat of the whole step falls with 90 %" in text


def test_predicted_numbers_are_marked_and_explained() -> None:
    made = front([{"accuracy": (90.0, 1.0), "latency_ms": (2.0, 0.5)}])
    guess = Measurement("latency_ms", 2.0, "ms", 1.0, 3.0, 0.5, 9, "predicted", "datasheet")
    member = made.members[0]
    member = replace(member, measurements={**member.measurements, "latency_ms": guess})
    text = printed(tables.front_table(replace(made, members=(member,))))
    assert "~2.0 [1.0, 3.0] ms" in text
    assert "partly ~" in text
    assert "~ predicted, not measured (datasheet)" in text


def test_members_that_cannot_be_compared_are_named_with_the_cure() -> None:
    made = front([{"accuracy": (90.0, 1.0), "latency_ms": (2.0, 0.5)}])
    first = made.members[0].trial
    lines = printed(
        tables.front_table(replace(made, unlike={7: ["threads: 1 and 2"]}))
    ).splitlines()
    assert f"trial 7 cannot be compared with trial {first} and its like: threads: 1 and 2" in lines
    assert f"to time all of them alike: nas retarget {made.study} --device {made.device}" in lines
    assert max(map(len, lines)) <= 80


def test_trials_off_the_front_that_cannot_be_compared_are_told_in_one_line() -> None:
    made = front([{"accuracy": (90.0, 1.0), "latency_ms": (2.0, 0.5)}])
    first, why = made.members[0].trial, ["host: 'a' and 'b'"]
    one = printed(tables.front_table(replace(made, elsewhere={7: why})), width=120)
    apart = f"cannot be compared with trial {first} and its like"
    assert f"off the front, trial 7 {apart}: host: 'a' and 'b'" in one
    several = printed(tables.front_table(replace(made, elsewhere=dict.fromkeys([7, 9, 11], why))))
    assert "off the front, trial 7 and 2 more cannot be compared with trial" in several
    assert f"nas retarget {made.study} --device {made.device}" in several


def test_a_timing_that_never_settled_says_so() -> None:
    made = Measurement("latency_ms", 2.0, "ms", 1.0, 3.0, 0.5, 9, "measured", "trained file")
    assert tables.origin(made) == "measured, trained file"
    shaken = replace(made, record={"converged": False})
    assert tables.origin(shaken) == "measured, trained file, not converged"
    why = ["an anchor drifted by 7.0%", "only 3 passes count"]
    told = replace(made, record={"converged": False, "unsettled": why})
    assert tables.origin(told) == f"measured, trained file, not converged: {'; '.join(why)}"


def test_a_front_names_members_whose_latency_never_settled() -> None:
    made = front([{"accuracy": (90.0, 1.0), "latency_ms": (2.0, 0.5)}])
    assert "not converged" not in printed(tables.front_table(made))
    (member,) = made.members
    shaken = replace(member.measurements["latency_ms"], record={"converged": False})
    member = replace(member, measurements={**member.measurements, "latency_ms": shaken})
    lines = printed(tables.front_table(replace(made, members=(member,)))).splitlines()
    number = member.trial
    assert f"latency not converged: trial {number} (why: nas show {made.study} {number})" in lines


def test_an_empty_front_says_so() -> None:
    text = printed(tables.front_table(front_of(spec(), [])))
    assert "no trials" in text
    assert "no point on the front" in text


def test_a_pick_shows_why() -> None:
    _, _, made = study()
    text = printed(tables.pick_table(pick(made)))
    assert "trial 2 of digits-1: the knee of 7 points" in text
    assert "trial 3: accuracy +0.7 %, latency_ms +0.19 ms" in text
    assert "1/3/2/3" in text


def test_a_study_lists_every_trial() -> None:
    asked, made, _ = study()
    text = printed(tables.study_table(study_document(asked, made)))
    assert "36 complete, 1 infeasible, 1 failed, 1 running" in text
    for trial in made:
        assert f"\n{trial.number:>5}  {trial.state}" in text
    assert "out of memory" in text


def test_a_trial_shows_its_training_and_its_faults() -> None:
    asked, made = spec(), trials()
    made[4] = replace(made[4], uncounted=("aten::odd",), reused="study other", error="gone")
    text = printed(tables.trial_table(trial_document(asked, made, 4)))
    for part in ("1 epoch ", "9 epochs", "aten::odd", "study other", "gone", "measured, trained"):
        assert part in text
    broken = printed(tables.trial_table(trial_document(asked, made, 37)))
    assert "latency_ms<=5  broken by 40 %" in broken


def test_a_predicted_number_that_a_limit_is_of_is_marked_and_has_its_interval() -> None:
    asked = replace(spec(), constraints=(Constraint.parse("latency_ms<=5"),))
    made = trials()
    name, timing = next(iter(made[4].measurements.items()))
    beyond = replace(timing, value=6.0, low=4.0, high=9.0, source="predicted", basis="transfer")
    made[4] = replace(made[4], measurements={name: beyond}, violations={})
    text = printed(tables.trial_table(trial_document(asked, made, 4)))
    assert "latency_ms<=5  kept with ~6.0 [4.0, 9.0] ms (may keep it)" in text
    front = front_of(asked, [made[4]])
    assert "of limits: ~6.0 [4.0, 9.0] ms in latency_ms<=5 (may keep it)" in printed(
        tables.front_table(front)
    )
