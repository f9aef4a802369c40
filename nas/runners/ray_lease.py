"""Measurements on a cluster: each goes to the actor that has the device, and waits for it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nas.core.errors import NasError
from nas.core.job import Measure, Outcome, job_to_json
from nas.core.study import StudySpec
from nas.hardware.device import Device, named
from nas.runners.ray import LOST, NAMESPACE, Cluster
from nas.runners.ray_words import cause_of, of_its_search
from nas.runners.ray_work import Lessor
from nas.session import Bench

LOOK_S = 0.5
ANSWER_S = 120.0  # to start an actor and load its libraries takes a while
REST_S = 10.0  # for so long Ray may name an actor or a node that is gone; a node longer at times


@dataclass
class _Batch:
    """A job that waits for its device (`answer` is None) or is measured there."""

    job: Measure
    answer: Any = None
    node: str = ""
    away: float | None = None  # since when no node has had the device
    lost: int = 0  # how often its actor went away
    rest: float = 0.0  # when it may be sent again


class Leases:
    """The measuring side of a search.

    One actor for each physical device, on the node that has it, named so that all searches of the
    cluster use the same one. What is attached to this process's own node, reached by ssh or not
    there at all is measured, or predicted, on that node.

    Args:
        cluster: joined.
        setup: what workers are given.
        devices: the study's, as they stand to this process.
        predict_after_s: a batch whose device has been away for so long is predicted, and says so;
            None waits for the device however long it takes.
    """

    def __init__(
        self,
        cluster: Cluster,
        setup: Mapping[str, Any],
        devices: Mapping[str, Device],
        predict_after_s: float | None = None,
    ) -> None:
        self._cluster = cluster
        self._setup = setup
        self._devices = devices
        self._predict_after_s = predict_after_s
        self._batches: list[_Batch] = []
        self._actors: dict[tuple[str, str], Any] = {}
        self._homes: dict[str, str] = {}  # the node that a device is measured on while it is there

    def benches(self, spec: StudySpec) -> dict[str, Bench]:
        """Where the devices that other nodes have are measured, by device.

        Raises: NasError where a node offers a device that it does not have, or does not answer.
        """
        found = {}
        for name, device in self._devices.items():
            if device.stands == "elsewhere" and self._cluster.having(device):
                found[name] = Bench(**self._asked(device, spec.runtime_on(name)))
        return found

    @property
    def under_way(self) -> bool:
        """Whether anything is measured, or waits to be."""
        return bool(self._batches)

    def begin(self, job: Measure) -> None:
        """Takes a batch on."""
        self._batches.append(_Batch(job))

    def wait(self) -> None:
        """Until something was measured, or half a second."""
        answers = [b.answer for b in self._batches if b.answer is not None]
        if answers:
            self._cluster.ray.wait(answers, timeout=LOOK_S)
        else:
            time.sleep(LOOK_S)

    def collect(self) -> Iterator[tuple[Measure, Outcome]]:
        """The batches that are done; sends those that wait to devices that have come."""
        for batch in list(self._batches):
            if batch.answer is None:
                self._send(batch)
            elif self._cluster.ray.wait([batch.answer], timeout=0)[0]:
                outcome = self._outcome(batch)
                if outcome is not None:
                    self._batches.remove(batch)
                    yield batch.job, outcome

    def end(self) -> None:
        """Lets go of the devices.

        An actor lives as long as the search that made it is in the cluster: what it then measures
        for another search is lost, and done again by another actor.
        """
        self._batches.clear()
        self._actors.clear()

    def _send(self, batch: _Batch) -> None:
        device = self._devices.get(batch.job.device) or named(batch.job.device)
        home = self._cluster.home()
        stands, nodes = device.stands, [home]
        if stands == "elsewhere":
            stands, nodes = "here", self._having(device)
        now = time.monotonic()
        if nodes:
            batch.away = None
        elif batch.away is None:
            batch.away = now
        elif self._predict_after_s is not None and now - batch.away >= self._predict_after_s:
            stands, nodes = "away", [home]
        if nodes and now >= batch.rest:
            batch.node = nodes[0]
            setup = {**self._setup, "stands": {device.name: stands} if stands else {}}
            actor = self._actor(batch.node, device)
            batch.answer = actor.measure.remote(setup, job_to_json(batch.job))

    def _outcome(self, batch: _Batch) -> Outcome | None:
        """What became of a batch; None where its node or actor went away, and it waits again.

        It is blamed where that happens too often to actors that did measure.
        """
        errors = self._cluster.ray.exceptions
        try:
            return Outcome.from_json(self._cluster.ray.get(batch.answer))
        except errors.RayTaskError as error:
            return Outcome(error=_said(error.cause))
        except errors.RayError as error:
            self._actors = {k: a for k, a in self._actors.items() if k[0] != batch.node}
            batch.answer, batch.rest = None, time.monotonic() + REST_S
            batch.lost += not of_its_search(str(error))
            if batch.lost < LOST:
                return None
            times = f"{batch.job.device} was lost {LOST} times while it measured"
            return Outcome(error=f"{times}: {cause_of(str(error))}")

    def _having(self, device: Device) -> list[str]:
        """The nodes that offer a device, the one that has measured on it first.

        Ray gives cards of one kind one name whatever their memory: another node's may be unlike.
        """
        nodes = self._cluster.having(device)
        return sorted(nodes, key=lambda node: node != self._homes.get(device.name))

    def _actor(self, node: str, device: Device) -> Any:
        """The actor of a node's device; the one that another search made, where there is one."""
        key = (node, device.seat)
        if key not in self._actors:
            util = self._cluster.ray.util.scheduling_strategies
            self._actors[key] = Lessor.options(  # type: ignore[attr-defined]
                name=f"nas lease of {device.seat} on {node}",
                namespace=NAMESPACE,
                get_if_exists=True,
                num_cpus=0,
                # an actor that takes no GPU would see none
                runtime_env={"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}},
                scheduling_strategy=util.NodeAffinitySchedulingStrategy(node, soft=False),
            ).remote()
        return self._actors[key]

    def _asked(self, device: Device, runtime: str | None) -> dict[str, str]:
        """What a node measures a device with, asked again where its actor or the node has gone.

        Raises: NasError where none says.
        """
        errors = self._cluster.ray.exceptions
        again, node, gone = time.monotonic() + 2 * REST_S, "", set[str]()
        while True:
            nodes = self._having(device) or [node]
            node = next((n for n in nodes if n not in gone), nodes[0])
            asked = self._actor(node, device).bench.remote(self._setup, device.name, runtime)
            try:
                found = dict(self._cluster.ray.get(asked, timeout=ANSWER_S))
                self._homes[device.name] = node
                return found
            except errors.RayTaskError as error:
                if isinstance(error.cause, NasError):
                    gone.add(node)
                    if gone.issuperset(nodes):
                        raise error.cause from None
                    continue  # one that offers what it has not says nothing of the others
                why = _said(error.cause)
            except errors.GetTimeoutError:
                why = f"nothing in {ANSWER_S:g} s"
            except errors.RayError as error:
                why = cause_of(str(error))
                if of_its_search(str(error)) and time.monotonic() < again:
                    gone.add(node)  # another one first
                    del self._actors[node, device.seat]
                    time.sleep(LOOK_S)
                    continue
            raise NasError(
                f"the node {node}, which offers {device.name}, does not say what it measures with: "
                f"{why}",
                "look after that node (ray status), or end Ray there (ray stop); then search again",
            )


def _said(cause: BaseException) -> str:
    """An error in one line; one that says nothing by its name."""
    return str(cause).strip().partition("\n")[0] or type(cause).__name__
