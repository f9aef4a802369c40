import math
import os

import pytest

from nas.hardware.history import KEPT, REFERENCE, AnchorHistory


def test_the_last_sessions_are_kept_in_order(tmp_path):
    history = AnchorHistory(tmp_path, "host")
    assert history.rows() == [] and history.squares() == (0.0, 0)
    for i in range(KEPT + 5):
        history.add({"dense": 100.0 + i})
    assert [row["dense"] for row in history.rows()] == [105.0 + i for i in range(KEPT)]
    assert [p.name for p in tmp_path.iterdir()] == ["anchors-host.jsonl"]


def test_deviations_are_relative_and_pooled(tmp_path):
    history = AnchorHistory(tmp_path, "host")
    for factor in (0.9, 1.0, 1.1):
        history.add({REFERENCE: 36 * factor, "dense": 100 * factor, "depthwise": 1000.0})
    logs = [math.log(f) for f in (0.9, 1.0, 1.1)]
    mean = sum(logs) / 3
    squares, freedom = history.squares()
    assert squares == pytest.approx(sum((v - mean) ** 2 for v in logs), rel=1e-6)
    assert freedom == 4


def test_a_damaged_line_is_passed_by(tmp_path):
    history = AnchorHistory(tmp_path, "host")
    history.add({"dense": 100.0})
    (path,) = tmp_path.iterdir()
    good = path.read_text()
    path.write_text(good + '{"dense": 1\n[3]\n{"dense": -1}\n{"dense": "x"}\n{}\n' + good)
    assert history.rows() == [{"dense": 100.0}] * 2
    path.write_bytes(b"\xff\xfe")
    assert history.rows() == []


def test_what_is_usual_takes_sessions_enough(tmp_path):
    history = AnchorHistory(tmp_path, "host")
    for value in (10.0, 11.0, 12.0, 90.0):
        history.add({"dense": value})
    assert history.usual() == {}
    history.add({"dense": 11.5})
    assert history.usual() == {"dense": 11.5}


def test_what_a_killed_process_had_begun_goes(tmp_path):
    left, young = tmp_path / "anchors-a.new", tmp_path / "anchors-b.new"
    for path in (left, young):
        path.touch()
    os.utime(left, (1, 1))
    AnchorHistory(tmp_path, "host").add({"dense": 1.0})
    assert young.exists() and not left.exists()
