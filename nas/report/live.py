"""A search while it runs: a live view on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from tqdm import tqdm

from nas.core.front import Front, counts
from nas.core.known import measure
from nas.core.measurement import Measurement
from nas.report.axes import axis, pairs
from nas.report.numbers import compact, duration, plain, with_unit
from nas.report.tables import counted, front_rows

if TYPE_CHECKING:  # a view only reads snapshots; the session brings the whole database with it
    from nas.core.study import StudySpec
    from nas.core.trial import Trial
    from nas.session import Snapshot

Clock = Callable[[], float]
PLOT = (64, 10)  # columns and lines of the text plot
HEAD = 7  # lines above the front


class View(Protocol):
    """Something that watches a search; a context, so that the terminal is always given back."""

    last: Snapshot | None

    def on(self, snapshot: Snapshot) -> None:
        """Takes in how the search stands."""
        ...

    def __enter__(self) -> Self:
        """Begins to watch."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """Leaves the terminal as it was."""
        ...


def view(console: Console, quiet: bool = False) -> View:
    """The view that suits the console: live on a terminal, lines elsewhere, silent if quiet."""
    if quiet:
        return Silent()
    return Display(console) if console.is_terminal else Lines(console)


class Silent:
    """Remembers the last snapshot and shows nothing."""

    def __init__(self) -> None:
        self.last: Snapshot | None = None

    def on(self, snapshot: Snapshot) -> None:
        """Takes in how the search stands."""
        self.last = snapshot

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        return None


class Lines(Silent):
    """One plain line for each finished trial and each change of phase."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        super().__init__()
        self._console = console
        self._clock = clock
        self._start = clock()
        self._phase = ""
        self._told: set[int] | None = None

    def on(self, snapshot: Snapshot) -> None:
        """Prints what is new since the last snapshot."""
        self.last = snapshot
        over = [t for t in snapshot.trials if t.state != "running"]
        if self._told is None:
            self._told = {t.number for t in over}
            if over:
                self._print(f"{len(over)} of {snapshot.spec.trials} trials are already recorded")
        if snapshot.phase != self._phase:
            self._phase = snapshot.phase
            self._print(snapshot.phase)
        for trial in over:
            if trial.number not in self._told:
                self._told.add(trial.number)
                done = f"{len(self._told)}/{snapshot.spec.trials}"
                self._print(f"{done}  {told(trial, snapshot.spec)}")

    def _print(self, text: str) -> None:
        seconds = int(self._clock() - self._start)
        stamp = f"{seconds // 60}:{seconds % 60:02d}"
        self._console.print(f"{stamp:>6}  {text}", markup=False, highlight=False, soft_wrap=True)


class Display(Silent):
    """Progress, what runs, the front so far as a plot and a table, and the time left."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._start = clock()
        self._begun: int | None = None
        self._shown = (-1, "")
        self._front: RenderableType = Text()
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._live.stop()

    def on(self, snapshot: Snapshot) -> None:
        """Draws the search anew; the front only when a trial ended or the phase changed."""
        self.last = snapshot
        done = sum(t.state != "running" for t in snapshot.trials)
        if self._begun is None:
            self._begun = done
        if self._shown != (done, snapshot.phase):
            self._shown = (done, snapshot.phase)
            self._front = front_view(snapshot, self._live.console.height - HEAD)
        elapsed = self._clock() - self._start
        pace = done - self._begun, elapsed
        self._live.update(Group(_head(snapshot, done, *pace), self._front), refresh=True)


class Bar(Silent):
    """One line for a terminal or a notebook: trials done, time left, the front so far."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: Any = None

    def on(self, snapshot: Snapshot) -> None:
        """Moves the bar; the front is worked out when a trial has ended."""
        self.last = snapshot
        done = sum(t.state != "running" for t in snapshot.trials)
        if self._bar is None:
            total, name = snapshot.spec.trials, snapshot.spec.name
            self._bar = tqdm(total=total, desc=name, unit="trial", initial=done)
        elif self._bar.n == done:
            return
        self._bar.update(done - self._bar.n)
        self._bar.set_postfix_str(_so_far(snapshot))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._bar is not None:
            self._bar.close()


def _so_far(snapshot: Snapshot) -> str:
    """The front in a few words: how many points, and the best of the first objective."""
    front = snapshot.front
    if not front.members:
        return "no point on the front yet"
    first = front.objectives[0]
    best = min(front.members, key=lambda m: first.sign * m.measurements[first.name].value)
    return f"front {len(front.members)}, {first.name} {compact(best.measurements[first.name])}"


@contextmanager
def watching(watch: Any) -> Iterator[Any]:
    """The watcher given; without one a `Bar` where somebody looks: on a terminal, in a notebook."""
    if watch is not None or not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        yield watch
        return
    with Bar() as bar:
        yield bar


def told(trial: Trial, spec: StudySpec) -> str:
    """A finished trial in one line: `trial 3 complete  accuracy 97.2 ±1.9 %  latency_ms ...`."""
    parts = [f"trial {trial.number} {trial.state}"]
    for objective in spec.objectives:
        measurement = measure(trial, objective, spec)
        if measurement is not None:
            parts.append(f"{objective.name} {compact(measurement)}")
    if trial.state == "stopped" and trial.rungs:
        last, score = trial.rungs[-1], spec.task.score_name
        number = with_unit(plain(last.score), spec.task.score_unit)
        parts.append(f"{score} {number} at epoch {last.epochs}")
    broken = [name for name, excess in trial.violations.items() if excess > 0]
    if broken:
        parts.append("breaks " + ", ".join(broken))
    if trial.error:
        parts.append(" ".join(trial.error.split())[:100])
    if trial.reused:
        parts.append("reused")
    return "  ".join(parts)


