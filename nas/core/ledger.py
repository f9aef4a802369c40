"""From events to trials: what each kind of event changes. Pure functions; the only such place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nas.core.architecture import Architecture
from nas.core.measurement import Measurement
from nas.core.trial import Event, Rung, Trained, Trial, measurement_name

GATE = "parity "  # what the name of a broken limit begins with, where a file failed its gate


def after(event: Event, trials: Mapping[int, Trial], first: Mapping[str, int]) -> Trial:
    """The event's trial after it.

    Args:
        event: what happened.
        trials: all trials before it, by number.
        first: key of each network -> the trial that proposed it first.
    """
    if event.kind == "proposed":
        return proposed(event)
    trial = trials[event.trial]
    if event.kind == "reported":
        return reported(trial, event.payload)
    if event.kind == "resumed":
        return resumed(trial)
    trial = told(trial, event.payload)
    return twin(trial, trials[first[trial.key]]) if trial.reused else trial


def proposed(event: Event) -> Trial:
    """The trial that a proposal opens."""
    payload = event.payload
    architecture = Architecture.from_json(payload["architecture"])
    return Trial(event.trial, architecture, payload["origin"], payload["notes"])


def reported(trial: Trial, payload: Mapping[str, Any]) -> Trial:
    """The trial after a report."""
    if payload["job"] == "retarget":
        return _retargeted(trial, payload)
    if payload["job"] == "finish":  # beside the search: `nas.core.finished` reads it
        return trial
    if payload["job"] == "gate":
        return _gated(trial, payload)
    if "error" in payload:
        return replace(trial, attempts=trial.attempts + 1, error=payload["error"])
    if payload["job"] == "build":
        return replace(
            trial,
            build=payload["build"],
            file=payload["file"],
            costs=payload["costs"],
            proxies=payload.get("proxies", {}),
            uncounted=tuple(payload.get("uncounted", ())),
        )
    if payload["job"] == "measure":
        return _measured(trial, payload)
    return _reported_training(trial, payload)


def _measured(trial: Trial, payload: Mapping[str, Any]) -> Trial:
    """The trial with a number, unless that is predicted and its measurement is there already."""
    found = Measurement.from_json(payload["measurement"])
    name = measurement_name(
        found.objective, payload["device"], payload["workload"], payload["form"]
    )
    known = trial.measurements.get(name)
    if known is not None and (known.source, found.source) == ("measured", "predicted"):
        return trial
    return replace(trial, measurements={**trial.measurements, name: found})


def _retargeted(trial: Trial, payload: Mapping[str, Any]) -> Trial:
    """What fails on another device says nothing against a trial of the search."""
    return trial if "error" in payload else _measured(trial, payload)


def _gated(trial: Trial, payload: Mapping[str, Any]) -> Trial:
    """A file that differs from its network keeps the trial off every front until one passes."""
    kept = {k: v for k, v in trial.violations.items() if not k.startswith(GATE)}
    if not payload["passed"]:
        broken = {GATE + payload["limit"]: payload["excess"]}
        return replace(trial, violations={**kept, **broken}, error=payload["reason"])
    if len(kept) < len(trial.violations):
        return replace(trial, violations=kept, error=None)
    return trial


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


def resumed(trial: Trial) -> Trial:
    """The stopped trial, running again, with all that was found out about it."""
    return replace(trial, state="running", values={}, violations={}, error=None)


def twin(trial: Trial, first: Trial) -> Trial:
    """A trial with all that was found out about the same network before."""
    return replace(
        trial,
        build=first.build,
        file=first.file,
        costs=first.costs,
        proxies=first.proxies,
        uncounted=first.uncounted,
        measurements=first.measurements,
        rungs=first.rungs,
        trained=first.trained,
    )
