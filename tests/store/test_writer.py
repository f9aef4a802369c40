"""A claim ends with its process, and only with it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from nas.store import writer
from nas.store.writer import Writer, beginning


@pytest.fixture
def child() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def test_a_process_lives_until_it_ends(child: subprocess.Popen[bytes]) -> None:
    claim = replace(Writer.this(), process=child.pid, started=beginning(child.pid))
    assert claim.alive is True
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert claim.alive is False  # ended, though nobody has collected it yet
    child.communicate()
    assert claim.alive is False
    assert beginning(child.pid) is None


def test_a_later_process_of_the_same_number_is_another_one() -> None:
    assert replace(Writer.this(), started="another boot:17").alive is False


def test_nobody_knows_of_another_host() -> None:
    assert replace(Writer.this(), host="elsewhere").alive is None


def test_ps_answers_where_there_is_no_proc(
    monkeypatch: pytest.MonkeyPatch, child: subprocess.Popen[bytes]
) -> None:
    monkeypatch.setattr(writer, "PROC", writer.PROC / "missing")
    found = beginning(child.pid)
    assert found is not None and ":" in found and found == beginning(child.pid)
    child.communicate(b"\n")
    assert beginning(child.pid) is None
