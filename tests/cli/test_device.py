from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from nas import api

from .conftest import Asked, Nas

Snapshot = Callable[[str, str], None]


@pytest.mark.parametrize(
    "command", [("profile", "big:one", "--device", "cpu"), ("spaces",), ("devices",)]
)
def test_what_people_see(
    command: tuple[str, ...], nas: Nas, asked: Asked, snapshot: Snapshot
) -> None:
    answer = nas(*command)
    assert answer.code == 0
    shown = "\n".join(line.rstrip() for line in answer.out.splitlines())
    snapshot(f"table_{command[0]}", f"{shown}\n-- stderr\n{answer.err}")
    answer = nas(*command, "--json", "--quiet")
    assert (answer.code, answer.err) == (0, "")
    assert "Infinity" not in answer.out
    json.loads(answer.out)


def test_profile_passes_everything(nas: Nas, asked: Asked) -> None:
    nas("profile", "big:one", "--device", "cpu", "--runtime", "torch:bf16", "--resolution", "224",
        "--batch", "8", "--by-layer", "--static")  # fmt: skip
    assert asked.calls[-1] == (
        "profile", ("big:one", "cpu"),
        {"runtime": "torch:bf16", "resolution": 224, "batch": 8, "by_layer": True, "static": True,
         "storage": None},
    )  # fmt: skip


def test_a_space_that_cannot_be_used_is_not_proposed(
    nas: Nas, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"name": "bad", "file": "bad.py", "error": "line 3: no"}
    monkeypatch.setitem(vars(api), "spaces", lambda: [row])
    answer = nas("spaces")
    assert answer.out == "bad  cannot be used: line 3: no\n"
    assert answer.err == ""


def test_the_shipped_spaces_are_listed(nas: Nas) -> None:
    rows = json.loads(nas("spaces", "--json", "--quiet").out)
    assert "largekernel" in [row["name"] for row in rows]
