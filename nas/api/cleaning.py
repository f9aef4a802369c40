"""Giving back the disk that a study's files take and nobody needs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nas.api.places import artifacts_of, storage_url
from nas.core.errors import NasError
from nas.core.finished import finished
from nas.core.front import front_of
from nas.core.trial import Event, Trial
from nas.store.artifacts import NAME, Artifacts, abandoned
from nas.store.store import Store


def gc(study: str, dry_run: bool = False, storage: str | None = None) -> dict[str, Any]:
    """Removes the files of a study that neither its front nor another study needs.

    Kept are the weights and files of the front's members, of trials that were trained to their
    end, and of trials under way. What goes are checkpoints of rungs that others followed, of
    networks that were stopped or dominated, and, beside the database, what none of its studies
    names: numbers stay, but such a network is trained again where `nas export` or `--resume` asks
    for it. Scratch folders of processes of this host that are gone are removed as well.

    Returns `files` and `bytes` removed, `kept_files` and `kept_bytes`; nothing is removed with
    `dry_run`.

    Raises: NasError for an unknown study, or files in an object store, which has rules of its own.
    """
    url = storage_url(storage)
    with Store(url, read_only=True) as store:
        spec, trials, events = store.spec(study), store.trials(study), store.events(study)
        others = {
            name
            for row in store.studies()
            if row.name != study
            for name in named(store.events(row.name))
        }
    artifacts = artifacts_of(url, spec)
    if type(artifacts) is not Artifacts:
        raise NasError(
            f"the files of {study!r} are in {artifacts.place}, where this program removes nothing",
            "let the store's own rules of expiry do it",
        )
    needed = others | wanted(trials, {m.trial for m in front_of(spec, trials).members})
    needed |= {name for each in finished(events).values() for name in _names(each)}
    files = [p for p in _files(artifacts.folder) if NAME.fullmatch(p.name)]
    if spec.artifacts is not None:  # a place that other databases may use too
        own = named(events)
        files = [p for p in files if p.name in own]
    gone = [path for path in files if path.name not in needed]
    kept = [path for path in files if path.name in needed]
    found = {
        "study": study, "dry_run": dry_run, "files": len(gone), "bytes": _bytes(gone),
        "kept_files": len(kept), "kept_bytes": _bytes(kept),
    }  # fmt: skip
    if not dry_run:
        for path in gone:
            path.unlink(missing_ok=True)
        _sweep(artifacts.folder / "under-way")
    return found


def named(events: Iterable[Event]) -> set[str]:
    """The artifacts that any of the events names."""
    return {name for event in events for name in NAME.findall(json.dumps(dict(event.payload)))}


def wanted(trials: Iterable[Trial], members: set[int]) -> set[str]:
    """What the members' networks, and trainings under way, rest on."""
    found: set[str | None] = set()
    for trial in trials:
        if trial.number in members or trial.state == "running":
            found.add(trial.file)
            found |= {trained.file for trained in trial.trained}
            last = {rung.repeat: rung.checkpoint for rung in trial.rungs}
            found |= set(last.values())
    return {name for name in found if name}


def _names(thing: Any) -> set[str]:
    return set(NAME.findall(repr(thing)))


def _files(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []


def _bytes(files: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def _sweep(folder: Path) -> None:
    """Removes the scratch folders of this host's processes that are gone."""
    for own in folder.iterdir() if folder.is_dir() else ():
        if abandoned(own.name):
            shutil.rmtree(own, ignore_errors=True)
