"""The last good picture: taken when wanted, never waited for too long."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from exporters.keeper import Held, Keeper


class Scripted:
    """Pictures are numbers; reading waits while `gate` is closed, and fails while `error` is set."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.reads = 0
        self.closed = threading.Event()

    def read(self) -> int:
        self.reads += 1
        number = self.reads
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        return number

    def close(self) -> None:
        self.closed.set()


class Clock:
    """Seconds that a test turns on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def reader() -> Scripted:
    return Scripted()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keeper(reader: Scripted, clock: Clock) -> Iterator[Keeper[int]]:
    made = Keeper(reader, fresh_s=5.0, monotonic=clock)
    yield made
    reader.gate.set()
    made.close()


def test_nothing_is_read_until_somebody_asks(keeper: Keeper[int], reader: Scripted, clock: Clock) -> None:
    assert reader.reads == 0
    assert keeper.latest(30) == Held(1, 0.0, 0.0, True)
    clock.now += 4
    assert keeper.latest(30) == Held(1, 4.0, 0.0, True)  # young enough
    clock.now += 2
    assert keeper.latest(30) == Held(2, 0.0, 0.0, True)


def test_a_failure_leaves_the_last_one_and_is_said_once(
    keeper: Keeper[int], reader: Scripted, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "exporters.keeper")
    keeper.latest(30)
    reader.error = ValueError("the database does not answer")
    for _ in range(3):
        clock.now += 15
        held = keeper.latest(30)
    assert held == Held(1, 45.0, 0.0, False)
    reader.error = None
    assert keeper.latest(30) == Held(5, 0.0, 0.0, True)  # at once, though the picture is young
    assert [record.getMessage() for record in caplog.records] == [
        "metrics show the last good state: the database does not answer",
        "metrics show the farm again",
    ]


def test_without_any_there_is_none(keeper: Keeper[int], reader: Scripted) -> None:
    reader.error = ValueError("no")
    assert keeper.latest(30) is None


def test_a_slow_one_is_not_waited_for_and_not_begun_twice(keeper: Keeper[int], reader: Scripted, clock: Clock) -> None:
    keeper.latest(30)
    reader.gate.clear()
    clock.now += 15
    for _ in range(3):
        assert keeper.latest(0.01) == Held(1, 15.0, 0.0, False)
    assert reader.reads <= 2
    reader.gate.set()
    held = keeper.latest(30)
    assert held is not None
    assert held.current
    assert held.picture > 1


def test_the_reader_is_closed_with_it(keeper: Keeper[int], reader: Scripted) -> None:
    assert keeper.alive
    keeper.close()
    assert reader.closed.wait(30)
    assert not keeper.alive