def time_left(elapsed: float, done: int, rest: int) -> float | None:
    """Seconds until the last trial at the pace so far; None before the first one ended.

    >>> time_left(60.0, 3, 6), time_left(60.0, 0, 9)
    (120.0, None)
    """
    return elapsed / done * max(0, rest) if done else None


def front_view(snapshot: Snapshot, lines: int) -> RenderableType:
    """The front so far in so many lines: a small table, above it a plot where there is room."""
    front = snapshot.front
    if not front.members:
        return Text("no point on the front yet", style="dim")
    parts: list[RenderableType] = []
    plot_lines = PLOT[1] + 5
    if len(front.objectives) > 1 and lines >= plot_lines + 8:
        parts.append(Text(scatter(front, _others(front, snapshot)) + "\n"))
        lines -= plot_lines
    return Group(*parts, *front_rows(front, most=max(1, (lines - 2) // 2)))


def _others(front: Front, snapshot: Snapshot) -> list[dict[str, Measurement]]:
    """The numbers of the trials that have all objectives but are not on the front."""
    members, found = {m.key for m in front.members}, []
    for trial in snapshot.trials:
        known = {o.name: measure(trial, o, snapshot.spec) for o in front.objectives}
        if trial.key not in members and all(known.values()):
            found.append({n: m for n, m in known.items() if m is not None})
    return found


def scatter(
    front: Front, others: Sequence[Mapping[str, Measurement]], size: tuple[int, int] = PLOT
) -> str:
    """The front as text: `o` its points, `.` the others; y is the first objective."""
    across, up = pairs(front)[0]
    rows = [m.measurements for m in front.members]
    x, y = axis(across, rows, others), axis(up, rows, others)
    others = [o for o in others if x.shows(o[x.name].value) and y.shows(o[y.name].value)]
    width, height = size
    canvas = [[" "] * width for _ in range(height)]
    for mark, points in ((".", others), ("o", rows)):
        for point in points:
            column = round(x.at(point[across.name].value) * (width - 1))
            line = round((1 - y.at(point[up.name].value)) * (height - 1))
            canvas[line][column] = mark
    ends = [plain(y.high), *[""] * (height - 2), plain(y.low)]
    margin = max(map(len, ends))
    lines = [f"{e:>{margin}} |{''.join(row).rstrip()}" for e, row in zip(ends, canvas, strict=True)]
    low, high = plain(x.low), plain(x.high)
    scale = f"{low}{high:>{width - len(low)}}"
    named = f"x: {x.label}{' (logarithmic)' if x.log else ''}"
    pad = " " * (margin + 2)
    return "\n".join(
        [f"y: {y.label}", *lines, f"{pad[:-1]}+{'-' * width}", pad + scale, pad + named]
    )


def _head(snapshot: Snapshot, done: int, ended: int, elapsed: float) -> RenderableType:
    """Progress bar, pace and time left, counts, the rungs ahead, the jobs under way.

    `done` trials are over, `ended` of them in the `elapsed` seconds that were watched.
    """
    total = snapshot.spec.trials
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        Text(snapshot.spec.name, style="bold"),
        ProgressBar(total=total, completed=done, width=30),
        Text(f"{done}/{total} trials"),
    )
    left = time_left(elapsed, ended, total - done)
    rest = "" if left is None else f", about {duration(left)} left"
    state = f"{snapshot.phase}  {duration(elapsed)}{pace(ended, elapsed)}{rest}"
    running = ", ".join(snapshot.jobs) or "nothing"
    lines = [state, counted(counts(snapshot.trials)), rungs(snapshot), f"now: {running}"]
    dim = [Text(t, style="dim", no_wrap=True, overflow="ellipsis") for t in lines]
    return Group(bar, *dim, Text())


def pace(ended: int, elapsed: float) -> str:
    """How many trials end in a minute, or in an hour where those are few; empty before the first.

    >>> pace(9, 180.0), pace(3, 3600.0), pace(0, 60.0)
    (', 3 trials/min', ', 3 trials/h', '')
    """
    if not ended or elapsed <= 0:
        return ""
    minute = 60 * ended / elapsed
    return f", {minute:.2g} trials/min" if minute >= 1 else f", {60 * minute:.2g} trials/h"


def rungs(snapshot: Snapshot) -> str:
    """Which networks are before which rung: `rungs ahead: 12, 13 at 1 epoch; 9 at 3 epochs`."""
    towards: dict[int, list[str]] = {}
    for trial in snapshot.trials:
        if trial.state == "running" and trial.file:
            reached = max((r.epochs for r in trial.rungs if not r.repeat), default=0)
            ahead = [e for e in snapshot.spec.fidelity.rungs if e > reached]
            if ahead:
                towards.setdefault(ahead[0], []).append(str(trial.number))
    parts = [
        f"{', '.join(numbers)} at {epochs} epoch{'s' if epochs > 1 else ''}"
        for epochs, numbers in sorted(towards.items())
    ]
    return f"rungs ahead: {'; '.join(parts)}" if parts else ""
