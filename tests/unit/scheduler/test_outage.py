"""The database goes away, or a round is undone: what runs goes on, and what was told is told again."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from device_registry.registry import hosts
from scheduler.dispatcher import ATTEMPT_LEASE_S
from scheduler.executors.scripted import Succeed
from scheduler.queue import MOST_ATTEMPTS
from scheduler.states import LostRaceError
from tests.unit.scheduler.builders import TORCH, Farm, check_counts, check_history, only, plan_of


class _Away:
    """A database that does not answer."""

    def __init__(self, *_: object) -> None:
        raise OperationalError("connect", None, OSError("no route"))


def _until_measuring(farm: Farm) -> int:
    farm.play(only("measure", "silent"))
    farm.submit(plan_of(farm.devices(), TORCH))
    for _ in range(10):
        farm.tick()
        if found := [row.id for row in farm.live() if row.device_id is not None]:
            return int(found[0])
    raise AssertionError(farm.states())


def _fail(farm: Farm, error: Exception) -> None:
    """A round that is undone at its end."""

    def fail(_: Connection) -> bool:
        raise error

    with pytest.raises(type(error)):
        farm.dispatcher.tick(may_claim=fail)


def _go_away(farm: Farm, monkeypatch: pytest.MonkeyPatch, rounds: int) -> None:
    monkeypatch.setattr("scheduler.dispatcher.Watcher", _Away)
    farm.dispatcher.close()
    for _ in range(rounds):
        with pytest.raises(OperationalError):
            farm.dispatcher.tick()
        farm.clock.advance(1)
    monkeypatch.undo()


def test_hosts_are_polled_while_the_database_is_away_and_what_they_tell_is_kept(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than any lease: an agent that nobody polls ends its work."""
    attempt_id = _until_measuring(farm)
    cursors: list[int] = []
    poll = farm.host.poll

    def polled(since: int) -> dict[str, Any]:
        cursors.append(since)
        return poll(since)

    monkeypatch.setattr(farm.host, "poll", polled)
    farm.host.finish(attempt_id, Succeed())
    with monkeypatch.context() as outage:
        _go_away(farm, outage, rounds=int(ATTEMPT_LEASE_S) + 30)
    assert len(cursors) == ATTEMPT_LEASE_S + 30
    assert len(set(cursors)) == 1
    farm.settle()
    assert [row.attempt_id for row in farm.results()] == [attempt_id]
    check_counts(farm)


def test_a_host_lost_while_the_database_is_away_is_lost_when_it_is_back(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    _until_measuring(farm)
    farm.host.state = "dead"
    with monkeypatch.context() as outage:
        _go_away(farm, outage, rounds=3)
    _fail(farm, OSError("the disk is full"))
    farm.tick()
    [row] = farm.rows(hosts)
    assert row.presence == "lost"
    assert farm.live() == []
    check_history(farm)


def test_a_host_that_came_in_a_round_that_was_undone_comes_once_more(farm: Farm) -> None:
    farm.host.restart()
    _fail(farm, OSError("the disk is full"))
    farm.run(plan_of(farm.devices(), TORCH))
    assert len(farm.results()) == 1


def test_orders_on_their_way_are_not_given_up_when_memory_is_read_anew(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm.play("silent")
    farm.submit(plan_of(farm.devices(), TORCH))
    under_way: list[dict[str, Any]] = []
    start = farm.host.start
    monkeypatch.setattr(farm.host, "start", under_way.append)
    farm.tick()
    farm.dispatcher.close()  # as any error of the database does
    farm.tick()
    [attempt] = farm.live()
    start(under_way[0])
    farm.tick()
    assert [row.id for row in farm.live()] == [attempt.id]


def test_orders_that_never_left_are_no_tries(farm: Farm) -> None:
    """The service is killed between the claim and the order, as often as you like."""
    farm.submit(plan_of(farm.devices(), TORCH))
    for _ in range(MOST_ATTEMPTS + 1):
        farm.host.deaf = True
        farm.tick()
        assert len(farm.live()) == 1
        farm.host.deaf = False
        farm.dispatcher.leave()
        farm.dispatcher = farm.new_dispatcher()
        assert farm.live() == []
    assert farm.job("convert").attempts == 0
    farm.settle()
    assert len(farm.results()) == 1
    check_history(farm)


def test_an_attempt_that_ran_and_is_unknown_to_its_agent_was_a_try(farm: Farm) -> None:
    _until_measuring(farm)
    farm.tick()
    farm.replace_host()
    farm.host.play = only("measure", "silent")
    farm.dispatcher.leave()
    farm.dispatcher = farm.new_dispatcher()
    assert farm.job("measure").attempts == 1


def test_a_round_in_which_a_user_was_quicker_is_repeated(farm: Farm, caplog: pytest.LogCaptureFixture) -> None:
    attempt_id = _until_measuring(farm)
    farm.host.finish(attempt_id, Succeed())

    def lose(_: Connection) -> bool:
        raise LostRaceError("job 1 is no longer blocked")

    assert farm.dispatcher.tick(may_claim=lose)
    assert "job 1 is no longer blocked: the round is repeated" in caplog.text
    farm.settle()
    assert [row.attempt_id for row in farm.results()] == [attempt_id]
