"""A study as an object, for notebooks: its displays, its table, its view in Optuna."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.api import study as looking
from nas.api.places import storage_url
from nas.core.errors import NasError
from nas.core.front import Front
from nas.core.study import StudySpec
from nas.core.trial import Trial
from nas.report.pick import Pick
from nas.store.store import Store

if TYPE_CHECKING:
    import optuna
    import pandas as pd


@dataclass(frozen=True)
class Study:
    """A study of a database, read anew whenever it is asked; so it may be looked at while it runs.

    In a notebook it shows itself as the table and the picture of its front.

    Args:
        name: of the study. storage: the database, as everywhere.

    Raises: NasError, by every method, where there is no such study.
    """

    name: str
    storage: str | None = None

    @property
    def spec(self) -> StudySpec:
        """The whole experiment as data."""
        with Store(storage_url(self.storage), read_only=True) as store:
            return store.spec(self.name)

    @property
    def trials(self) -> list[Trial]:
        """Every trial with all that is recorded of it."""
        with Store(storage_url(self.storage), read_only=True) as store:
            return store.trials(self.name)

    def front(self, device: str | None = None) -> Front:
        """The front, on the study's device or another one that it has numbers for."""
        return looking.front(self.name, device, self.storage)

    def pick(self, *constraints: str, prefer: str | None = None, **options: Any) -> Pick:
        """One point of the front, and why: `study.pick("latency_ms<=1")`."""
        return looking.pick(self.name, constraints, prefer, storage=self.storage, **options)

    def report(self, output: str | Path, **options: Any) -> dict[str, Any]:
        """Writes the page of the study (`nas report`)."""
        from nas.api.reporting import report

        return report(self.name, output, storage=self.storage, **options)

    def to_pandas(self) -> pd.DataFrame:
        """A row for each trial: how it ended, its choices, and its numbers with their intervals.

        Columns: `trial` (the index), `state`, `origin`, `epochs`, `reused`, `error`, `membership`
        (of the members of the front), `unlike` (why its numbers cannot be compared with the
        others'); each objective with `_low`, `_high`, `_source` and `_basis`; then each decision
        under its own name.
        Raises: NasError where pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise NasError("pandas is not installed here", "type pip install pandas") from None
        front = self.front()
        members = {m.trial: m.membership for m in front.members}
        unlike = {**front.elsewhere, **front.unlike}
        found = looking.show(self.name, storage=self.storage)["rows"]
        rows = [_row(row, members, unlike) for row in found]
        return pd.DataFrame(rows).set_index("trial") if rows else pd.DataFrame()

    def to_optuna(self) -> optuna.Study:
        """The study as Optuna has it, in memory: for `optuna.visualization` and the dashboard."""
        from nas.report.optuna import optuna_study, spans

        with Store(storage_url(self.storage), read_only=True) as store:
            spec, trials = store.spec(self.name), store.trials(self.name)
            when = spans(store.events(self.name), store.moments(self.name))
        return optuna_study(spec, trials, when)

    def __repr__(self) -> str:
        from nas.report.tables import counted

        front = self.front()
        return f"Study({self.name!r}: {front.space} on {front.device}, {counted(front.trials)})"

    def _repr_html_(self) -> str:
        return front_html(self.front())


def front_html(front: Front) -> str:
    """A front as a table with its picture, as a notebook shows it.

    >>> from nas.core.front import Front
    >>> front_html(Front("s", "<b>", "cpu", (), (), {"complete": 0}, 0.0, ()))
    '<h4>s: &lt;b&gt; on cpu</h4><p>no trials, no point on the front</p>'
    """
    from nas.report.drawing import title
    from nas.report.networks import describe, telling
    from nas.report.tables import counted, incomparable

    head = f"<h4>{escape(title(front))}</h4>"
    if not front.members:
        return f"{head}<p>{counted(front.trials)}, no point on the front</p>"
    order = telling(m.choices for m in front.members)
    names = [o.name for o in front.objectives]
    cells = "".join(f"<th>{escape(n)}</th>" for n in ("trial", *names, "on the front", "network"))
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in texts)}</tr>"
        for texts in _lines(front, names, lambda choices: describe(choices, order))
    )
    table = f"<table><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table>"
    told = (counted(front.trials), *incomparable(front, front.members[0].trial))
    said = "".join(f"<p>{escape(text)}</p>" for text in told)
    return f"{head}{said}{_picture(front)}{table}"


def _lines(front: Front, names: Sequence[str], about: Any) -> list[list[str]]:
    from nas.core.membership import verdict
    from nas.report.numbers import interval, percent

    return [
        [
            str(m.trial),
            *(interval(m.measurements[n]) for n in names),
            f"{verdict(m.membership)} {percent(m.membership)}",
            about(m.choices),
        ]
        for m in front.members
    ]


def _picture(front: Front) -> str:
    """The PNG of a front inside the document."""
    import base64

    from nas.report.plots import png

    data = base64.b64encode(png(front, [], "")).decode()
    style = "max-width:640px;width:100%"
    return f'<img alt="the front" style="{style}" src="data:image/png;base64,{data}">'


def _row(
    row: dict[str, Any], members: Mapping[int, float], unlike: Mapping[int, Sequence[str]]
) -> dict[str, Any]:
    plain: dict[str, Any] = {
        n: row[n] for n in ("trial", "state", "origin", "epochs", "reused", "error")
    }
    plain["membership"] = members.get(row["trial"])
    plain["unlike"] = "; ".join(unlike.get(row["trial"], ()))
    for name, found in row["measurements"].items():
        plain |= {name: found["value"], f"{name}_low": found["low"],
                  f"{name}_high": found["high"], f"{name}_source": found["source"],
                  f"{name}_basis": found["basis"]}  # fmt: skip
    return {**plain, **row["choices"]}
