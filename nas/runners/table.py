"""A tabulated benchmark: a folder with the rows of a search space and a `table.toml` that says
what they are. Anyone's table of this form can be searched (`nas.runners.replay`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nas.core.architecture import Architecture, Value
from nas.core.decision import Choice, is_number
from nas.core.errors import NasError
from nas.core.objective import Objective
from nas.core.pareto import hypervolume, non_dominated
from nas.core.space import SearchSpace
from nas.runners.cells import Columns, coded, columns_of, numbers
from nas.runners.conditions import conditions
from nas.runners.description import FILE, described

Array = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Level:
    """The first objective after a shorter training: `values` is `(rows, seeds)`, nan if blank."""

    epochs: float
    values: Array


@dataclass(frozen=True)
class Table:
    """Every row of a tabulated benchmark, with the space they are points of.

    Args:
        name: the table's name. source, licence: where its numbers are from.
        space: the decisions; those that are blank in some rows exist under conditions.
        complete: whether every architecture of the space has a row.
        objectives: what is minimised or maximised.
        known: for each objective, whether it is known before training.
        values: for each objective `(rows, seeds)`, nan where a cell is blank.
        codes: for each row the index of each decision's value, -1 where it does not exist.
        levels: trainings from the shortest to the full one; empty where there is only the full one.
        reference: the point that hypervolume is measured to, one number for each objective.
        dropped: how many rows were left out because an objective was blank in all seeds.
    """

    name: str
    space: SearchSpace
    complete: bool
    objectives: tuple[Objective, ...]
    known: tuple[bool, ...]
    values: tuple[Array, ...]
    codes: Codes
    levels: tuple[Level, ...]
    reference: tuple[float, ...]
    source: str = ""
    licence: str = ""
    dropped: int = 0
    _rows: dict[bytes, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rows = {code.tobytes(): i for i, code in enumerate(self.codes)}
        object.__setattr__(self, "_rows", rows)

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def signs(self) -> Array:
        """What each objective is multiplied by so that less is better."""
        return np.array([o.sign for o in self.objectives])

    @cached_property
    def scored(self) -> Array:
        """The mean over the seeds that a row has, minimised: `(rows, objectives)`."""
        means = [np.nanmean(v, axis=1) for v in self.values]
        return np.stack(means, axis=1) * self.signs

    @cached_property
    def bound(self) -> Array:
        """The reference point, minimised."""
        return np.array(self.reference) * self.signs

    def share(self, points: Array) -> float:
        """The hypervolume of minimised points `(N, objectives)` over that of the true front."""
        return self._volume(points) / self._whole if self._whole else 0.0

    @cached_property
    def _whole(self) -> float:
        return self._volume(self.scored[non_dominated(self.scored)])

    def _volume(self, points: Array) -> float:
        """In units of how far the best rows are from the reference: else it might overflow."""
        unit = self.bound - self.scored.min(axis=0)
        return hypervolume(
            (points - self.bound) / np.where(unit > 0, unit, 1.0), np.zeros_like(unit)
        )

    def code(self, architecture: Architecture) -> Codes:
        """The index of each decision's value, -1 where it does not exist. `(decisions,)`"""
        found = [
            d.values.index(architecture.choices[d.name]) if d.name in architecture.choices else -1
            for d in self._choices
        ]
        return np.array(found, dtype=np.int64)

    def architecture(self, row: int) -> Architecture:
        """The architecture of a row."""
        chosen = {
            d.name: d.values[i]
            for d, i in zip(self._choices, self.codes[row], strict=True)
            if i >= 0
        }
        return Architecture(self.space.name, chosen)

    def row(self, architecture: Architecture, used: npt.NDArray[np.bool_] | None = None) -> int:
        """The row of an architecture, or the nearest one; the nearest that is not `used`, if given.

        Nearest is where the fewest decisions differ, and of those where the steps along scales are
        the shortest in all. An architecture with a row of its own always gets that one.
        """
        code = self.code(architecture)
        exact = self._rows.get(code.tobytes())
        if exact is not None:
            return exact
        differing = np.zeros(len(self), dtype=np.int16)
        for column, value in zip(self._columns, code.tolist(), strict=True):
            differing += column != value
        if used is not None and not used.all():
            differing[used] = len(code) + 1
        near = np.flatnonzero(differing == differing.min())
        steps = np.abs(self.codes[near] - code) / self._spread
        along = (self.codes[near] >= 0) & (code >= 0) & self._ordered
        return int(near[np.where(along, steps, 0.0).sum(axis=1).argmin()])

    @cached_property
    def _choices(self) -> tuple[Choice, ...]:
        return tuple(d for d in self.space.listed if isinstance(d, Choice))

    @cached_property
    def _columns(self) -> Codes:
        """The codes by decision, each in little memory: nearest rows are asked for a lot."""
        least = np.int8 if self.codes.max(initial=0) < 128 else np.int64
        return np.ascontiguousarray(self.codes.T, dtype=least)

    @cached_property
    def _spread(self) -> Array:
        return np.array([max(1.0, d.count - 1) for d in self._choices])

    @cached_property
    def _ordered(self) -> npt.NDArray[np.bool_]:
        return np.array([d.ordered for d in self._choices])


