"""`nas.search`: from a few words to a study in the database and its front."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from nas.api import sources as sources_of
from nas.api.begun import decided
from nas.api.crew import Crew, crew
from nas.api.earlier import earlier_results, first_points
from nas.api.places import artifacts_of, storage_url
from nas.api.planning import plan
from nas.api.study import compared
from nas.catalog import load_space
from nas.core.errors import NasError
from nas.core.front import Front, front_of
from nas.core.known import score_first
from nas.core.space import SearchSpace
from nas.core.study import StudySpec
from nas.core.trial import Event
from nas.engine import Search
from nas.hardware.capabilities import target
from nas.hardware.device import Device, named
from nas.runners.counter import Counter
from nas.runners.inline import Runner
from nas.session import Session, Snapshot
from nas.store.address import exists, unlisted
from nas.store.artifacts import Artifacts, opened
from nas.store.store import Store
from nas.strategies.choose import create

LOOKED_AT = 20  # files of a resumed study that are looked for before anything is done


class Watcher(Protocol):
    """Whoever looks on while a search runs."""

    def on(self, snapshot: Snapshot) -> None:
        """Called after every change."""
        ...


def search(
    *,
    space: str | None = None,
    device: str = "cpu",
    runtime: str | None = None,
    data: str = "digits",
    task: str | None = None,
    objectives: Sequence[str] = (),
    constraints: Sequence[str] = (),
    strategy: str = "surrogate",
    promotion: str = "halving",
    presets: Sequence[str] = (),
    sources: Sequence[str] = (),
    proxies: bool = True,
    network: str | None = None,
    weights: str | Path | None = None,
    trials: int | None = None,
    hours: float | None = None,
    epochs: int | None = None,
    precision: str = "float32",
    runner: str = "processes",
    workers: int | None = None,
    address: str | None = None,
    resources: Sequence[str] = (),
    callbacks: Sequence[str] = (),
    predict_after: float | None = None,
    artifacts: str | None = None,
    study: str | None = None,
    seed: int = 0,
    resume: bool = False,
    take_over: bool = False,
    changed: bool = False,
    recipe: str | Path | None = None,
    fresh: bool = False,
    dry_run: bool = False,
    storage: str | None = None,
    watch: Watcher | None = None,
) -> Front:
    """Searches a space for a device and returns the front; everything is in the database.

    Args:
        space: name of a file in `search_spaces/`, joined to axes by `+`; axes alone where a
            `network` is given. resume: go on with `study` instead.
        network: `PKG.MOD:FN` of one's own network, a function of the task; it becomes trial 0.
        weights: a safetensors file that the network starts from.
        device: name of a file in `hardware_profiles/`; latencies on one that is not attached to
            this machine are predicted, and say so.
        runtime: `NAME[:OPTION+OPTION]`, what runs the files there; the device's own by default.
        data: `digits`, `folder:PATH`, `hf:NAME`. task: `PKG.MOD:FN` of one's own instead.
        objectives: names, or `FILE:NAME`; the task's score and `latency_ms` by default.
        constraints: `latency_ms<=5` and the like; of other workloads too, each timed before a
            trial is trained: `latency_ms.p99:b1-8<=12`.
        sources: studies of the same space whose fronts are tried first, after the presets.
        proxies: compute zero-cost proxies of every network built (`nas show STUDY --proxies`).
        trials: recorded trials over the study's life. hours: wall-clock limit of this call.
        epochs: full training of a candidate in the search. precision: what it trains in, `float32`,
            `bfloat16`, or `fastest`: bfloat16 where a worker's device was measured to gain by it.
        runner: `inline`, `processes` or `ray`. workers: how many jobs at once.
        address: of a Ray cluster. resources: what one job takes there, such as `gpu=0.25`.
        callbacks: of Ray Tune's, by name. predict_after: minutes after which a device whose node
            has left is predicted, and said to be; None waits for it.
        artifacts: folder or URL (fsspec) for the study's files, which every worker must reach.
        study: the study's name; made up from space, data and device where not given.
        changed: go on although files that the study rests on are not what they were. recipe: the
            file that these options were written in.
        fresh: reuse no earlier result. dry_run: say what would be searched, and stop.
        watch: called after every change; by default a progress bar, where somebody looks at it.

    Raises:
        NasError: for anything the caller can mend.
        KeyboardInterrupt: after an interrupt; what was recorded stays, and `resume` goes on.
    """
    said = dict(locals())  # the options of this call, by name
    url = storage_url(storage)
    if runner == "ray":  # before it is joined: a cluster lists command lines
        unlisted(url)
        opened(artifacts or "")

    def resumed(store: Store) -> StudySpec:
        there = _resumed(store, study, trials, hours, artifacts)
        decided(there, said, search.__kwdefaults__ or {})
        return sources_of.unchanged(there, sources_of.recipe(recipe), changed)

    with crew(runner, workers, address, resources, callbacks, predict_after) as hands:
        if not resume:
            spec = plan(
                space, device, task or data, objectives, constraints, strategy, promotion, presets,
                trials, hours, epochs, study, seed, fresh, runtime, network, weights, precision,
                hands,
            )  # fmt: skip
            files = {**spec.files, **sources_of.recipe(recipe)}
            spec = replace(spec, proxies=proxies, artifacts=_shared(artifacts), files=files)
            if network is not None:
                from nas.evaluate.brought import try_network

                try_network(spec, traced=dry_run)
            if sources:
                found = _aimed(spec, hands.standing(named(spec.device).under(spec.runtime)))
                with Store(url, read_only=True) as store:
                    spec = replace(spec, starts=first_points(store, spec, found, sources))
        if dry_run:
            return _rehearsed(url, None if resume else spec, study, resumed)
        with Store(url) as store:
            spec = resumed(store) if resume else _free(store, spec, named=study is not None)
            place = artifacts_of(url, spec)
            place.prepare()
            if not resume:
                store.create(spec)
            epoch = store.claim(spec.name, take_over=take_over)
            try:
                if spec != store.spec(spec.name):
                    store.revise(spec, epoch)
                return _searched(store, spec, epoch, place, hands, watch)
            finally:
                store.release(spec.name, epoch)


def _searched(
    store: Store,
    spec: StudySpec,
    epoch: int,
    artifacts: Artifacts,
    hands: Crew,
    watch: Watcher | None,
) -> Front:
    """Searches a claimed study from where its history ends."""
    from nas.report.live import watching
    from nas.training.tasks import prepare

    prepare(spec.task.source)
    device = hands.standing(named(spec.device).under(spec.runtime))
    space = _aimed(spec, device)
    history = store.events(spec.name)
    devices = _standing(spec, history, hands)
    runner, benches = hands.hired(spec, artifacts, devices)
    earlier = [] if history else earlier_results(store, spec, space, benches)
    with closing(Counter(spec, artifacts.place)) as counts, watching(watch) as seen:
        strategy = create(
            spec.strategy, space, score_first(spec), spec.constraints, spec.seed, counts=counts
        )
        search = Search(spec, space, strategy, history, hands.width, earlier)
        _within_reach(search, artifacts)
        session = Session(search, store, epoch, artifacts, benches)
        session.watch = _observer(session, seen)
        return _run(session, runner)


def _aimed(spec: StudySpec, device: Device) -> SearchSpace:
    """The space, worked out for the study's task and for what it wants of the device."""
    aims = target(device, spec.wanted, spec.network, spec.weights)
    return load_space(spec.space, spec.network).at(spec.task, aims)


