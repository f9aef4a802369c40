"""The page in a real browser: it draws, it answers pointer and keyboard, and asks for nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from browser import Browser
from example_page import findings, many
from example_study import trials

from nas.core.fidelity import Fidelity
from nas.core.measurement import Measurement
from nas.core.objective import Constraint
from nas.report import numbers
from nas.report.pick import pick

Shown = Callable[..., Browser]
SELECTED = "document.querySelector('#selected .headline').textContent.trim()"
POINTS = (
    "[...document.querySelectorAll('#front-plot .point')].map(p => p.getAttribute('aria-label'))"
)


def typed(name: str, value: float) -> str:
    """Types a limit into the pick box."""
    return (
        f"(() => {{ const box = document.querySelector('[data-limit={name}]');"
        f"box.value = '{value}'; box.dispatchEvent(new Event('input')); }})()"
    )


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("dark", [False, True])
def test_it_draws_at_every_size_without_complaint_or_request(
    width: int, dark: bool, shown: Shown, tmp_path: Path
) -> None:
    page = shown(width=width, height=844, dark=dark)
    assert page.errors == []
    assert page.requests == [(tmp_path / "r.html").as_uri()]
    assert page.tell("document.documentElement.scrollWidth <= innerWidth")
    empty = ("[...document.querySelectorAll('main section:not([hidden])')]"
             ".filter(s => !s.querySelector('svg')).map(s => s.id)")  # fmt: skip
    assert page.tell(empty) == []
    paper = page.tell("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) < 150) is dark
    page.picture(tmp_path / "whole.png")
    assert (tmp_path / "whole.png").stat().st_size > 50_000


def test_a_study_that_found_nothing_yet_says_so(shown: Shown) -> None:
    some = [t for t in trials() if t.state in ("running", "failed")]
    page = shown(findings(some, moments=[], events=[]), width=390)
    assert page.errors == []
    said = page.tell("document.getElementById('front-plot').textContent")
    assert said == "No point on the front yet."
    hidden = "[...document.querySelectorAll('main section')].filter(s => s.hidden).map(s => s.id)"
    assert page.tell(hidden) == ["networks", "lines", "devices"]


def test_one_objective_is_drawn_against_what_else_is_known(shown: Shown) -> None:
    page = shown(findings(None, "accuracy"))
    assert page.errors == []
    assert len(page.tell(POINTS)) == 1
    assert page.tell("document.querySelectorAll('#front-plot .other').length") > 10


def test_text_can_be_read_in_both_schemes(shown: Shown) -> None:
    """Contrast of 4.5 at least, of WCAG 2.2, for what is written in the page's own colours."""
    script = """(() => {
      const light = (text) => { const [r, g, b] = text.match(/[\\d.]+/g).map((n) => {
        const c = n / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
      const root = document.querySelector('main'), probe = root.appendChild(document.createElement('i'));
      const of = (name) => { probe.style.color = `var(--${name})`; return light(getComputedStyle(probe).color); };
      const found = {};
      for (const paper of ['paper', 'raised']) for (const ink of ['ink', 'soft', 'accent', 'certain', 'likely', 'possible']) {
        const [a, b] = [of(paper), of(ink)].sort((x, y) => y - x);
        found[`${ink} on ${paper}`] = (a + 0.05) / (b + 0.05);
      }
      probe.remove();
      return found;
    })()"""  # noqa: E501
    for dark in (False, True):
        low = {name: r for name, r in shown(dark=dark).tell(script).items() if r < 4.5}
        assert low == {}


def test_numbers_are_written_as_in_the_tables(shown: Shown) -> None:
    page = shown()
    script = Path(numbers.__file__).parent / "page" / "numbers.js"
    cases = [
        Measurement("accuracy", 97.2, "%", 95.1, 98.8, 0.9, 200, "measured", ""),
        Measurement("latency_ms", 0.1635, "ms", 0.1594, 0.1676, 0.001, 9, "measured", ""),
        Measurement("params", 28589128.0, "", 28589128.0, 28589128.0, 0, 1, "measured", ""),
        Measurement("latency_ms", 2.0, "ms", 1.0, 4.1, 0.5, 9, "predicted", "datasheet"),
    ]
    for case in cases:
        given = {"value": case.value, "low": case.low, "high": case.high,
                 "predicted": case.source == "predicted"}  # fmt: skip
        asked = f"(() => {{ {script.read_text()}; return interval({json.dumps(given)}, {json.dumps(case.unit)}) }})()"  # noqa: E501
        assert page.tell(asked).replace("\u00a0", " ") == numbers.interval(case)
    for value in (0.0, 0.00012345, 2.31456, 640.0, 9999.0, 12345.6, 28589128.0, -3.5e6):
        asked = (
            f"(() => {{ {script.read_text()}; return [plain({value}), duration({abs(value)})] }})()"
        )
        expected = [numbers.plain(value), numbers.duration(abs(value))]
        assert [t.replace("\u00a0", " ") for t in page.tell(asked)] == expected


