"""`nas report`: everything a study found as one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, Protocol

from nas import __version__
from nas.api.places import artifacts_of, storage_url
from nas.api.study import compared
from nas.catalog import load_space
from nas.core.errors import NasError
from nas.core.front import Front, contending, front_of
from nas.core.job import Workload
from nas.core.limits import timing_of
from nas.core.retarget import compare, searched
from nas.core.study import StudySpec
from nas.core.trial import Trial, devices_of
from nas.hardware.ssh import Unreachable, canonical
from nas.report.correlations import correlations_document
from nas.report.importance import importance_document
from nas.report.page import page
from nas.report.page.data import Findings, page_document
from nas.report.page.networks import drawing
from nas.store.artifacts import Artifacts
from nas.store.secrets import masked
from nas.store.store import Store

DRAWN = 40  # networks of a front that are drawn


class Watcher(Protocol):
    """Whoever looks on while the layers of a front are timed."""

    def on(self, what: str, done: int, total: int) -> None:
        """Called after every network."""
        ...


def report(
    study: str,
    output: str | Path,
    device: str | None = None,
    layers: bool = True,
    storage: str | None = None,
    watch: Watcher | None = None,
) -> dict[str, Any]:
    """Writes the page of a study: its front on every device, how it came about, its networks.

    Args:
        study: which. output: where to, ending in .html.
        device: whose front is shown first; the study's own by default.
        layers: time the layers of the front's networks now, where the study's device is here.

    Returns: `study`, `output`, `bytes`, `front` (how many points), and `missing`: what the page
    does not show, and why.
    Raises: NasError for an unknown study or device, or where the page cannot be written.
    """
    path = Path(output)
    if path.suffix.lower() != ".html":
        raise NasError(
            f"a report is a page, not a {path.suffix or 'file without ending'}: {str(path)!r}",
            f"end the name in .html: --output {path.parent / (path.stem or 'report')}.html",
        )
    found = findings(study, device, layers, storage, watch)
    text = page(page_document(found)).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    except OSError as error:
        raise NasError(
            f"cannot write {str(path)!r}: {error.strerror}",
            "name a file in a folder you may write to, with space left",
        ) from error
    return {
        "study": study,
        "output": str(path),
        "bytes": len(text),
        "front": len(next(iter(found.fronts.values())).members),
        "missing": list(found.missing),
    }


def findings(
    study: str,
    device: str | None = None,
    layers: bool = True,
    storage: str | None = None,
    watch: Watcher | None = None,
) -> Findings:
    """All that the page of a study tells. Raises: NasError for an unknown study or device."""
    url = storage_url(storage)
    with Store(url, read_only=True) as store:
        spec, trials = store.spec(study), store.trials(study)
        events, moments = store.events(study), store.moments(study)
    fronts = _fronts(spec, trials, device)
    here = searched(events)
    missing: list[str] = []
    networks = _networks(spec, trials, fronts, artifacts_of(url, spec), layers, watch, missing)
    return Findings(
        spec=spec,
        trials=trials,
        events=events,
        moments=moments,
        fronts=fronts,
        retargets={d: compare(spec, here, trials, d) for d in fronts if d != spec.device},
        importance=_importance(spec, trials),
        correlations=correlations_document(spec, trials),
        networks=networks,
        missing=missing,
        where=("--storage", masked(storage)) if storage else (),
        made=f"nas {__version__}  ·  {date.today()}",
    )


def _fronts(spec: StudySpec, trials: Sequence[Trial], first: str | None) -> dict[str, Front]:
    """The front on every device that has numbers, the one asked for leading."""
    known = list(dict.fromkeys([spec.device, *devices_of(trials)]))
    leading = canonical(first) if first else spec.device
    if leading not in known:
        raise NasError(
            f"study {spec.name!r} has no numbers for device {leading!r}, only for "
            f"{', '.join(sorted(known))}",
            f"nas retarget {spec.name} --device {leading}",
        )
    ordered = dict.fromkeys([leading, *known])
    near = contending(spec, trials)
    return {
        name: compared(front_of(spec, trials, name), near if name == spec.device else trials)
        for name in ordered
    }


def _importance(spec: StudySpec, trials: Sequence[Trial]) -> dict[str, Any] | str:
    """Which decisions decide, or why that cannot be told."""
    try:
        space = load_space(spec.space, spec.network).at(spec.task)
    except NasError as error:
        return error.problem
    return importance_document(space, spec, trials)


def _networks(
    spec: StudySpec,
    trials: Sequence[Trial],
    fronts: dict[str, Front],
    artifacts: Artifacts,
    layers: bool,
    watch: Watcher | None,
    missing: list[str],
) -> dict[int, dict[str, Any]]:
    """The drawing of every network on a front, the study's own first; says what has none."""
    by_number = {t.number: t for t in trials}
    own = [m.trial for m in fronts[spec.device].members]
    numbers = list(dict.fromkeys([*own, *(m.trial for f in fronts.values() for m in f.members)]))
    if len(numbers) > DRAWN:
        missing.append(f"{len(numbers) - DRAWN} networks of the front are not drawn")
    found = {}
    for done, number in enumerate(numbers[:DRAWN]):
        if watch is not None:
            watch.on("drawing networks", done, len(numbers[:DRAWN]))
        try:
            found[number] = _network(spec, by_number[number], artifacts, layers)
        except NasError as error:
            missing.append(f"trial {number} is not drawn: {error.problem}")
    if watch is not None and found:
        watch.on("drawing networks", len(numbers[:DRAWN]), len(numbers[:DRAWN]))
    return found


