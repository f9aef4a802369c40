"""Addresses of databases: what is refused, and that no password is ever written down."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nas.core.errors import NasError
from nas.store.address import exists, parsed, unlisted

SECRET = "hunter2"
WRONG = [
    f"postgresql//me:{SECRET}@host/nas",  # no colon
    f"postgresql+psycopg://me:{SECRET}@host:port/nas",
    f"postgresql+psycopg://me:hun@{SECRET}@host/nas",
    f"mysql://me:{SECRET}@host/nas",
]


@pytest.mark.parametrize("url", WRONG)
def test_a_wrong_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(NasError) as told:
        parsed(url)
    assert SECRET not in str(told.value)


@pytest.mark.parametrize(
    "url",
    [*WRONG, f"postgresql+psycopg://me:a/{SECRET}@127.0.0.1:1/nas",
     f"postgresql+psycopg://me@127.0.0.1:1/nas?password={SECRET}",
     f"postgresql+psycopg://me@127.0.0.1:1/nas?passfile={SECRET}",
     f"postgresql+psycopg://me@127.0.0.1:1/nas?Password={SECRET}"],
)  # fmt: skip
def test_no_command_prints_a_password(url: str) -> None:
    command = [sys.executable, "-m", "nas", "studies", "--storage", url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert SECRET not in done.stdout + done.stderr


def test_the_nearest_right_address_is_said() -> None:
    with pytest.raises(NasError, match=r"did you mean sqlite:///nas\.db"):
        parsed("nas.db")
    with pytest.raises(NasError, match="%40"):
        parsed("postgresql+psycopg://me:a@b@host/nas")
    assert not exists("sqlite:////nowhere/nas.db") and exists("postgresql+psycopg://me@host/nas")


@pytest.mark.parametrize(
    "url",
    [f"postgresql+psycopg://me:{SECRET}@host/nas",
     f"postgresql+psycopg://me@host/nas?Password={SECRET}"],
)  # fmt: skip
@pytest.mark.parametrize("typed", ["--storage={}", "{}", 'search(storage="{}", runner="ray")'])
def test_a_password_that_a_cluster_would_list_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str, typed: str
) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["nas", "search"])
    unlisted(url)  # of NAS_STORAGE, or a script's own
    monkeypatch.setattr(sys, "orig_argv", ["nas", "search", typed.format(url)])
    with pytest.raises(NasError, match="Ray lists a typed password") as told:
        unlisted(url)
    assert SECRET not in str(told.value)
    for way in ("~/.pgpass", "PGPASSWORD", "NAS_STORAGE"):
        assert way in told.value.hint


@pytest.mark.parametrize(
    "url",
    ["sqlite:///a:b@c/nas.db", "postgresql+psycopg://me@host/nas",
     "postgresql+psycopg://me@host/nas?passfile=/home/me/.pgpass"],
)  # fmt: skip
def test_an_address_without_a_password_may_be_listed(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["nas", "search", "--storage", url])
    unlisted(url)


@pytest.mark.parametrize("url", WRONG)
def test_what_is_no_address_is_never_listed(url: str) -> None:
    with pytest.raises(NasError) as told:
        unlisted(url)
    assert SECRET not in str(told.value)
