"""The files that a study rests on, and whether they are still what they were when it began."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

from nas.catalog import DEVICES, SPACES, file_digest, find, import_object
from nas.core.errors import NasError
from nas.core.study import StudySpec
from nas.hardware.device import named


def sources(spec: StudySpec) -> dict[str, str]:
    """sha256 of every file a study rests on: spaces, devices, objectives, own code, weights.

    Raises: NasError where one of them is not there.
    """
    from nas.training.tasks import is_function

    devices = sorted({spec.device, *(c.device for c in spec.constraints if c.device)})
    paths = [find(SPACES, part) for part in spec.space.split("+")]
    paths += [find(DEVICES, named(device).profile) for device in devices]
    paths += [find(SPACES, o.name.partition(":")[0]) for o in spec.objectives if ":" in o.name]
    if spec.network:
        paths += _module(spec.network, "network")
    if is_function(spec.task.source):
        paths += _module(spec.task.source, "task")
    found = {_name(path): file_digest(path) for path in paths}
    if spec.weights:
        found[Path(spec.weights).name] = _weights(Path(spec.weights))
    return found


def recipe(path: str | Path | None) -> dict[str, str]:
    """The same of the recipe that a search was typed as."""
    return {} if path is None else {_name(Path(path)): file_digest(Path(path))}


def alike(one: StudySpec, other: StudySpec) -> bool:
    """Whether code and weights of the same name are the same in both studies, in any folder.

    Device profiles and recipes aside: what counts of those is compared where it counts. A file that
    one of the two does not rest on is none of its results.
    """
    ours, theirs = _contents(one), _contents(other)
    return all(ours[name] == theirs[name] for name in ours.keys() & theirs.keys())


def unchanged(spec: StudySpec, also: dict[str, str], accept: bool) -> StudySpec:
    """A stored study whose files are what they were.

    Args:
        also: digests of files that this call was typed with.
        accept: take other files for the study's own from now on; not other data, whose accuracies
            cannot stand beside those that are recorded.

    Raises:
        NasError: naming what is another than when the study began, and what to type.
    """
    from nas.training.tasks import describe

    there = {**sources(spec), **also}
    other = sorted(n for n, known in spec.files.items() if there.get(n, known) != known)
    again = f"nas search --study {shlex.quote(spec.name)} --resume"
    if spec.task.digest and describe(spec.task.source).digest != spec.task.digest:
        raise NasError(
            f"the data {spec.task.source} is not what study {spec.name!r} was begun with",
            f"bring it back; or begin another study with: --from {shlex.quote(spec.name)}",
        )
    if other and not accept:
        raise NasError(
            f"changed since study {spec.name!r} began: {', '.join(other)}",
            f"bring it back; or go on with it as it is now: {again} --changed",
        )
    return replace(spec, files={**spec.files, **there})


def _contents(spec: StudySpec) -> dict[str, set[str]]:
    """The digests of code and weights, by name without a folder."""
    found: dict[str, set[str]] = {}
    for name, content in spec.files.items():
        if not name.endswith(".toml"):
            found.setdefault(Path(name).name, set()).add(content)
    return found


def _module(text: str, what: str) -> list[Path]:
    """The file of the module in `PKG.MOD:FN`, where it has one."""
    import_object(text, what)
    file = getattr(sys.modules[text.partition(":")[0]], "__file__", None)
    return [Path(file)] if file else []


def _weights(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise NasError(
            f"the weights {path} cannot be read: {error.strerror}",
            "bring the file back to where it was",
        ) from None


def _name(path: Path) -> str:
    return f"{path.absolute().parent.name}/{path.name}"
