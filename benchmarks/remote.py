"""Whether a host over ssh measures what it would measure itself.

    python benchmarks/remote.py

An sshd of this user's, on this machine, with a Python that has numpy and onnxruntime alone, is
measured through beside the machine itself: networks drawn from `largekernel`, all in one process of
the agent each time, the two ways in turn, whichever was second going first in the next round. What
is printed is the ratio of the two for each network (the medians over the rounds), their geometric
mean, and how far the rounds of one way scatter, which is what a ratio of 1 must be seen against.
`--device ssh://HOST/cpu` measures through another way to this machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from kept import keep

from nas.api.calibrating import sample
from nas.hardware.device import Device, host_id, named
from nas.hardware.lease import Lease, default_folder
from nas.hardware.timing import measure


@contextmanager
def loopback() -> Iterator[str]:
    """The device of an sshd on this machine."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    import loopback as places

    if places.LACKING:
        raise SystemExit(f"{places.LACKING}: install openssh-server, or name a --device")
    # one machine has one lease: whoever else measures or trains here stands aside for both ways
    locks = default_folder()
    with tempfile.TemporaryDirectory() as folder, places.running(Path(folder), locks) as server:
        os.environ["PATH"] = f"{server.bin}:{os.environ['PATH']}"
        yield server.device


def timed(files: list[Path], device: Device) -> tuple[list[float], float]:
    """Milliseconds of each file, and the seconds that all took."""
    start = time.perf_counter()
    found = measure(files, device, Lease(default_folder(), device.seat), basis="untrained form")
    took = time.perf_counter() - start
    failed = [f for f in found if isinstance(f, str)]
    if failed:
        raise SystemExit(f"{device.name}: {failed[0]}")
    return [f.value for f in found if not isinstance(f, str)], took


def compare(device: Device, networks: int, rounds: int, seed: int) -> dict[str, object]:
    """The figures."""
    ways = {"here": named("cpu"), "ssh": device}
    if len({host_id(way) for way in ways.values()}) > 1:
        raise SystemExit(f"{device.name} is another machine: the two must be one")
    values: dict[str, list[list[float]]] = {name: [] for name in ways}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        files = sample("largekernel", networks, Path(folder), seed)
        for place in range(rounds):
            for name in list(ways)[:: 1 if place % 2 == 0 else -1]:
                found, took = timed(files, ways[name])
                values[name].append(found)
                seconds[name].append(took)
                print(f"round {place + 1}, {name}: {took:.1f} s", flush=True)
    here, there = (np.array(values[name]) for name in ways)
    ratios = np.median(there, axis=0) / np.median(here, axis=0)
    logs = np.log(ratios)
    error = 1.645 * logs.std(ddof=1) / len(logs) ** 0.5
    mean = float(np.exp(logs.mean()))
    return {
        "networks": networks,
        "rounds": rounds,
        "latency_ms": {name: np.median(np.array(v), axis=0).tolist() for name, v in values.items()},
        "ratios": ratios.tolist(),
        "ratio": mean,
        "ratio_90": [mean * float(np.exp(s * error)) for s in (-1, 1)],
        "scatter": {n: float(np.median(np.std(v, axis=0) / np.mean(v, axis=0)))
                    for n, v in values.items()},
        "seconds": {name: float(np.median(v)) for name, v in seconds.items()},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device")
    parser.add_argument("--networks", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.device:
        found = compare(named(args.device), args.networks, args.rounds, args.seed)
    else:
        with loopback() as device:
            found = compare(named(device), args.networks, args.rounds, args.seed)
    low, high = found["ratio_90"]
    scatter, seconds = found["scatter"], found["seconds"]
    print(f"ssh / here: {found['ratio']:.4f} [{low:.4f}, {high:.4f}] over {args.networks} networks")
    print(f"between rounds of one way: {scatter['here']:.1%} here, {scatter['ssh']:.1%} over ssh")
    print(f"one measurement of all: {seconds['here']:.1f} s here, {seconds['ssh']:.1f} s over ssh")
    print(f"kept: {keep('remote', found, args.out)}")


if __name__ == "__main__":
    main()
