"""What is packed answers as the plain list and the plain dictionary do that it stands for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.core.packed import BLOCK, OPENED, InOrder, Latest, Log, Shelf

SIZES = [0, 1, BLOCK, 2 * BLOCK - 1, 2 * BLOCK, 2 * BLOCK + 1, 5 * BLOCK]


@pytest.mark.parametrize("size", SIZES)
def test_a_log_is_a_list(size: int) -> None:
    log: Log[int] = Log(range(size))
    assert len(log) == size and list(log) == list(range(size)) and log == list(range(size))
    assert log != [*range(size), 0] and log != [-1, *range(1, size)][: size or 1]
    assert (log == size) is False
    for place in (size, -size - 1):
        with pytest.raises(IndexError):
            log[place]
    for place in {0, size // 2, size - 1} if size else ():
        assert log[place] == place and log[place - size] == place
    assert log[1:-1:3] == list(range(size))[1:-1:3]
    assert log[-3:] == list(range(size))[-3:]


def test_a_log_holds_its_end_loose_and_the_rest_in_blocks() -> None:
    log: Log[int] = Log(range(2 * BLOCK - 1))
    assert (len(log._blocks), len(log._end)) == (0, 2 * BLOCK - 1)
    log.append(7)
    assert (len(log._blocks), len(log._end)) == (1, BLOCK)


def test_only_the_blocks_asked_for_last_stay_unpacked() -> None:
    log: Log[int] = Log(range((OPENED + 4) * BLOCK))
    for block in range(OPENED):
        log[block * BLOCK]
    log[0]  # asked for again, so the second is the oldest now
    log[OPENED * BLOCK]
    assert list(log._blocks._opened) == [*range(2, OPENED), 0, OPENED]


STEPS = st.lists(
    st.tuples(st.sampled_from(["set", "away", "delete"]), st.integers(0, 40)), max_size=60
)


@settings(max_examples=40)
@given(STEPS, st.sampled_from([0, 1, BLOCK, 3 * BLOCK]))
def test_a_shelf_is_a_dictionary_in_the_order_of_numbers(
    steps: list[tuple[str, int]], put_away: int
) -> None:
    shelf: Shelf[str] = Shelf()
    plain: dict[int, str] = {}
    for number in range(put_away):
        shelf[number] = plain[number] = str(number)
        shelf.put_away(number)
    for at, (step, number) in enumerate(steps):
        if step == "set":
            shelf[number] = plain[number] = f"{number} at {at}"
        elif step == "away":
            shelf.put_away(number)
        elif number in plain:
            del shelf[number], plain[number]
        else:
            with pytest.raises(KeyError):
                del shelf[number]
        assert len(shelf) == len(plain) and (number in shelf) == (number in plain)
        assert shelf.get(number) == plain.get(number)
    assert list(shelf.items()) == sorted(plain.items())


def test_what_lies_in_a_block_is_replaced_and_deleted_all_the_same() -> None:
    shelf: Shelf[int] = Shelf()
    for number in np.random.default_rng(0).permutation(5 * BLOCK).tolist():
        shelf[number] = number
        shelf.put_away(number)
    assert len(shelf._blocks) == 4 and not shelf._loose and len(shelf._leaving) == BLOCK
    assert [shelf[n] for n in range(5 * BLOCK)] == list(range(5 * BLOCK))
    packed = [n for n in range(5 * BLOCK) if n not in shelf._leaving][:2]
    shelf[packed[0]] = -1
    del shelf[packed[1]]
    assert shelf[packed[0]] == -1 and packed[1] not in shelf and len(shelf) == 5 * BLOCK - 1
    for unknown in (packed[1], 5 * BLOCK, -1):
        with pytest.raises(KeyError):
            shelf[unknown]
    assert "3" not in shelf and -1 not in shelf


def test_the_latest_of_each_number_in_a_log() -> None:
    log: Log[str] = Log()
    latest = Latest(log)
    for number, item in [(3, "a"), (0, "b"), (3, "c"), (1, "d")]:
        log.append(item)
        latest.mark(number)
    assert dict(latest) == {0: "b", 1: "d", 3: "c"} and list(latest) == [0, 1, 3]
    latest.forget(0)
    latest.forget(0)
    latest.forget(9)
    assert dict(latest) == {1: "d", 3: "c"} and len(latest) == 2 and 2 not in latest
    with pytest.raises(KeyError):
        latest[0]
    log.append("e")
    latest.mark(0)
    assert (latest[0], len(latest)) == ("e", 3)


def test_a_shelf_without_gaps_as_a_sequence() -> None:
    shelf: Shelf[str] = Shelf()
    row = InOrder(shelf)
    assert list(row) == []
    shelf.update(enumerate("abcd"))
    assert (len(row), row[0], row[-1], row[-4], row[1:3]) == (4, "a", "d", "a", ["b", "c"])
    for place in (4, -5):
        with pytest.raises(IndexError):
            row[place]
