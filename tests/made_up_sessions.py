"""Sessions in which each network's true latency is known, and the numbers made of them."""

from pathlib import Path

import numpy as np

from nas.hardware.history import AnchorHistory
from nas.hardware.interval import between
from nas.hardware.protocol import Protocol
from nas.hardware.runs import summary
from nas.hardware.session import Session
from nas.hardware.timing import _measurement


def made_up(values, noise=0.01, passes=20, seed=0, trend=0.0, interrupted=0.0, jumpy=()):
    """A session in which each network's true latency is known (microseconds).

    Of a share `interrupted` of the calls another process had the core for 3 ms. Of the networks
    in `jumpy` every fifth call takes three times as long as the others.
    """
    rng = np.random.default_rng(seed)
    results = {}
    for i, (name, value) in enumerate(values.items()):
        place = np.repeat(np.arange(passes), 10)
        samples = value * (1 + trend * place / passes + rng.exponential(noise, place.size))
        away = 3000.0 * (np.arange(place.size) % 20 < 20 * interrupted)
        samples += away
        samples[::5] *= 3.0 if name in jumpy else 1.0
        results[name] = {
            "event": "result", "file": i, "load_s": 0.0, "first_ms": 0.0, "done": True,
            "samples": samples.tolist(), "refs": [50.0] * place.size, "passes": place.tolist(),
            "away": away.tolist(),
        }  # fmt: skip
    state = {"load": [0, 0, 0], "mhz": None, "governor": None, "celsius": None}
    session = Session(list(values))
    session.results = results
    session.start = {"runtime": {"onnxruntime": "1"}, "versions": {}, "affinity": None}
    session.start["state"] = state
    session.end = {
        "reference_us": 50.0,
        "quiet_us": 50.0,
        "warm_s": 0.1,
        "pass_s": 0.1,
        "state": state,
    }
    return session


def runs_of(latencies, **options):
    rules = Protocol()
    return [
        summary(made_up({0: value, "dense": 80.0}, seed=i, **options), rules)
        for i, value in enumerate(latencies)
    ]


def numbered(runs, rules=None):
    rules = rules or Protocol()
    spread = between(runs, AnchorHistory(Path("nowhere"), "x"), rules, 1)
    return _measurement(0, runs, spread, {}, rules, "x")
