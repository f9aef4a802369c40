from __future__ import annotations

import io
from dataclasses import dataclass, replace

import pytest
from example_study import complete, spec, study, trials
from rich.console import Console

from nas.core.front import Front, front_of
from nas.core.study import StudySpec
from nas.core.trial import Rung, Trial
from nas.report import live


@dataclass
class Seen:
    """A snapshot as the session makes it."""

    spec: StudySpec
    trials: list[Trial]
    phase: str = "searching"
    jobs: tuple[str, ...] = ()

    @property
    def front(self) -> Front:
        return front_of(self.spec, self.trials)


def console(terminal: bool = False, height: int = 50) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    made = Console(file=out, width=80, height=height, force_terminal=terminal, color_system=None,
                   highlight=False, markup=False, legacy_windows=False)  # fmt: skip
    return made, out


def ticking(*seconds: float) -> live.Clock:
    times = iter(seconds)
    return lambda: next(times)


def test_plain_lines_for_each_trial_and_phase() -> None:
    out_console, out = console()
    running = [Trial(n, complete(n, 90.0, 0.5).architecture) for n in range(3)]
    stopped = replace(running[1], state="stopped", rungs=(Rung(0, 0, 1, 71.25, 119, None),))
    failed = replace(running[2], state="failed", error="out of\nmemory")
    view = live.Lines(out_console, ticking(0, 0, 5, 61, 75, 130))
    with view:
        view.on(Seen(spec(), running))
        view.on(Seen(spec(), [complete(0, 90.0, 0.5), *running[1:]]))
        view.on(Seen(spec(), [complete(0, 90.0, 0.5), stopped, running[2]]))
        view.on(Seen(spec(), [complete(0, 90.0, 0.5), stopped, failed]))
        view.on(Seen(spec(), [complete(0, 90.0, 0.5), stopped, failed], phase="confirming"))
    assert out.getvalue().splitlines() == [
        "  0:00  searching",
        "  0:05  1/37  trial 0 complete  accuracy 89.6 ±2.1 %  latency_ms 0.500 ±0.023 ms",
        "  1:01  2/37  trial 1 stopped  accuracy 71.25 % at epoch 1",
        "  1:15  3/37  trial 2 failed  out of memory",
        "  2:10  confirming",
    ]


def test_a_resumed_search_says_what_is_recorded_instead_of_telling_it_again() -> None:
    out_console, out = console()
    view = live.Lines(out_console, ticking(*range(9)))
    made = trials()
    view.on(Seen(spec(), made[:3]))
    view.on(Seen(spec(), made[:4]))
    lines = [line.strip().split("  ", 1)[1] for line in out.getvalue().strip().splitlines()]
    assert lines[:2] == ["3 of 37 trials are already recorded", "searching"]
    assert len(lines) == 3
    assert "4/37  trial 3 complete" in lines[2]


def test_an_infeasible_trial_names_the_limit() -> None:
    assert live.told(trials()[37], spec()) == "trial 37 infeasible  breaks latency_ms<=5"


def test_the_view_on_a_terminal_shows_all_parts() -> None:
    out_console, out = console(terminal=True)
    asked, made, _ = study()
    view = live.Display(out_console, ticking(0, 30, 90))
    with view:
        view.on(Seen(asked, made[:10], jobs=("training 12", "timing 3, 4")))
        view.on(Seen(asked, made[:20], jobs=("training 21",)))
        text = out.getvalue()
    assert "10/37 trials" in text
    assert "20/37 trials" in text
    assert "now: training 12, timing 3, 4" in text
    assert "searching  1 min 30 s, 6.7 trials/min, about 2 min 33 s left" in text
    assert "y: accuracy (%), higher is better" in text
    assert "likely" in text


def test_the_current_rungs_are_named() -> None:
    waiting = [
        replace(t, state="running") for t in (complete(3, 90.0, 0.5), complete(4, 90.0, 0.5))
    ]
    first = replace(waiting[0], file="f", rungs=(), trained=())
    second = replace(waiting[1], file="f", rungs=(Rung(0, 0, 1, 71.25, 119, None),), trained=())
    unbuilt = Trial(5, first.architecture)
    asked = spec()
    assert asked.fidelity.rungs == (1, 3, 9)
    assert (
        live.rungs(Seen(asked, [first, second, unbuilt]))
        == "rungs ahead: 3 at 1 epoch; 4 at 3 epochs"
    )
    assert live.rungs(Seen(asked, trials()[:3])) == ""


@pytest.mark.parametrize("height", [12, 24, 40, 60])
@pytest.mark.parametrize("names", [(), ("accuracy",), ("accuracy", "latency_ms", "params")])
def test_the_view_fits_the_terminal(height: int, names: tuple[str, ...]) -> None:
    out_console, out = console(height=height)
    asked, made, _ = study(*names)
    out_console.print(live.front_view(Seen(asked, made), height - live.HEAD))
    lines = out.getvalue().splitlines()
    assert len(lines) <= height - live.HEAD
    assert max(map(len, lines)) <= 80


def test_the_view_before_the_first_result() -> None:
    out_console, out = console()
    out_console.print(live.front_view(Seen(spec(), []), 40))
    assert out.getvalue() == "no point on the front yet\n"


def test_quiet_shows_nothing_and_remembers() -> None:
    out_console, out = console(terminal=True)
    view = live.view(out_console, quiet=True)
    with view:
        seen = Seen(spec(), trials())
        view.on(seen)
    assert out.getvalue() == ""
    assert view.last is seen


def test_a_bar_for_those_who_look(monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    monkeypatch.setattr(live.sys, "stderr", err)
    asked, made, _ = study()
    with live.watching(None) as nobody:
        assert nobody is None  # not a terminal, and no notebook
    monkeypatch.setattr(err, "isatty", lambda: True, raising=False)
    with live.watching(None) as bar:
        bar.on(Seen(asked, []))
        bar.on(Seen(asked, made[:10]))
        bar.on(Seen(asked, made[:10]))
    assert "digits-1" in err.getvalue()
    assert "10/37" in err.getvalue()
    assert "front 7, accuracy 97.8 ±2.1 %" in err.getvalue()
    with live.watching(live.Silent()) as given:
        assert type(given) is live.Silent


def test_the_console_decides() -> None:
    assert isinstance(live.view(console(terminal=True)[0]), live.Display)
    assert type(live.view(console()[0])) is live.Lines


def test_the_text_plot_has_every_point_of_the_front() -> None:
    _, _, front = study()
    text = live.scatter(front, [])
    assert text.count("o") - text.split("|")[0].count("o") >= 1
    canvas = [line.partition("|")[2] for line in text.splitlines() if "|" in line]
    assert sum(row.count("o") for row in canvas) == len(front.members)
    assert len(canvas) == live.PLOT[1]