def read(folder: str | Path) -> Table:
    """The table in a folder.

    A blank seed cell is not available; a row in which an objective is blank in every seed is left
    out, which only an incomplete table may have. A decision that is blank in some rows does not
    exist there; where the others do not tell in which, blank is one of its choices, and what has
    no row is taken to the nearest one. Rows of the same architecture are averaged.

    Raises:
        NasError: for a folder that is not a table, with the line or cell that is wrong.
    """
    place = Path(folder) / FILE
    about = described(place.parent)
    table = _table(about, columns_of(place.parent / about["data"]), place)
    if not (table.scored < table.bound).all(axis=1).any():
        best, worst = table.signs * table.scored.min(axis=0), table.signs * table.scored.max(axis=0)
        ends = zip(table.objectives, best, worst, strict=True)
        raise NasError(
            f"{place}: no row is better in every objective than the hypervolume's reference "
            f"{about['hypervolume']['reference']}",
            "write one that good rows are better than: "
            + ", ".join(f"{o.name} is {first:g} to {last:g}" for o, first, last in ends),
        )
    return table


def _table(about: Mapping[str, Any], columns: Columns, place: Path) -> Table:
    """The table that the description and its columns make."""
    names = list(about["decisions"])
    declared = [_ordered(values) for values in about["decisions"].values()]
    codes = np.stack(
        [coded(n, values, columns, place) for n, values in zip(names, declared, strict=True)],
        axis=1,
    )
    order, whens, choices, codes = conditions(names, declared, codes)
    decisions = [Choice(names[i], choices[i], when=whens[i]) for i in order]
    guessed = any(len(c) > len(d) for c, d in zip(choices, declared, strict=True))
    codes = np.ascontiguousarray(codes[:, order])
    levels = [(float(e["epochs"]), e["columns"]) for e in about.get("fidelities", [])]
    values = [numbers(o["columns"], columns, place) for o in about["objectives"]]
    shorter = [numbers(c, columns, place) for _, c in levels]
    unique, inverse = np.unique(codes, axis=0, return_inverse=True)
    merged = [_merged(v, inverse.reshape(-1), len(unique)) for v in (*values, *shorter)]
    kept = np.all([np.isfinite(v).any(axis=1) for v in merged[: len(values)]], axis=0)
    space = SearchSpace(about["name"], decisions, build=_builds_nothing)
    complete = about.get("complete", False) and not guessed
    if complete and int(kept.sum()) != space.size:
        raise NasError(
            f"{place}: complete = true, but {int(kept.sum())} of {space.size:.0f} architectures "
            "have all their numbers",
            "write complete = false: the nearest unused row is then taken",
        )
    if not kept.any():
        raise NasError(f"{place}: no row has a number for every objective", "fill some cells in")
    arrays = [v[kept] for v in merged]
    known = tuple(o.get("known", False) for o in about["objectives"])
    return Table(
        name=about["name"],
        space=space,
        complete=complete,
        objectives=tuple(
            Objective(o["name"], o.get("unit", ""), o["goal"], "file" if k else "trained")
            for o, k in zip(about["objectives"], known, strict=True)
        ),
        known=known,
        values=tuple(arrays[: len(values)]),
        codes=unique[kept],
        levels=tuple(
            Level(epochs, v) for (epochs, _), v in zip(levels, arrays[len(values) :], strict=True)
        ),
        reference=tuple(float(r) for r in about["hypervolume"]["reference"]),
        source=about.get("source", ""),
        licence=about.get("licence", ""),
        dropped=int((~kept).sum()),
    )


def _ordered(values: Sequence[Value]) -> Sequence[Value]:
    """A decision's choices: numbers are a scale, in whatever order they are written."""
    return sorted(values) if all(map(is_number, values)) else values


def _builds_nothing(choices: Any, task: Any) -> None:
    raise NasError("a table's architectures are rows, not networks", "replay them: nas replay")


def _merged(values: Array, group: Codes, count: int) -> Array:
    """The mean of each group of rows, cell by cell, over what is not blank."""
    total, seen = np.zeros((count, values.shape[1])), np.zeros((count, values.shape[1]))
    np.add.at(total, group, np.nan_to_num(values))
    np.add.at(seen, group, np.isfinite(values))
    return np.where(seen > 0, total / np.maximum(seen, 1), np.nan)
