"""Chores: each in its turn, one process at a time, and none that fails takes another or the service with it."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, delete
from sqlalchemy.exc import OperationalError

from device_registry.database import reading, writing
from device_registry.errors import BenchfarmError
from scheduler import chores
from scheduler.chores import Chore, Chores, chores_of, in_transaction
from scheduler.farm import Farm
from scheduler.leases import CHORES, LEASE_S, is_led, leases
from scheduler.states import LostRaceError, events, record
from tests.unit.scheduler.builders import Clock
from tests.unit.schedules.builders import add, due_of, end, rows
from tests.unit.schedules.conftest import BEGIN


@pytest.fixture
def clock() -> Clock:
    """Time, at which the schedules' tests begin."""
    return Clock()


def made(lab: Farm, clock: Clock, *steps: Chore) -> Chores:
    """Chores of a process."""
    return Chores(lab.engine, steps, clock, clock.monotonic)


def named(name: str, found: list[str], *, more: bool = False, every_s: float = 0.0) -> Chore:
    """A chore that says its name."""

    def step(held: Any, now: datetime) -> bool:
        found.append(name)
        return more

    return Chore(name, step, every_s)


def test_they_are_done_in_their_order_and_ask_for_more(lab: Farm, clock: Clock) -> None:
    found: list[str] = []
    assert not made(lab, clock, named("a", found), named("b", found)).round()
    assert made(lab, clock, named("c", found, more=True), named("d", found)).round() is False  # the first has the lease
    assert found == ["a", "b"]


def test_more_is_said_and_what_is_done_seldom_waits(lab: Farm, clock: Clock) -> None:
    found: list[str] = []
    mine = made(lab, clock, named("often", found, more=True), named("seldom", found, more=True, every_s=60.0))
    for _ in range(3):
        assert mine.round()
        clock.advance(25)
    mine.round()
    assert found == ["often", "seldom", "often", "often", "often", "seldom"]


def test_one_that_fails_is_said_once_and_the_others_go_on(
    lab: Farm, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "scheduler.chores")
    found: list[str] = []
    wrong: list[Exception | None] = [BenchfarmError("the store is away")]

    def fail(held: Any, now: datetime) -> None:
        if wrong[0] is not None:
            raise wrong[0]

    mine = made(lab, clock, Chore("a", fail), named("b", found))
    for _ in range(3):
        mine.round()
    assert found == ["b", "b", "b"]
    assert caplog.messages == ["the chore a failed: the store is away"]
    assert caplog.records[0].exc_info is None
    wrong[0] = KeyError("x")  # a bug of ours: with where it was
    mine.round()
    assert caplog.messages[1] == "the chore a failed: KeyError: 'x'"
    assert caplog.records[1].exc_info is not None
    wrong[0] = None
    mine.round()
    mine.round()
    assert caplog.messages[2:] == ["the chore a is done again"]


def test_a_database_that_is_away_is_one_failure(lab: Farm, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "scheduler.chores")
    away = [True]

    def step(held: Any, now: datetime) -> None:
        if away[0]:
            cause = sqlite3.OperationalError("disk I/O error")
            cause.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise OperationalError("select", None, cause)

    mine = made(lab, clock, Chore("a", step), Chore("b", step))
    mine.round()
    mine.round()
    assert caplog.messages == ["the chore a failed: disk I/O error"]
    away[0] = False
    mine.round()
    assert caplog.messages[1:] == ["the chore b is done again"]


def test_a_lost_race_is_tried_again(lab: Farm, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    def step(held: Any, now: datetime) -> None:
        raise LostRaceError("job 3 is no longer queued")

    assert made(lab, clock, Chore("a", step)).round()
    assert caplog.messages == []


def test_one_process_does_them_and_a_stalled_one_writes_nothing(
    lab: Farm, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The first sleeps inside a chore, for longer than its lease; the second does them meanwhile."""

    def write(who: str) -> Callable[[Connection, datetime], object]:
        return lambda connection, now: record(connection, "chore", 1, None, who, who=who, why=None, now=now)

    second = made(lab, clock, Chore("write", in_transaction(lab.engine, write("second"))))
    slept: list[bool] = []

    def sleep(held: Any, now: datetime) -> None:
        if not slept:
            slept.append(True)
            clock.advance(LEASE_S + 1)
            second.round()

    first = made(
        lab, clock, Chore("sleep", sleep), Chore("write", in_transaction(lab.engine, write("first"))), Chore("z", sleep)
    )
    first.round()
    assert [event.who for event in rows(lab, events)] == ["second"]
    assert "another process does the chores now" in caplog.messages
    first.round()
    second.round()
    assert [event.who for event in rows(lab, events)] == ["second", "second"]
    with reading(lab.engine) as connection:
        assert not is_led(connection, clock())  # the lease is not the dispatcher's


def test_two_services_start_each_due_time_once(lab: Farm, clock: Clock) -> None:
    """One leads, is stopped for a while, wakes up, and stands by."""
    add(lab, BEGIN)
    farms = [lab, Farm(lab.home)]
    pair = [made(farm, clock, *chores_of(farm)) for farm in farms]
    for hour in range(72):
        for mine in pair if hour % 7 else reversed(pair):
            mine.round()
        end(lab)
        clock.advance(3600)
    farms[1].engine.dispose()
    assert due_of(lab) == [BEGIN + timedelta(hours=2, days=night) for night in range(3)]


def test_a_thread_does_them_until_the_end_and_gives_its_lease_back(lab: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chores, "_EVERY_S", 0.01)
    done = threading.Event()
    count: list[int] = []

    def step(held: Any, now: datetime) -> None:
        count.append(1)
        if len(count) == 3:
            done.set()

    with Chores(lab.engine, [Chore("a", step)]).kept():
        assert done.wait(60)
    assert not [thread for thread in threading.enumerate() if thread.name == "chores"]
    with reading(lab.engine) as connection:
        assert connection.execute(leases.select().where(leases.c.role == CHORES)).first() is None


def test_what_a_farm_has_to_tell_is_delivered_last(lab: Farm, clock: Clock) -> None:
    sent: list[datetime] = []
    steps = chores_of(lab, sent.append)
    assert [step.name for step in steps][0::5] == ["schedules", steps[5].name]
    assert steps[-1].name == "delivery"
    made(lab, clock, *steps).round()
    assert sent == [clock.now]


def test_all_chores_of_an_empty_farm_have_nothing_to_do(
    lab: Farm, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with writing(lab.engine) as connection:
        connection.execute(delete(leases))
    assert not made(lab, clock, *chores_of(lab)).round()
    assert caplog.messages == []
