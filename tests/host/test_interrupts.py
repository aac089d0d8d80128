"""An interrupt ends all threads, also the one that is just being started."""

from __future__ import annotations

import signal
import threading
from typing import Iterator, List

import pytest

from ota_cli.errors import SignalReceived
from ota_cli.fleet.crew import side_by_side
from ota_cli.host.content import in_turn
from ota_cli.host.interrupts import catch_interrupts
from ota_cli.host.net_crew import Halt, work_through

PATIENCE_S = 30
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def interrupted_starts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A signal comes as soon as a thread runs, before whoever starts it knows."""
    handlers = {each: signal.getsignal(each) for each in SIGNALS}
    catch_interrupts()
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def at_work() -> List[threading.Thread]:
    return [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]


def test_no_download_goes_on() -> None:
    halt = Halt()
    with pytest.raises(SignalReceived):
        list(work_through(range(9), lambda number: halt.event.wait(PATIENCE_S), 4, halt))
    assert halt.event.is_set()


def test_no_file_is_read_on() -> None:
    stop = threading.Event()
    with pytest.raises(SignalReceived):
        list(in_turn(lambda numbers: stop.wait(PATIENCE_S), range(9), 1, stop))
    assert not at_work()


def test_no_ecu_is_asked_on() -> None:
    abandoned = threading.Event()
    with pytest.raises(SignalReceived):
        side_by_side([lambda: abandoned.wait(PATIENCE_S)] * 2, abandoned.set)
    assert abandoned.is_set()
    assert not at_work()
