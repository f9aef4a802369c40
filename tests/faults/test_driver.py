"""The process of the search is interrupted or killed."""

from __future__ import annotations

import signal
from pathlib import Path

import postgres
import pytest
from audit import audit, held
from clusters import MARKS, Place, awaited, checkout, elsewhere, ended, until, workers

from nas.store.store import Store

pytestmark = MARKS


@pytest.mark.long
def test_an_interrupt_mid_rung_lets_go_of_everything(place: Place, url: str) -> None:
    gate = place.gate()
    search = place.search(url, "s", gates={"train": gate})
    gate.waiting(2)
    search.send_signal(signal.SIGINT)
    ended(search, code=-signal.SIGINT, seconds=60)
    with Store(url, read_only=True) as store:
        assert [row.writer for row in store.studies()] == [None]
    awaited("the end of the workers", lambda: not workers())
    assert held(place.locks) == []
    ended(place.search(url, "s", resume=True))
    assert audit(url, "s", place.locks) == []


@pytest.mark.long
def test_killed_and_resumed_on_another_machine(place: Place, tmp_path: Path) -> None:
    if not postgres.available() or postgres.GIVEN:
        pytest.skip(postgres.MISSING)
    copy, shell = checkout(tmp_path / "checkout"), elsewhere()
    with postgres.server() as server:
        url = server.url()
        search = place.search(url, "s")
        until(url, "s", 9, search)
        search.kill()
        search.communicate()
        if shell:
            refused = place.search(url, "s", home=copy, shell=shell, resume=True)
            assert "--take-over" in ended(refused, code=2)
        ended(place.search(url, "s", home=copy, shell=shell, resume=True, take_over=True))
        assert audit(url, "s", place.locks) == []
