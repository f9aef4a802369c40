"""A search in a process of its own, which tests may kill: `python drive.py JSON`."""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import replace
from pathlib import Path

import toywork

from nas.core.errors import NasError
from nas.engine import Search
from nas.hardware.device import named
from nas.runners.ray import joined
from nas.runners.ray_lease import Leases
from nas.runners.ray_search import Ray, Terms
from nas.session import Session
from nas.store.artifacts import Artifacts
from nas.store.store import Store


def main() -> None:
    given = json.loads(sys.argv[1])
    timed = given.get("timed", False)
    spec = toywork.spec(given["study"], given["trials"], tuple(given.get("presets", ())), timed)
    # a processor that other nodes offer, as they would a board
    devices = {"cpu": replace(named("cpu"), stands="elsewhere")} if timed else {}
    if given.get("fsize"):
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (given["fsize"], hard))
    setup = {
        "spec": spec.to_json(), "artifacts": given.get("artifacts", "artifacts"),
        "folder": str(Path.cwd()), "sources": {},
        "paths": sys.path,
        "silence_s": given.get("silence_s", 60.0), "work": "toywork:work",
        "rung_s": given["rung_s"], "locks": given["locks"], "memory_bytes": 1 << 31,
        "gates": given.get("gates", {}), "file_bytes": given.get("file_bytes", 0),
        "stands": {name: device.stands for name, device in devices.items()},
    }  # fmt: skip
    terms = Terms(given.get("resources", {"CPU": 1.0}), given.get("at_once"),
                  given.get("callbacks", ()), setup["silence_s"])  # fmt: skip
    with joined(given["address"]) as cluster, Store(given["url"]) as store:
        if not given.get("resume"):
            store.create(spec)
        epoch = store.claim(spec.name, take_over=given.get("take_over", False))
        leases = Leases(cluster, setup, devices, given.get("predict_after_s"))
        runner = Ray(cluster, setup, leases, terms)
        search = Search(spec, toywork.SPACE, toywork.OnlyGood(), store.events(spec.name),
                        runner.workers + 2)  # fmt: skip
        try:
            artifacts = Artifacts(Path(setup["artifacts"]))
            session = Session(search, store, epoch, artifacts, leases.benches(spec))
            print(runner.run(session).reason)
        finally:
            store.release(spec.name, epoch)


if __name__ == "__main__":
    try:
        main()
    except NasError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
