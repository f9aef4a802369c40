"""The database crashes, or nothing comes from it any more."""

from __future__ import annotations

import time
from collections.abc import Iterator

import postgres
import pytest
from audit import audit
from clusters import MARKS, OUTAGE_S, Place, ended, until
from wire import Wire

from nas.store.store import Store

pytestmark = MARKS


@pytest.fixture
def server() -> Iterator[postgres.Server]:
    if not postgres.available() or postgres.GIVEN:
        pytest.skip(postgres.MISSING)
    with postgres.server() as started:
        with Store(started.url()):
            pass
        yield started


@pytest.mark.long
def test_two_searches_ride_out_a_crash_of_their_database(
    place: Place, server: postgres.Server
) -> None:
    url = server.url()
    searches = [place.search(url, study, at_once=1) for study in ("one", "two")]
    for study, search in zip(("one", "two"), searches, strict=True):
        until(url, study, 6, search)
    server.stop("immediate")  # as a crash: what was not on its disk is gone
    time.sleep(OUTAGE_S)
    server.start()
    for search in searches:
        ended(search, seconds=200)
    assert audit(url, "one", place.locks) == audit(url, "two", place.locks) == []


@pytest.mark.long
def test_a_connection_that_hangs_silently_and_goes_on_or_is_cut(
    place: Place, server: postgres.Server
) -> None:
    url = server.url()
    with Wire(server.port) as one, Wire(server.port) as two:
        wires = {"one": one, "two": two}
        searches = {n: place.search(wire.reached(url), n, at_once=1) for n, wire in wires.items()}
        for study, search in searches.items():
            until(url, study, 6, search)
        for wire in wires.values():
            wire.freeze()
        for wire in wires.values():
            wire.holds_something()
        time.sleep(OUTAGE_S)
        one.thaw()
        two.cut()
        for search in searches.values():
            ended(search, seconds=200)
    assert audit(url, "one", place.locks) == audit(url, "two", place.locks) == []
