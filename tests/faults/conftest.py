"""One cluster for the faults that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import clusters
import pytest


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[clusters.Place]:
    pytest.importorskip("ray.cluster_utils")
    found = clusters.Place(tmp_path_factory.mktemp("cluster"))
    yield found
    found.close()


@pytest.fixture(autouse=True)
def _nobody_left() -> Iterator[None]:
    """Ends the searches that a failed test leaves."""
    yield
    while clusters.STARTED:
        search = clusters.STARTED.pop()
        search.kill()
        search.communicate()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/nas.db"
