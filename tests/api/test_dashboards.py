from __future__ import annotations

import builtins
import hashlib
import io
import json
import socket
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from example_study import toy_store

from nas.api.dashboards import Files, application, dashboard
from nas.core.errors import NasError
from nas.store.artifacts import Artifacts


@pytest.fixture
def storage(tmp_path: Path) -> str:
    toy_store(tmp_path)
    return f"sqlite:///{tmp_path}/studies/nas.db"


def get(app: Any, path: str) -> tuple[str, bytes]:
    """Status and body of a request to a WSGI application."""
    status: list[str] = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "wsgi.input": io.BytesIO(),
               "SERVER_NAME": "here", "SERVER_PORT": "80", "wsgi.errors": io.StringIO(),
               "wsgi.url_scheme": "http"}  # fmt: skip
    body = b"".join(app(environ, lambda said, headers, *more: status.append(said)))
    return status[0], body


def test_the_study_is_served(storage: str) -> None:
    app = application("toy", storage)
    status, body = get(app, "/api/studies/0")
    assert status.startswith("200")
    study = json.loads(body)
    assert study["name"] == "toy"
    assert len(study["trials"]) == 39
    assert {t["state"] for t in study["trials"]} == {"Complete", "Fail", "Pruned", "Running"}


def test_it_answers_over_a_socket_and_says_where(storage: str) -> None:
    ready, address = threading.Event(), []

    def tell(url: str) -> None:
        address.append(url)
        ready.set()

    thread = threading.Thread(
        target=dashboard, args=("toy",), kwargs={"port": 0, "storage": storage, "ready": tell},
        daemon=True,
    )  # fmt: skip
    thread.start()
    assert ready.wait(60)
    with urllib.request.urlopen(address[0].replace("/dashboard", "/api"), timeout=30) as answer:
        assert json.loads(answer.read())["name"] == "toy"


def test_a_taken_port_is_two_lines(storage: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(NasError, match="cannot serve on") as caught,
    ):
        dashboard("toy", port=taken.getsockname()[1], storage=storage)
    assert caught.value.hint == "name another: --port 0 takes any"


def test_an_unknown_study_and_a_missing_package(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NasError, match="no study named 'toi'"):
        application("toi", storage)
    original = builtins.__import__

    def refuse(name: str, *given: Any, **options: Any) -> Any:
        if name == "optuna_dashboard":
            raise ImportError(name)
        return original(name, *given, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(NasError, match="optuna-dashboard is not installed") as caught:
        application("toy", storage)
    assert "'.[dashboard]'" in caught.value.hint


def test_files_are_read_and_never_changed(tmp_path: Path) -> None:
    from optuna.artifacts.exceptions import ArtifactNotFound

    name = hashlib.sha256(b"net").hexdigest() + ".onnx"
    (tmp_path / name).write_bytes(b"net")
    files = Files(Artifacts(tmp_path))
    with files.open_reader(name) as opened:
        assert opened.read() == b"net"
    for missing in ("b" * 64 + ".onnx", "../secret"):
        with pytest.raises(ArtifactNotFound):
            files.open_reader(missing)
    with pytest.raises(PermissionError):
        files.write(name, io.BytesIO())
    with pytest.raises(PermissionError):
        files.remove(name)