def _standing(spec: StudySpec, history: Sequence[Event], hands: Crew) -> dict[str, Device]:
    """The study's devices as they stand to the workers; what was measured once is somewhere."""
    found = [e.payload for e in history if "measurement" in e.payload]
    measured = {p["device"] for p in found if p["measurement"]["source"] == "measured"}
    return {
        name: hands.standing(named(name).under(spec.runtime_on(name)), name in measured)
        for name in spec.devices
    }


def _within_reach(search: Search, artifacts: Artifacts) -> None:
    """Raises: NasError where the files of trials that go on are not where they should be."""
    under_way = [t for t in search.trials.values() if t.state == "running" and t.file]
    done = [t for t in search.trials.values() if t.trained]
    names = [t.file for t in under_way[-LOOKED_AT:]]
    names += [t.trained[0].file for t in done[-LOOKED_AT:]]
    missing = [name for name in names if not artifacts.holds(name) and not artifacts.damaged(name)]
    if missing:
        raise NasError(
            f"files of study {search.spec.name!r} are not at {artifacts.place}: {missing[0]}, ...",
            "make that folder reachable from here, or say where they are: --artifacts PATH or URL",
        )


def _shared(artifacts: str | None) -> str | None:
    """A place for artifacts as every worker can read it."""
    if artifacts is None or "://" in artifacts:
        return artifacts
    return str(Path(artifacts).absolute())


def _run(session: Session, runner: Runner) -> Front:
    try:
        runner.run(session)
    except BaseException:  # whatever ends it early, the front of what is recorded is kept
        session.keep_front()
        raise
    return compared(session.front(), session.search.contenders)


def _observer(session: Session, watch: Watcher | None) -> Any:
    """Passes changes on, and closes the search when its hours are over."""
    started, spec = time.monotonic(), session.spec

    def changed(snapshot: Snapshot) -> None:
        if spec.hours is not None and time.monotonic() - started > 3600 * spec.hours:
            session.close()
        if watch is not None:
            watch.on(snapshot)

    return changed


def _resumed(
    store: Store,
    study: str | None,
    trials: int | None,
    hours: float | None,
    artifacts: str | None = None,
) -> StudySpec:
    """The stored experiment, with a new number of trials or hours or place of files where given."""
    if study is None:
        rows = [row.name for row in store.studies()]
        if len(rows) != 1:
            raise NasError(
                "which study is to be resumed?",
                f"type --study NAME; there are: {', '.join(rows) or 'none'}",
            )
        study = rows[0]
    spec = store.spec(study)
    place = _shared(artifacts) or spec.artifacts
    return replace(spec, trials=trials or spec.trials, hours=hours, artifacts=place)


def _free(store: Store, spec: StudySpec, named: bool) -> StudySpec:
    """The new study under a name that is free: one that was made up gets a number where it is not.

    Raises: NasError where a person gave the name.
    """
    taken = {row.name for row in store.studies()}
    if named and spec.name in taken:
        raise NasError(
            f"there is a study named {spec.name!r} already",
            "type --resume to go on with it, or another --study NAME",
        )
    name, number = spec.name, 2
    while name in taken:
        name, number = f"{spec.name}-{number}", number + 1
    return replace(spec, name=name)


def _rehearsed(
    url: str,
    spec: StudySpec | None,
    study: str | None,
    resumed: Callable[[Store], StudySpec],
) -> Front:
    """What a search would begin, or without a `spec` go on with; nothing is written."""
    if spec is not None and not exists(url):
        return front_of(spec, [])
    with Store(url, read_only=True) as store:
        if spec is not None:
            return front_of(_free(store, spec, named=study is not None), [])
        spec = resumed(store)
        return front_of(spec, store.trials(spec.name))