def test_pointing_at_a_network_shows_it(shown: Shown) -> None:
    page = shown()
    page.hover("#front-plot .point .mark")
    told = page.tell("document.getElementById('tip').innerText")
    assert page.tell("document.getElementById('tip').hidden") is False
    for part in ("trial ", "accuracy", "latency", "kernel", "mixer"):
        assert part in told
    page.press("Escape")
    assert page.tell("document.getElementById('tip').hidden") is True


def test_a_click_selects_everywhere(shown: Shown) -> None:
    page = shown()
    trial = findings().fronts["cpu"].members[-1].trial
    page.click(f"#front-plot .point[aria-label^='trial {trial},'] .mark")
    assert page.tell(SELECTED) == f"trial {trial}"
    pressed = "document.querySelector('#front-plot [aria-pressed=true]').getAttribute('aria-label')"
    assert page.tell(pressed).startswith(f"trial {trial},")
    assert page.tell("document.querySelectorAll('.lines .chosen').length") == 1
    row = "document.querySelector('tr[aria-selected=true] button').textContent"
    assert page.tell(row) == str(trial)
    card = "document.querySelector('.network-card header [aria-pressed=true]').textContent"
    assert page.tell(card) == f"trial {trial}"
    assert page.errors == []


def test_the_keyboard_reaches_the_front_and_moves_along_it(shown: Shown) -> None:
    page = shown()
    where = "document.activeElement.closest('#front-plot') !== null"
    for _ in range(40):
        page.press("Tab")
        if page.tell(where):
            break
    assert page.tell(where)
    members = findings().fronts["cpu"].members
    ordered = [m.trial for m in sorted(members, key=lambda m: m.measurements["latency_ms"].value)]
    start = int(page.tell("document.activeElement.getAttribute('aria-label')").split(",")[0][6:])
    page.press("ArrowRight")
    after = ordered[(ordered.index(start) + 1) % len(ordered)]
    assert page.tell(SELECTED) == f"trial {after}"
    assert page.tell("document.activeElement.getAttribute('aria-label')").startswith(
        f"trial {after},"
    )
    page.press("ArrowLeft")
    assert page.tell(SELECTED) == f"trial {start}"


def test_every_control_has_a_name(shown: Shown) -> None:
    nameless = """[...document.querySelectorAll('button, select, input, [role=button], [tabindex]')]
      .filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || e.closest('label')))
      .map((e) => e.outerHTML.slice(0, 90))"""
    assert shown().tell(nameless) == []


def test_axes_and_devices_switch(shown: Shown) -> None:
    page = shown(findings(None, "accuracy", "latency_ms", "params"))
    choose = ("(() => {{ const box = [...document.querySelectorAll('#front-controls label')]"
              ".find(l => l.textContent.startsWith('{0}')).querySelector('select');"
              "box.value = '{1}'; box.dispatchEvent(new Event('change')); }})()")  # fmt: skip
    page.tell(choose.format("across", "params"))
    names = "[...document.querySelectorAll('#front-plot text.name')].map(t => t.textContent)"
    across, up = page.tell(names)
    assert across.startswith("parameters, lower is better")
    assert up == "accuracy (%), higher is better"
    page.tell(choose.format("device", "a100"))
    there = findings(None, "accuracy", "latency_ms", "params").fronts["a100"]
    assert len(page.tell(POINTS)) == len(there.members)
    page.tell(choose.format("across", "latency_ms"))
    assert page.tell("document.querySelectorAll('#front-plot .point.predicted').length") > 0
    assert "hollow" in page.tell("document.getElementById('front-legend').textContent")
    assert page.errors == []


