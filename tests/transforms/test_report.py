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
