"""Who does the work of a search: the runner that was named, and where it measures."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nas.core.errors import NasError, unknown
from nas.core.study import StudySpec
from nas.hardware.device import Device
from nas.hardware.lease import default_folder
from nas.runners.benches import bench
from nas.runners.inline import Runner
from nas.session import SPARE, Bench
from nas.store.artifacts import Artifacts

if TYPE_CHECKING:
    from nas.runners.ray import Cluster
    from nas.runners.ray_search import Terms

RUNNERS = ("inline", "processes", "ray")


class Crew(Protocol):
    """Workers, before there is a study for them."""

    @property
    def width(self) -> int:
        """How many trials may be under way."""
        ...

    def standing(self, device: Device, measured: bool = False) -> Device:
        """The device as it stands to these workers; one `measured` before is somewhere."""
        ...

    def hired(
        self, spec: StudySpec, artifacts: Artifacts, devices: Mapping[str, Device]
    ) -> tuple[Runner, Mapping[str, Bench]]:
        """The runner of a study, and where each of its devices is measured, if it is."""
        ...


MOST = 16  # processes for each core


@contextmanager
def crew(
    runner: str,
    workers: int | None = None,
    address: str | None = None,
    resources: Sequence[str] = (),
    callbacks: Sequence[str] = (),
    predict_after: float | None = None,
) -> Iterator[Crew]:
    """The workers that were named, for as long as the search runs.

    Raises: NasError for a runner that is not known, an option that it does not take, or a cluster
        that does not answer.
    """
    if runner not in RUNNERS:
        raise unknown("runner", runner, RUNNERS)
    given = {
        "address": address, "resources": resources, "callback": callbacks,
        "predict-after": predict_after,
    }  # fmt: skip
    if runner != "ray":
        for name, value in given.items():
            if value:
                raise NasError(
                    f"--{name} is for a cluster", f"add --runner ray, or leave --{name} out"
                )
        cores = len(os.sched_getaffinity(0))
        if workers and workers > MOST * cores:
            raise NasError(
                f"--workers {workers}: a process each, and this machine has {cores} cores",
                f"type --workers {cores}, or share the work out: --runner ray",
            )
        yield Here(runner, workers or cores)
        return
    from nas.runners.ray import joined

    taken = amounts(resources)
    with joined(address) as cluster:
        from nas.runners.ray_search import Terms
        from nas.runners.ray_trackers import tracker

        terms = Terms(taken, workers, tuple(callbacks))
        for name in terms.callbacks:  # what it lacks is said before there is a study
            tracker(name, "nas")
        seconds = None if predict_after is None else 60.0 * predict_after
        yield There(cluster, terms, seconds)


@dataclass(frozen=True)
class Here:
    """This process (`inline`), or `workers` processes beside it."""

    name: str
    workers: int

    @property
    def width(self) -> int:
        """How many trials may be under way."""
        return 1 if self.name == "inline" else self.workers + SPARE

    def standing(self, device: Device, measured: bool = False) -> Device:
        """The device itself."""
        return device

    def hired(
        self, spec: StudySpec, artifacts: Artifacts, devices: Mapping[str, Device]
    ) -> tuple[Runner, Mapping[str, Bench]]:
        """The runner, and what this machine measures."""
        benches = {name: found for name, d in devices.items() if (found := bench(d)) is not None}
        return runner_of(self.name, self.workers, spec, artifacts), benches


@dataclass(frozen=True)
class There:
    """The nodes of a Ray cluster."""

    cluster: Cluster
    terms: Terms
    predict_after_s: float | None

    @property
    def width(self) -> int:
        """How many trials may be under way."""
        return self.terms.room(self.cluster) + SPARE

    def standing(self, device: Device, measured: bool = False) -> Device:
        """Attached here, on another node, or nowhere."""
        found = self.cluster.standing(device, measured)
        if found.stands and self.predict_after_s is not None and found.engine.suffix != ".onnx":
            raise NasError(
                f"--predict-after: the files of {device.name} under {device.engine} cannot be "
                "predicted from",
                "leave it out, or name an ONNX runtime: --runtime onnxruntime",
            )
        return found

    def hired(
        self, spec: StudySpec, artifacts: Artifacts, devices: Mapping[str, Device]
    ) -> tuple[Runner, Mapping[str, Bench]]:
        """The runner, and what this machine and other nodes measure."""
        from nas.runners.ray_lease import Leases
        from nas.runners.ray_search import Ray
        from nas.runners.ray_work import sources

        setup: dict[str, Any] = {
            "spec": spec.to_json(),
            "artifacts": artifacts.place,
            "folder": str(Path.cwd()),
            "sources": sources(Path.cwd()),
            "paths": sys.path,
            "silence_s": self.terms.silence_s,
            "stands": {name: d.stands for name, d in devices.items() if d.stands},
        }
        leases = Leases(self.cluster, setup, devices, self.predict_after_s)
        here = {n: found for n, d in devices.items() if not d.stands and (found := bench(d))}
        return Ray(self.cluster, setup, leases, self.terms), {**here, **leases.benches(spec)}


def runner_of(name: str, workers: int, spec: StudySpec, artifacts: Artifacts) -> Runner:
    """Who does the work of a study on this machine. Raises: NasError for a name that is neither."""
    locks = default_folder()
    if name == "processes":
        from nas.runners.processes import Processes

        setup = {"spec": spec.to_json(), "artifacts": artifacts.place, "locks": str(locks)}
        return Processes(setup, workers)
    if name != "inline":
        raise unknown("runner", name, ("inline", "processes"))
    import torch

    from nas.evaluate import perform
    from nas.evaluate.place import Place
    from nas.runners.inline import Inline

    torch.set_num_threads(1)  # the same sums in the same order on every machine
    place = Place(spec, artifacts, locks)
    return Inline(lambda job, report: perform(place, job, report))


def amounts(words: Sequence[str]) -> dict[str, float]:
    """What one job takes, from `--resources`, by Ray's names; one processor by default.

    >>> amounts(["cpu=2,gpu=0.25"]), amounts(["device:board=1"])
    ({'CPU': 2.0, 'GPU': 0.25}, {'CPU': 1.0, 'device:board': 1.0})
    """
    found = {"CPU": 1.0}
    for word in (w.strip() for text in words for w in text.split(",")):
        name, equals, amount = word.rpartition("=")
        try:
            number = float(amount)
        except ValueError:
            number = -1.0
        if not (equals and name and 0 <= number < float("inf")):
            raise NasError(
                f"--resources: {word!r} does not say how much of what",
                "write --resources cpu=1,gpu=0.25",
            )
        found[{"cpu": "CPU", "gpu": "GPU"}.get(name, name)] = number
    if not any(found.values()):
        raise NasError(
            f"--resources {','.join(words)}: any number of such jobs would fit on a node",
            "a job takes something: --resources cpu=0.5, or cpu=0,gpu=0.25",
        )
    return found