@pytest.mark.parametrize(
    ("limits", "prefer", "sure"),
    [({}, "", False), ({"latency_ms": 0.4}, "", False), ({"accuracy": 95}, "latency_ms", False),
     ({"latency_ms": 0.5}, "", True), ({"latency_ms": 2}, "knee", False)],
)  # fmt: skip
def test_the_pick_box_picks_as_the_command_does(
    limits: dict[str, float], prefer: str, sure: bool, shown: Shown
) -> None:
    page = shown()
    for name, value in limits.items():
        page.tell(typed(name, value))
    page.tell("(() => { const box = document.querySelector('#pick-more select');"
              f"box.value = '{prefer}'; box.dispatchEvent(new Event('change')); }})()")  # fmt: skip
    if sure:
        page.click("#pick-more input")
    sense = {"latency_ms": "<=", "accuracy": ">="}
    constraints = [Constraint.parse(f"{n}{sense[n]}{v}") for n, v in limits.items()]
    taken = pick(findings().fronts["cpu"], constraints, prefer or None, 0.95 if sure else None)
    commands = page.tell(
        "[...document.querySelectorAll('#pick-answer code')].map(c => c.textContent)"
    )
    assert commands[0] == f"nas export digits-1 {taken.member.trial} --output out/"
    assert commands[1].startswith("nas pick digits-1")
    for constraint in constraints:
        assert f"--constraint '{constraint}'" in commands[1]


def test_a_limit_that_nobody_keeps_names_the_nearest(shown: Shown) -> None:
    page = shown()
    page.tell(typed("latency_ms", 0.01))
    said = page.tell("document.getElementById('pick-answer').textContent")
    assert said.startswith("No point keeps that. The nearest, trial ")
    assert "latency 0.1" in said


def test_values_pressed_fade_the_front(shown: Shown) -> None:
    page = shown()
    before = page.tell("document.querySelector('#lines-controls [role=status]').textContent")
    page.click(".track button")
    after = page.tell("document.querySelector('#lines-controls [role=status]').textContent")
    assert before == "36 networks"
    kept = int(after.split()[0])
    assert 0 < kept < 36
    faded = page.tell("document.querySelectorAll('#front-plot .out').length")
    assert faded > 0
    page.click("#lines-controls button")
    assert page.tell("document.querySelectorAll('#front-plot .out').length") == 0


def test_a_range_is_drawn_in_by_the_keyboard(shown: Shown) -> None:
    page = shown()
    page.tell("document.querySelector('.track input').focus()")
    for _ in range(3):
        page.press("ArrowRight")
    page.tell("(() => { const low = document.querySelector('.track input'); low.value = 600;"
              "low.dispatchEvent(new Event('input')); })()")  # fmt: skip
    assert "kept" in page.tell(
        "document.querySelector('#lines-controls [role=status]').textContent"
    )
    assert page.tell("document.querySelectorAll('#front-plot .other.out').length") > 0


def test_each_network_of_the_front_is_drawn_with_kernels_bits_zeros_and_times(shown: Shown) -> None:
    page = shown()
    cards = page.tell("document.querySelectorAll('.network-card').length")
    assert cards == min(6, len(findings().fronts["cpu"].members))
    text = page.tell("document.querySelector('.network-card').innerText")
    for part in ("stem", "stages.0", "13×13 dw", "int8 in 1 of 2", "0.35 ms", "70 %", "32×32 map"):
        assert part in text.replace("\u00a0", " ")
    drawn = "[...s.querySelectorAll('rect')].map(r => +r.getAttribute('width'))"
    first = "[...document.querySelectorAll('.network-card .stage')].slice(0, 2)"
    sides = page.tell(f"{first}.map(s => {drawn})")
    (largest, three), (half, thirteen) = sides
    assert half == pytest.approx(largest / 2)
    assert three == pytest.approx(3 / 32 * largest)
    assert thirteen == pytest.approx(13 / 32 * largest)


def test_time_may_stand_below_the_curve(shown: Shown) -> None:
    page = shown()
    page.click("#curve-controls button:last-child")
    names = page.tell(
        "[...document.querySelectorAll('#curve-plot text.name')].map(t => t.textContent)"
    )
    assert names[0].startswith("time (min)")
    assert page.tell("document.querySelectorAll('#budget-plot tbody tr').length") >= 3


def test_evaluations_and_epochs_are_counted_whole(shown: Shown) -> None:
    few = findings(many(3))
    brief = replace(few.spec, fidelity=Fidelity(epochs=1))
    page = shown(replace(few, spec=brief))
    named = page.tell("[...document.querySelectorAll('#curve-plot text')].map(t => t.textContent)")
    assert "1" in named and not [text for text in named if "." in text]
    assert "at most 1 epoch of" in page.tell("document.getElementById('foot').textContent")


@pytest.mark.slow
def test_two_thousand_trials_stay_small_and_quick(shown: Shown, tmp_path: Path) -> None:
    page = shown(findings(many(2000)))
    assert (tmp_path / "r.html").stat().st_size < 2e6
    assert page.errors == []
    spent = page.tell(
        "(() => { const start = performance.now(), one = document.querySelector('.track button');"
        "one.click(); document.body.offsetHeight; return performance.now() - start; })()"
    )
    assert spent < 3000  # a tenth of that on a quiet machine
