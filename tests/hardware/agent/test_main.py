import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from nas.hardware import bundle
from nas.hardware.protocol import Protocol

RULES = asdict(Protocol())


@pytest.fixture
def program(tmp_path):
    return bundle.write(tmp_path)


def job(files, anchors=(), **changes):
    return {
        "files": [str(f) for f in files],
        "anchors": [str(a) for a in anchors],
        "batch": 1,
        "resolution": None,
        "runtime": "onnxruntime",
        "threads": 1,
        "seed": 0,
        "protocol": RULES | changes,
        "seconds": 60,
        "memory_share": None,
    }


def talk(program, task):
    done = subprocess.run(
        [sys.executable, "-I", str(program)],
        input=json.dumps(task), capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    return done, [json.loads(line) for line in done.stdout.splitlines()]


def test_raw_samples_of_every_network_and_the_reasons_of_the_others(files, program):
    done, lines = talk(
        program, job([files["small"], files["broken"]], [files["large"]], max_passes=8)
    )
    assert done.returncode == 0, done.stderr
    by_event = {}
    for line in lines:
        by_event.setdefault(line["event"], []).append(line)
    (failed,) = by_event["failed"]
    assert failed["file"] == 1 and "INVALID_PROTOBUF" in failed["error"].upper()
    assert [r["file"] for r in by_event["result"]] == [0, 2]
    for result in by_event["result"]:
        size = len(result["samples"])
        assert size == len(result["refs"]) == len(result["passes"]) == len(result["away"]) > 6
        assert min(result["away"]) >= 0
        assert min(result["samples"]) > 0
        assert result["passes"] == sorted(result["passes"])
    (start,), (end,) = by_event["start"], by_event["end"]
    assert set(start["state"]) == set(end["state"]) >= {"load", "mhz", "governor", "celsius"}
    assert start["runtime"]["onnxruntime"] and 0 < end["quiet_us"] <= end["reference_us"]


def test_a_session_without_a_network_that_loads_comes_to_its_end(files, program):
    done, lines = talk(program, job([files["broken"]]))
    assert done.returncode == 0, done.stderr
    assert [line["event"] for line in lines] == ["start", "loading", "failed", "end"]


@pytest.mark.slow
def test_a_session_knows_what_is_quiet_from_earlier_ones(files, program):
    said = {}
    for usual in (1e-3, 1e6):  # microseconds
        done, lines = talk(program, job([files["small"]]) | {"usual_us": usual})
        said[usual] = lines[-1]
        assert done.returncode == 0 and lines[-1]["event"] == "end"
    assert said[1e-3]["quiet_us"] < 0.01 < said[1e-3]["reference_us"]
    assert said[1e6]["quiet_us"] == said[1e6]["reference_us"]


def test_a_short_network_is_faster_than_a_long_one(files, program):
    _, lines = talk(program, job([files["small"], files["large"]]))
    small, large = (np.quantile(x["samples"], 0.25) for x in lines if x["event"] == "result")
    assert small * 2 < large  # 2 x 64^2 against 8 x 256^2 products, and what a call costs anyway


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
def test_an_orphan_dies_with_its_parent(files, program):
    task = json.dumps(job([files["hanging"]], call_cap_s=60.0))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(program), task], stdout=subprocess.PIPE, text=True
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
