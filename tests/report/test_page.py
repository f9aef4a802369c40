from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

from example_study import study

from nas.core.measurement import Measurement
from nas.report.documents import dominated, study_document
from nas.report.page import page

VOID = {"meta", "br", "line", "rect", "polyline", "polygon"}


class Outline(HTMLParser):
    """The tags of a page, checked to be nested properly."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def made(*names: str) -> str:
    asked, trials, front = study(*names)
    return page(front, dominated(front, study_document(asked, trials)), "nas 1.2.3  ·  2026-11-21")


def test_the_page_is_well_formed_and_fetches_nothing() -> None:
    text = made()
    outline = Outline()
    outline.feed(text)
    outline.close()
    assert outline.open == []
    tags = {tag for tag, _ in outline.seen}
    assert not tags & {"script", "link", "img", "iframe", "object", "image", "use"}
    attributes = {name for _, found in outline.seen for name in found}
    assert not attributes & {"src", "href", "xlink:href", "srcset"}
    assert not [name for name in attributes if name.startswith("on")]
    assert re.search(r"https?://|//\w|url\(|@import", text) is None


def test_every_point_tells_its_network_and_every_dominated_trial_its_number() -> None:
    text = made()
    _, trials, front = study()
    titles = re.findall(r"<title>(.*?)</title>", text, re.DOTALL)
    for member in front.members:
        [told] = [t for t in titles if t.startswith(f"trial {member.trial}, ") and "kernel: " in t]
        assert "latency_ms: " in told
        assert "on the front (" in told
    faded = [t for t in titles if "dominated" in t]
    complete = sum(t.state == "complete" for t in trials)
    assert len(faded) == complete - len(front.members) - 1  # one lies far behind, outside
    assert "1 far behind, outside the plot" in text


def test_it_suits_a_phone_and_the_dark() -> None:
    text = made()
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text
    assert "max-width" in text


def test_a_panel_for_each_further_objective() -> None:
    assert made("accuracy", "latency_ms", "params").count("<figure>") == 2
    assert made().count("<figure>") == 1


def test_names_are_escaped() -> None:
    _, _, front = study()
    text = page(replace(front, space="<b>&"), [], "nas 1.2.3  ·  2026-11-21")
    assert "<b>&" not in text
    assert "&lt;b&gt;&amp;" in text


def test_predicted_points_are_hollow_and_explained() -> None:
    _, _, front = study()
    guess = Measurement("latency_ms", 0.2, "ms", 0.1, 0.3, 0.05, 9, "predicted", "datasheet")
    first = front.members[0]
    first = replace(first, measurements={**first.measurements, "latency_ms": guess})
    text = page(replace(front, members=(first, *front.members[1:])), [], "nas 1.2.3  ·  2026-11-21")
    assert 'class="point certain predicted"' in text
    assert "hollow: predicted, not measured" in text
