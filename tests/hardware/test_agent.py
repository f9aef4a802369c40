import ast
import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from nas.hardware import agent
from nas.hardware.protocol import Protocol

RULES = asdict(Protocol())


def test_the_agent_is_one_file_with_numpy_and_the_runtime_alone():
    tree = ast.parse(Path(agent.__file__).read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.name.partition(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).partition(".")[0])
    assert names - sys.stdlib_module_names == {"numpy", "onnxruntime"}


def job(files, anchors=(), **changes):
    return {
        "files": [str(f) for f in files],
        "anchors": [str(a) for a in anchors],
        "batch": 1,
        "resolution": None,
        "threads": 1,
        "seed": 0,
        "protocol": RULES | changes,
        "seconds": 60,
        "memory": None,
    }


def talk(task):
    done = subprocess.run(
        [sys.executable, "-I", agent.__file__],
        input=json.dumps(task), capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    return done, [json.loads(line) for line in done.stdout.splitlines()]


def test_raw_samples_of_every_network_and_the_reasons_of_the_others(files):
    done, lines = talk(job([files["small"], files["broken"]], [files["large"]], max_passes=8))
    assert done.returncode == 0, done.stderr
    by_event = {}
    for line in lines:
        by_event.setdefault(line["event"], []).append(line)
    (failed,) = by_event["failed"]
    assert failed["file"] == 1 and "INVALID_PROTOBUF" in failed["error"].upper()
    assert [r["file"] for r in by_event["result"]] == [0, 2]
    for result in by_event["result"]:
        size = len(result["samples"])
        assert size == len(result["refs"]) == len(result["passes"]) > 6
        assert min(result["samples"]) > 0
        assert result["passes"] == sorted(result["passes"])
    (start,), (end,) = by_event["start"], by_event["end"]
    assert set(start["state"]) == set(end["state"]) == {"load", "mhz", "governor", "celsius"}
    assert start["runtime"]["onnxruntime"] and len(end["reference"]) > 10


def test_a_short_network_is_faster_than_a_long_one(files):
    _, lines = talk(job([files["small"], files["large"]]))
    small, large = (np.quantile(x["samples"], 0.25) for x in lines if x["event"] == "result")
    assert small * 5 < large  # 2 x 64^2 against 8 x 256^2 products


def test_the_gate_drops_what_was_taken_beside_a_slow_reference():
    quiet, busy = np.full(60, 100.0), np.full(40, 250.0)
    samples = np.concatenate([quiet, busy])
    refs = np.concatenate([np.full(60, 50.0), np.full(40, 90.0)])
    passes = np.arange(100) // 10
    found = agent.estimate(samples, refs, passes, 50.0, RULES)
    assert (found["value"], found["kept"], found["n"], found["noisy"]) == (100.0, 60, 100, False)
    assert found["p99"] == 100.0


def test_where_it_is_never_quiet_the_quietest_fifth_is_kept_and_flagged():
    rng = np.random.default_rng(0)
    refs = rng.uniform(200, 400, 200)
    found = agent.estimate(refs * 2, refs, np.arange(200) // 20, 50.0, RULES)
    assert found["noisy"] and found["kept"] == 40
    assert found["value"] < np.quantile(refs * 2, 0.2)


def test_the_bootstrap_agrees_with_drawing_passes_by_hand():
    rng = np.random.default_rng(1)
    passes = np.repeat(np.arange(12), 15)
    level = rng.normal(100, 5, 12)
    samples = level[passes] + rng.normal(0, 1, 180)
    fast = agent.bootstrap(samples, passes, 0.25, seed=0, rounds=4000)
    by_pass = [samples[passes == p] for p in range(12)]
    slow = [
        np.quantile(
            np.concatenate([by_pass[i] for i in rng.integers(12, size=12)]),
            0.25,
            method="inverted_cdf",
        )
        for _ in range(4000)
    ]
    assert fast.mean() == pytest.approx(np.mean(slow), rel=0.005)
    assert fast.std() == pytest.approx(np.std(slow), rel=0.1)


class Spec:
    def __init__(self, shape, kind="tensor(float)"):
        self.name, self.shape, self.type = "x", shape, kind


def test_inputs_are_random_fixed_and_never_zero():
    task = {"batch": 2, "resolution": 8, "seed": 3}
    spec = Spec(["n", 3, "h", "w"])
    one, two = (agent.random_input(spec, task, np.random.default_rng(3)) for _ in range(2))
    assert one.shape == (2, 3, 8, 8) and one.dtype == np.float32
    assert np.array_equal(one, two) and np.all(one != 0)
    ids = agent.random_input(Spec(["n", 5], "tensor(int64)"), task, np.random.default_rng(0))
    assert ids.dtype == np.int64 and ids.min() > 0


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (Spec([4, 3, 8, 8]), "fixed at batch 4"),
        (Spec(["n", 3, 32, 32]), "not side 8"),
        (Spec(["n", "c", 8, 8]), "free dimension 'c'"),
        (Spec(["n", 3], "tensor(string)"), "tensor\\(string\\)"),
    ],
)
def test_a_file_that_contradicts_the_job_says_how(spec, reason):
    task = {"batch": 2, "resolution": 8, "seed": 0}
    with pytest.raises(ValueError, match=reason):
        agent.random_input(spec, task, np.random.default_rng(0))


PARENT = """
import json, subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-I", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
)
child.stdin.write(sys.argv[2])
child.stdin.close()
while "loading" not in child.stdout.readline():
    pass
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.slow
def test_an_orphan_dies_with_its_parent(files):
    task = json.dumps(job([files["hanging"]], call_cap_s=60.0))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, agent.__file__, task], stdout=subprocess.PIPE, text=True
    )
    child = Path("/proc") / parent.stdout.readline().strip()
    assert child.exists()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while child.exists() and "Z" not in _state(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "Z" in _state(child), "the agent outlived its parent"


def _state(process):
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
