"""Artifacts in a folder and behind a URL: what is read back is what was put, or an error."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from nas.core.errors import NasError
from nas.store.artifacts import Artifacts, Stored, abandoned, opened


def kept(artifacts: Artifacts, content: bytes) -> str:
    path = artifacts.scratch() / "a.onnx"
    path.write_bytes(content)
    return artifacts.put(path)


@pytest.fixture(params=["folder", "file", "memory"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Artifacts, Artifacts]:
    """The artifacts as two hosts see them."""
    if request.param == "folder":
        return opened(str(tmp_path)), opened(str(tmp_path))
    url = f"file://{tmp_path}/shared" if request.param == "file" else f"memory://{tmp_path.name}"
    return Stored(url, tmp_path / "one"), Stored(url, tmp_path / "two")


def test_what_one_host_puts_another_reads(places: tuple[Artifacts, Artifacts]) -> None:
    one, two = places
    name = kept(one, b"a network")
    assert name == hashlib.sha256(b"a network").hexdigest() + ".onnx"
    assert two.holds(name) and not two.holds("0" * 64 + ".onnx") and not two.holds(None)
    assert two.path(name).read_bytes() == b"a network"
    assert kept(two, b"a network") == name


@pytest.mark.parametrize("name", ["../../etc/passwd", "a.onnx", "0" * 64 + ".pkl", "/abs.onnx"])
def test_no_name_leads_out_of_the_place(places: tuple[Artifacts, Artifacts], name: str) -> None:
    for ask in (places[0].path, places[0].holds):
        with pytest.raises(NasError, match="not an artifact's name"):
            ask(name)


def test_what_was_changed_behind_its_name_is_refused(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/shared"
    name = kept(Stored(url, tmp_path / "one"), b"a network")
    (tmp_path / "shared" / name).write_bytes(b"something else")
    with pytest.raises(NasError, match="not what was recorded"):
        Stored(url, tmp_path / "two").path(name)


def test_what_was_changed_in_a_folder_is_refused_also_by_who_read_it_before(tmp_path: Path) -> None:
    one, two = opened(str(tmp_path)), opened(str(tmp_path))
    name = kept(one, b"a network")
    assert one.path(name) == two.path(name)
    for reader in (one, two, opened(str(tmp_path))):
        (tmp_path / name).write_bytes(b"anetwork ")
        with pytest.raises(NasError, match="not what was recorded"):
            reader.path(name)
        assert not reader.holds(name) and not reader.sound(name) and reader.damaged(name)
    assert (tmp_path / f"{name}.damaged").read_bytes() == b"anetwork "
    assert kept(one, b"a network") == name and two.sound(name)


def test_a_copy_that_was_damaged_is_fetched_again(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/shared"
    name = kept(Stored(url, tmp_path / "one"), b"a network")
    (tmp_path / "one" / name).write_bytes(b"something else")
    assert Stored(url, tmp_path / "one").path(name).read_bytes() == b"a network"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3://key:secret@bucket/nas", "holds a password"),
        ("s3:/key:secret@bucket/nas", "holds a password"),
        ("s3://key:se/secret@bucket/nas", "holds a password"),
        ("simplecache::s3://key:secret@bucket/nas", "holds a password"),
        ("simplecache::ftp://me:secret@host/nas", "holds a password"),
        ("s3://bucket/nas?password=secret", "holds a password"),
        ("abfs://bucket/nas?sas_token=secret", "holds a password or a key"),
        ("s3://bucket/nas?region=a&aws_secret_access_key=secret", "holds a password or a key"),
        ("nosuch://bucket/nas", "cannot keep artifacts"),
        ("s3:/bucket/nas", "did you mean s3://bucket/nas"),
        ("file:/tmp/nas", "did you mean file:///tmp/nas"),
    ],
)
def test_places_that_cannot_be(url: str, told: str) -> None:
    with pytest.raises(NasError, match=told) as caught:
        opened(url)
    assert "secret" not in str(caught.value)


def test_processes_of_the_same_number_on_two_hosts_share_no_scratch(tmp_path: Path) -> None:
    """As in two containers: a name of its own for each host, process and start."""
    tell = "from nas.store.artifacts import opened; print(opened('.').scratch().name)"
    places = [
        opened(str(tmp_path)).scratch().name,
        *(
            subprocess.run(
                [sys.executable, "-c", tell], check=True, text=True, cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True,
            ).stdout.strip()
            for _ in range(2)
        ),
    ]  # fmt: skip
    assert len({name.rsplit("-", 1)[1] for name in places}) == 3
    assert all(name.startswith(f"{platform.node()}-") for name in places)
    assert not abandoned(places[0]) and all(map(abandoned, places[1:]))
    assert not abandoned(f"elsewhere-{places[1]}")
