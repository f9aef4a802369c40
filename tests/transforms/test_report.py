"""Reports read like a list of what happened."""

from __future__ import annotations

import dataclasses

import pytest

from nas.transforms.report import Report


def test_a_report_is_plain_data() -> None:
    report = Report("fold", ("a: merged",), (("b", "layer norm"),))
    assert str(report).splitlines() == [
        "fold: 1 changes, 1 left",
        "  a: merged",
        "  b: left, layer norm",
    ]
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.transform = "x"


def test_what_holds_of_the_whole_comes_last_and_goes_into_json() -> None:
    report = Report("bitwidth", ("a: int4",), (), ("int4 saves bytes and no time",))
    assert str(report).splitlines()[-1] == "  int4 saves bytes and no time"
    assert Report(**report.to_json()) == report
