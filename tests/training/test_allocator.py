"""Memory that is kept for the next step, and given back at the end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nas.training import allocator

# a process of its own: what glibc does depends on all that was taken before
SCRIPT = """
import json, resource, torch
from contextlib import nullcontext
from pathlib import Path
from nas.training.allocator import kept_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

def steps():
    for number in range(40):
        if number == 1:
            begun = faults()
        parts = [torch.ones(12 * 2**20) for _ in range(2)]  # 48 MiB each: never adapted to
        del parts
    return faults() - begun

found = {"usual": steps()}
before = resident()
with kept_memory():
    found["kept"] = steps()
    found["held"] = resident() - before
found["after"] = resident() - before
print(json.dumps(found))
"""


def pages(**environment: str) -> dict[str, int]:
    usual = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(filter(None, sys.path))}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, check=True, env=usual | environment)
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_a_step_pays_once_for_its_pages_and_the_system_has_them_back() -> None:
    found = pages()
    assert found["usual"] > 100_000  # of the 958,464 pages of 39 steps, or fewer larger ones
    # Now and then a new block fits nowhere where its like was freed, so up to nine are held
    assert found["kept"] < found["usual"] / 4
    assert found["held"] > 10_000
    assert found["after"] < found["held"] / 3


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_who_has_set_the_allocator_keeps_his_setting() -> None:
    assert pages(MALLOC_ARENA_MAX="2")["kept"] > 10_000


CHILDREN = """
import ctypes, subprocess, sys
from nas.training.allocator import forget_preloaded
forget_preloaded()
print(hasattr(ctypes.CDLL(None), "mallctl"), flush=True)
asked = "import ctypes, os; print(hasattr(ctypes.CDLL(None), 'mallctl'), len(os.environ))"
subprocess.run([sys.executable, "-S", "-c", asked], check=True)
"""


@pytest.fixture
def preloaded() -> dict[str, str]:
    found = allocator.preloaded()
    if not found:
        pytest.skip("no jemalloc here, or the tests run with an allocator of their own")
    return found


def test_jemalloc_keeps_memory_and_the_system_has_it_back(preloaded: dict[str, str]) -> None:
    found = pages(**preloaded)
    assert found["kept"] < 30_000
    assert found["after"] < 1_000


def test_what_such_a_process_starts_has_the_usual_allocator(preloaded: dict[str, str]) -> None:
    usual = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(filter(None, sys.path))}
    command = [sys.executable, "-c", CHILDREN]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=usual | preloaded
    )
    assert done.stdout.split()[:2] == ["True", "False"]


@pytest.mark.parametrize("name", ["LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_CONF"])
def test_whoever_chose_an_allocator_keeps_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")
    assert allocator.preloaded() == {}
    allocator.forget_preloaded()


def test_a_library_that_does_not_load_is_not_used(tmp_path: Path) -> None:
    broken = tmp_path / "libjemalloc.so"
    broken.write_bytes(b"no library")
    assert not allocator._starts_with(str(broken))
