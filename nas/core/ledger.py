"""From events to trials: what each kind of event changes. Pure functions; the only such place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nas.core.architecture import Architecture
from nas.core.measurement import Measurement
from nas.core.trial import Event, Rung, Trained, Trial, measurement_name


def proposed(event: Event) -> Trial:
    """The trial that a proposal opens."""
    payload = event.payload
    architecture = Architecture.from_json(payload["architecture"])
    return Trial(event.trial, architecture, payload["origin"], payload["notes"])


def reported(trial: Trial, payload: Mapping[str, Any]) -> Trial:
    """The trial after a report."""
    if "error" in payload:
        return replace(trial, attempts=trial.attempts + 1, error=payload["error"])
    if payload["job"] == "build":
        return replace(
            trial,
            build=payload["build"],
            file=payload["file"],
            costs=payload["costs"],
            uncounted=tuple(payload.get("uncounted", ())),
        )
    if payload["job"] == "measure":
        found = Measurement.from_json(payload["measurement"])
        name = measurement_name(
            found.objective, payload["device"], payload["workload"], payload["form"]
        )
        return replace(trial, measurements={**trial.measurements, name: found})
    return _reported_training(trial, payload)


def _reported_training(trial: Trial, payload: Mapping[str, Any]) -> Trial:
    repeat = payload["repeat"]
    if "trained" in payload:
        values = payload["trained"]
        score, confirm = values["score"], values["confirm"]
        done = Trained(
            repeat, values["file"], score["score"], score["se"], score["n"],
            confirm["score"], confirm["se"], confirm["n"],
        )  # fmt: skip
        costs = {**trial.costs, **values.get("costs", {})} if not repeat else trial.costs
        return replace(trial, trained=(*trial.trained, done), costs=costs)
    values = payload["values"]
    rung = Rung(
        repeat, payload["rung"], values["epochs"], values["score"], values["n"],
        values.get("checkpoint"), payload["decision"], bool(values.get("reused")),
    )  # fmt: skip
    return replace(trial, rungs=(*trial.rungs, rung))


def told(trial: Trial, payload: Mapping[str, Any]) -> Trial:
    """The trial after its end."""
    return replace(
        trial,
        state=payload["state"],
        values=payload["values"],
        violations=payload["violations"],
        error=payload.get("error"),
        reused=payload.get("reused"),
    )


def twin(trial: Trial, first: Trial) -> Trial:
    """A trial with all that was found out about the same network before."""
    return replace(
        trial,
        build=first.build,
        file=first.file,
        costs=first.costs,
        uncounted=first.uncounted,
        measurements=first.measurements,
        rungs=first.rungs,
        trained=first.trained,
    )