def _network(spec: StudySpec, trial: Trial, artifacts: Artifacts, layers: bool) -> dict[str, Any]:
    """One network, drawn from the file that ships, with the latency of each layer where known.

    Raises: NasError where that file is gone.
    """
    from nas.deploy.outline import outline, stages
    from nas.hardware.device import named

    device = named(spec.device).under(spec.runtime)
    path = _drawable(spec, trial, artifacts)
    found = outline(path)
    timed, about = None, "nas report times it, where the device is"
    if layers:
        timed, about = _timed(spec, trial, path, found, device)
    return drawing(stages(found), timed, about)


def _drawable(spec: StudySpec, trial: Trial, artifacts: Artifacts) -> Path:
    """The trial's file as ONNX; one of torch's is exported again from its weights."""
    from dataclasses import replace

    from nas.api.files import file_of
    from nas.hardware.device import named

    name = (trial.trained[0].file if trial.trained else trial.file) or ""
    if not name.endswith(".pt2"):
        if not _held(artifacts, name):
            raise NasError("its file is no longer kept", "run the search again: it trains anew")
        return artifacts.path(name)
    device = replace(named(spec.device), kind="cpu", runtime="onnxruntime", options=())
    return file_of(spec, artifacts, trial, device)[0]


def _held(artifacts: Artifacts, name: str) -> bool:
    """Whether the file is there; what is no artifact's name names none."""
    try:
        return artifacts.holds(name)
    except NasError:
        return False


def _timed(
    spec: StudySpec, trial: Trial, path: Path, found: Sequence[Any], device: Any
) -> tuple[dict[str, Any] | None, str]:
    """What each layer takes of the latency that the search measured, or why that is not known."""
    from nas.hardware import layers
    from nas.hardware.device import attached
    from nas.hardware.lease import Lease, default_folder

    latency = timing_of(trial, spec.device)
    if latency is None:
        return None, "the network was not timed"
    try:
        here = attached(device)
    except Unreachable as error:
        here, why = False, error.problem
    else:
        why = f"{device.name} is not attached to this host"
    if not here:
        return None, why
    if device.engine.suffix != ".onnx":
        return None, f"{device.engine} runs another file than the one drawn"
    profile = layers.profiled(path, device, Lease(default_folder(), device.seat), Workload())
    if isinstance(profile, str):
        return None, profile
    modules = {layer.node: layer.path for layer in found}
    return layers.timed(_counts(found), path, modules, profile, latency.value), ""


def _counts(found: Sequence[Any]) -> Any:
    """What the operators of a file cost, by module, each including the modules inside."""
    from nas.hardware.counting import Counts

    rows: dict[str, dict[str, int]] = {}
    for layer in found:
        parts = layer.path.split(".") if layer.path else []
        written = layer.channels[1] * layer.map[0] * layer.map[1]
        own = {"params": layer.params, "macs": layer.macs, "activations": written}
        for depth in range(len(parts) + 1):
            row = rows.setdefault(".".join(parts[:depth]), dict.fromkeys(own, 0))
            for name, value in own.items():
                row[name] += value
    whole = rows.get("", {"params": 0, "macs": 0, "activations": 0})
    return Counts(
        params=whole["params"], trainable_params=whole["params"], macs=whole["macs"],
        activations=whole["activations"], vector_elements=0, uncounted={},
        nonzero_params=whole["params"], nonzero_macs=whole["macs"], by_module=rows,
    )  # fmt: skip
