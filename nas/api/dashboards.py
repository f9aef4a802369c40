"""`nas dashboard`: Optuna's dashboard on a view of a study, made anew while the search goes on."""

from __future__ import annotations

from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import Any, BinaryIO
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from nas.api.places import artifacts_of, storage_url
from nas.core.errors import NasError
from nas.store.artifacts import Artifacts
from nas.store.store import Store

INSTALL = "type pip install -c constraints.txt -e '.[dashboard]'"


def dashboard(
    study: str,
    host: str = "127.0.0.1",
    port: int = 8080,
    storage: str | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serves a study until it is interrupted.

    Args:
        study: which. host, port: where; port 0 takes any that is free. `ready` is called with the
            address once it answers.

    Raises: NasError for an unknown study, a port that is taken, or without optuna-dashboard.
    """
    app = application(study, storage)
    try:
        server = make_server(host, port, app, server_class=_Server, handler_class=_Handler)
    except OSError as error:
        raise NasError(
            f"cannot serve on {host}:{port}: {error.strerror}", "name another: --port 0 takes any"
        ) from error
    with server:
        if ready is not None:
            ready(f"http://{host}:{server.server_port}/dashboard/studies/0")
        server.serve_forever()


def application(study: str, storage: str | None = None) -> Any:
    """The dashboard as a WSGI application. Raises: NasError as `dashboard`."""
    try:
        from optuna_dashboard import wsgi
    except ImportError:
        raise NasError("optuna-dashboard is not installed here", INSTALL) from None
    from nas.report.optuna import Refreshing, optuna_study, spans

    url = storage_url(storage)
    with Store(url, read_only=True) as store:
        artifacts = artifacts_of(url, store.spec(study))

    def version() -> Any:
        with Store(url, read_only=True) as store:
            return [row.updated for row in store.studies() if row.name == study]

    def make(place: Any) -> None:
        with Store(url, read_only=True) as store:
            when = spans(store.events(study), store.moments(study))
            optuna_study(store.spec(study), store.trials(study), when, place)

    return wsgi(Refreshing(version, make), artifact_store=Files(artifacts))


class Files:
    """Our artifacts as Optuna's artifact store: to be read, not changed."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The file of that name. Raises: Optuna's ArtifactNotFound where it is gone."""
        from optuna.artifacts.exceptions import ArtifactNotFound

        try:
            return self._artifacts.path(artifact_id).open("rb")
        except (OSError, NasError) as error:
            raise ArtifactNotFound(str(error)) from error

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Refused. Raises: PermissionError."""
        raise PermissionError("the files of a study are what was searched: none is added by hand")

    def remove(self, artifact_id: str) -> None:
        """Refused. Raises: PermissionError."""
        raise PermissionError("the files of a study are removed by nas alone")


class _Server(ThreadingMixIn, WSGIServer):
    """Answers several requests at once, so that a large file does not hold up the page."""

    daemon_threads = True


class _Handler(WSGIRequestHandler):
    """Says nothing of each request."""

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""
