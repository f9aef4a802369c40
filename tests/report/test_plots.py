from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from example_study import front, study
from PIL import Image

from nas.core.errors import NasError
from nas.report.documents import dominated, study_document
from nas.report.drawing import cut_off, footer, panel_axes
from nas.report.plots import draw, png

MADE = "nas 1.2.3  ·  2026-11-21"


@pytest.mark.parametrize("names", [(), ("accuracy", "latency_ms", "params"), ("accuracy",)])
def test_a_picture_is_a_png_with_something_on_it(names: tuple[str, ...], tmp_path: Path) -> None:
    asked, made, found = study(*names)
    path = tmp_path / "new" / "front.png"
    draw(found, dominated(found, study_document(asked, made)), path, MADE)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width >= 1600
        pixels = np.asarray(image.convert("RGB"), dtype=int)
    certain, likely = np.array([0, 0x72, 0xB2]), np.array([0xC7, 0x7A, 0])
    marks = [np.abs(pixels - color).sum(axis=2) < 12 for color in (certain, likely)]
    assert sum(mark.sum() for mark in marks) > 200


def test_the_same_front_gives_the_same_file(tmp_path: Path) -> None:
    _, _, found = study()
    for name in ("a.png", "b.png"):
        draw(found, [], tmp_path / name, MADE)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_one_point_and_exact_numbers_can_be_drawn(tmp_path: Path) -> None:
    one = front([{"accuracy": (90.0, 0.0), "macs": (1e6, 0.0)}])
    draw(one, [], tmp_path / "one.png", MADE)
    assert (tmp_path / "one.png").stat().st_size > 10_000


def test_the_footer_names_versions_date_and_what_is_outside() -> None:
    _, _, found = study()
    text = footer(found, MADE, beyond=3)
    for part in ("36 complete", "3 far behind", "onnxruntime 1.23.0", "nas 1.2.3  ·  2026-11-21"):
        assert part in text


def test_a_very_wide_interval_is_cut_off_with_an_arrow_and_leaves_the_others_their_room() -> None:
    rows = [{"accuracy": (90.0 + i, 0.5), "latency_ms": (1.0 + i, 0.05)} for i in range(5)]
    plain = front(rows)
    wide = front([*rows[:4], {"accuracy": (94.0, 0.5), "latency_ms": (5.0, 400.0)}])
    [(x, y)] = panel_axes(wide, [])
    assert (5.0 - 1.0) / (x.high - x.low) > 0.4
    assert x.beyond(wide.members[4].measurements["latency_ms"]) == (True, True)
    assert not any(x.beyond(wide.members[0].measurements["latency_ms"]))
    assert cut_off(wide, [(x, y)]) and not cut_off(plain, panel_axes(plain, []))
    assert "arrows: the interval goes on" in footer(wide, MADE, cut=True)
    assert png(wide, [], MADE) != png(plain, [], MADE)


def test_the_footer_names_members_that_cannot_be_compared() -> None:
    _, _, found = study()
    assert "cannot be compared" not in footer(found, MADE)
    apart = replace(found, unlike={3: ["host: 'a' and 'b'"], 5: ["threads: 1 and 2"]})
    assert "cannot be compared: trial 3, 5" in footer(apart, MADE)


def test_another_ending_is_refused() -> None:
    _, _, found = study()
    with pytest.raises(NasError) as caught:
        draw(found, [], Path("front.jpg"), MADE)
    assert str(caught.value) == (
        "cannot draw a .jpg: 'front.jpg'\n  end the name in .html or .png: --plot front.html"
    )
    with pytest.raises(NasError, match=r"--plot front\.html"):
        draw(found, [], Path("."), MADE)


def test_an_empty_front_is_not_drawn(tmp_path: Path) -> None:
    _, _, found = study()
    with pytest.raises(NasError, match="is empty: nothing to draw"):
        draw(replace(found, members=()), [], tmp_path / "a.png", MADE)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    _, _, found = study()
    (tmp_path / "file").write_text("")
    with pytest.raises(NasError, match=r"cannot write '.*front\.png'"):
        draw(found, [], tmp_path / "file" / "front.png", MADE)
