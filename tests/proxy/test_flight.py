"""One fetch that several follow, whenever they come."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Callable, List, Union

import pytest

from ota_cli.proxy.cache import Cache, Limits
from ota_cli.proxy.flight import CutShort, Flight, Flights, Follower
from ota_cli.proxy.stored import Head, Stored
from ota_cli.proxy.wanted import Refused

KEY = "ab" * 32


def here(work: Callable[[], None]) -> None:
    """Runs it at once: whoever joins meanwhile does so at a known point."""
    work()


@pytest.fixture
def flights(tmp_path: Path) -> Flights:
    return Flights(Cache(tmp_path, Limits(10**8, 10**8)), here)


def test_who_joins_just_when_the_object_has_become_whole_gets_all_of_it(flights: Flights) -> None:
    late: List[Union[Follower, Stored, None]] = []

    def bring(flight: Flight) -> None:
        flight.begin(Head(7, ""))
        flight.add(b"content")
        flight.draft.finish("")
        late.append(flights.join(KEY, bring)[0])

    first, was_under_way = flights.join(KEY, bring)
    assert not was_under_way
    for follower in (first, late[0]):
        assert follower is not None
        assert b"".join(follower.pieces(0)) == b"content"
        follower.close()


def test_who_missed_it_in_the_cache_just_before_it_landed_does_not_fetch_it_again(
    flights: Flights,
) -> None:
    fetched: List[str] = []

    def bring(flight: Flight) -> None:
        fetched.append(KEY)
        flight.begin(Head(7, ""))
        flight.add(b"content")
        flight.draft.finish("")

    for expected in (False, True):
        source, was_begun = flights.join(KEY, bring)
        assert source is not None and was_begun == expected
        assert b"".join(source.pieces(0)) == b"content"
        source.close()
    assert fetched == [KEY]


def test_a_failure_reaches_everybody_and_the_next_one_tries_anew(flights: Flights) -> None:
    def fail(flight: Flight) -> None:
        raise Refused(404, "not there")

    def break_off(flight: Flight) -> None:
        flight.begin(Head(7, ""))
        flight.add(b"cont")
        raise Refused(502, "broke off")

    follower, _ = flights.join(KEY, fail)
    assert isinstance(follower, Follower)
    with pytest.raises(Refused, match="not there"):
        follower.head()
    follower.close()
    follower, was_under_way = flights.join(KEY, break_off)
    assert follower is not None and not was_under_way
    pieces = follower.pieces(0)
    assert next(pieces) == b"cont"
    with pytest.raises(CutShort):
        next(pieces)
    follower.close()


def test_a_follower_reads_while_the_object_arrives(tmp_path: Path) -> None:
    flights = Flights(
        Cache(tmp_path, Limits(10**8, 10**8)),
        lambda work: threading.Thread(target=work).start(),
    )
    read_first = threading.Event()

    def bring(flight: Flight) -> None:
        flight.begin(Head(None, ""))
        flight.add(b"first")
        assert read_first.wait(30)
        flight.add(b"second")
        flight.draft.finish("")

    follower, _ = flights.join(KEY, bring)
    assert follower is not None
    pieces = follower.pieces(2)
    assert next(pieces) == b"rst"
    read_first.set()
    assert b"".join(pieces) == b"second"
    follower.close()
