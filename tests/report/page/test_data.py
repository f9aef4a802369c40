"""The document that a page is given, and how it is put into the page."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from example_page import findings, many, network
from example_study import spec, trials

from nas.core.task import TaskSpec
from nas.report.networks import grouped
from nas.report.numbers import short_unit
from nas.report.page import embedded, page
from nas.report.page.data import page_document

VOID = {"meta", "input", "br"}


class Outline(HTMLParser):
    """The tags of a page, checked to be nested properly, and the text of each script."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)


def outline(text: str) -> Outline:
    found = Outline()
    found.feed(text)
    found.close()
    return found


def test_the_page_is_well_formed_and_names_nothing_outside() -> None:
    found = outline(page(page_document(findings())))
    assert found.open == []
    assert not {tag for tag, _ in found.tags} & {"link", "img", "iframe", "object", "embed"}
    assert not {n for _, attrs in found.tags for n in attrs} & {"src", "href", "srcset"}
    data, script = found.scripts
    assert "digits-1" in json.loads(data)["study"]["name"]
    addresses = set(re.findall(r"https?://[^\s\"'`]+", script))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(|innerHTML|eval\(", script)


def test_no_name_can_leave_the_data() -> None:
    hostile = "</script><script>alert(1)</script><!--\u2028"
    text = page(page_document(findings(missing=[hostile], where=["--storage", hostile])))
    found = outline(text)
    assert len(found.scripts) == 2
    assert json.loads(found.scripts[0])["missing"] == [hostile]
    assert json.loads(embedded({"a": hostile})) == {"a": hostile}


def test_what_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded({"value": float("nan")})


def test_every_trial_keeps_its_numbers_and_choices() -> None:
    found = findings()
    document = json.loads(embedded(page_document(found)))
    numbers = document["devices"][0]["numbers"]["latency_ms"]
    for row, trial in enumerate(found.trials):
        chosen = {d["name"]: d["values"][d["index"][row]] for d in document["decisions"]
                  if d["index"][row] >= 0}  # fmt: skip
        assert set(chosen) == set(trial.architecture.choices)
        joined = {name: "/".join(chosen[part] for part in parts)
                  for name, parts in document["groups"].items()}  # fmt: skip
        assert joined == grouped(trial.architecture.choices)
        timed = trial.measurements.get("latency_ms@cpu:b1/trained")
        assert numbers["value"][row] == (timed and pytest.approx(timed.value, rel=1e-5))
        assert numbers["high"][row] == (timed and pytest.approx(timed.high, rel=1e-5))


def test_quantities_are_the_objectives_then_what_else_is_known() -> None:
    document = page_document(findings())
    assert [q["name"] for q in document["quantities"]] == [
        "accuracy", "latency_ms", "params", "macs"]  # fmt: skip
    assert [q["unit"] for q in document["quantities"]] == ["%", "ms", "", ""]
    assert short_unit("10^6 bytes") == "MB"


def test_each_device_has_its_own_front_order_and_curve() -> None:
    found = findings()
    here, there = page_document(found)["devices"]
    assert [d["name"] for d in (here, there)] == ["cpu", "a100"]
    for device in (here, there):
        front = found.fronts[device["name"]]
        members = [found.trials[m["row"]].number for m in device["front"]]
        assert members == [m.trial for m in front.members]
        assert set(device["order"]) == {"knee", "accuracy", "latency_ms"}
        assert sorted(device["order"]["knee"]) == sorted(m["row"] for m in device["front"])
        assert device["curve"]["hypervolume"][-1] == pytest.approx(front.hypervolume, rel=1e-5)
        assert device["curve"]["hypervolume"] == sorted(device["curve"]["hypervolume"])
        assert device["curve"]["evaluations"][-1] == 38  # one is still running
    assert here["retarget"] is None
    assert there["retarget"]["to"] == "a100"
    assert 1 in there["numbers"]["latency_ms"]["predicted"]


def test_no_folder_of_this_machine_is_written_down() -> None:
    task = TaskSpec("folder:/home/me/secret/photos.zip", (3, 32, 32), 10)
    document = page_document(findings(spec=replace(spec(), task=task)))
    assert document["study"]["data"] == "folder:photos.zip"
    assert "secret" not in embedded(document)


def test_a_study_of_two_thousand_trials_is_small() -> None:
    document = page_document(findings(many(2000), fronts={}, retargets={}, networks={}))
    assert len(page(document)) < 1_500_000


def test_a_study_without_a_trial_has_a_page() -> None:
    running = [t for t in trials() if t.state == "running"]
    document = page_document(findings(running, moments=[], events=[]))
    assert document["devices"][0]["front"] == []
    assert outline(page(document)).open == []


def test_a_network_is_drawn_in_stages() -> None:
    drawn = network()
    stem, middle, head = drawn["stages"]
    assert (stem["map"], stem["kernels"][0]["size"], stem["kernels"][0]["kind"]) == (
        [32, 32], [3, 3], "convolution")  # fmt: skip
    assert middle["bits"] == {"32": 1, "8": 1}
    assert middle["zeros"] == pytest.approx(0.5 * 16 / (16 * 13**2 + 16), rel=1e-3)
    assert (middle["ms"], head["ms"], drawn["ms"]) == (0.35, 0.0, 0.5)
    assert head["kernels"] == []
    assert [(row["name"], row["stage"]) for row in drawn["layers"]] == [
        ("stages.0.mixer", 1), ("stem.conv", 0),
        ("stages.0.expand", 1), ("(runtime)", -1)]  # fmt: skip
