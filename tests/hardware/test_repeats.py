"""What repeated measurements say of intervals: how many stated deviations they lay apart."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.hardware.repeats import APART_S, KEPT, TOLD, Repeats, digest_of


def measured(folder, deviations, stated=0.05, files=12, apart=APART_S):
    """Each deviation is what all files of one measurement differ by together."""
    repeats = Repeats(folder, "host")
    for i, deviation in enumerate(deviations):
        found = {f"file {n}": (np.exp(deviation) * (1 + n), stated) for n in range(files)}
        repeats.add(found, now=1e9 + i * apart)
    return repeats.scale()


def test_before_anything_is_measured_again_what_was_stated_counts(tmp_path):
    repeats = Repeats(tmp_path, "host")
    assert repeats.scale() == 1.0
    for i in range(3):
        repeats.add({f"file {i}": (1.0 + i, 0.05)}, now=1e9 + 100 * i)
    assert repeats.scale() == 1.0


def test_one_repeat_weighs_a_third_and_its_files_share_it(tmp_path):
    # the two differ by two of the deviations that both state together
    found = measured(tmp_path, [0.0, 2 * np.hypot(0.05, 0.05)])
    assert found == pytest.approx(np.sqrt((2 + 4) / 3), rel=1e-4)


@pytest.mark.parametrize("true", [0.4, 1.0, 2.0])
def test_the_scale_is_what_repeats_differ_by(tmp_path, true):
    drawn = np.random.default_rng(1).normal(0, true * 0.05, 400)
    assert measured(tmp_path, drawn) == pytest.approx(true, rel=0.35)


def test_what_is_measured_right_behind_shares_its_neighbours_and_tells_nothing(tmp_path):
    assert measured(tmp_path, [0.0] * 5, apart=APART_S / 10) == 1.0
    # from the eleventh on there is one that is a minute older
    assert measured(tmp_path, [0.0] * 20, apart=APART_S / 10) < 1.0


def test_the_last_repeats_count(tmp_path):
    calm_then_wild = [0.0] * 30 + [0.0, 0.5] * (TOLD // 2)
    assert measured(tmp_path, calm_then_wild) > 4


def test_few_hundred_measurements_are_kept(tmp_path):
    repeats = Repeats(tmp_path, "host")
    for i in range(KEPT + 5):
        repeats.add({"file": (1.0, 0.05)}, now=1e9 + i)
    assert len(next(tmp_path.iterdir()).read_text().splitlines()) == KEPT


def test_nothing_measured_adds_nothing(tmp_path):
    Repeats(tmp_path, "host").add({})
    assert not list(tmp_path.iterdir())


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["at", "files", "a"]), inner),
)


@given(st.lists(st.text() | VALUES.map(json.dumps)))
def test_lines_that_are_none_of_its_own_are_passed_by(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("repeats")
    (folder / "anchors-host.jsonl").write_text("\n".join(lines), encoding="utf-8", errors="replace")
    assert Repeats(folder, "host").scale() == 1.0


def test_a_file_is_known_by_what_it_holds(tmp_path):
    one, same, other = (tmp_path / name for name in "abc")
    for path, text in ((one, "x"), (same, "x"), (other, "y")):
        path.write_text(text)
    assert digest_of(one) == digest_of(same) != digest_of(other)
