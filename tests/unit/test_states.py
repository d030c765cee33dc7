"""scheduler.states on a real database: every legal change leaves an event, every other is refused."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, Table, func, select, update

from device_registry.database import insert_row, reading, table_of, writing
from device_registry.tables import Device, Host
from scheduler.payloads import payload_id
from scheduler.requirements import requirement_id
from scheduler.schema import open_database
from scheduler.states import (
    ATTEMPT_CHANGES,
    JOB_CHANGES,
    LIVE_ATTEMPT,
    OPEN_JOB,
    IllegalChangeError,
    LostRaceError,
    attempts,
    change_attempts,
    change_job,
    change_jobs,
    events,
    jobs,
)
from scheduler.tables import SweepRun
from tests.unit.builders import NOW

#: docs/design.md, "State", word for word.
LEGAL_JOB = {
    *itertools.product(("blocked", "queued", "running"), ("succeeded", "failed", "cancelled")),
    ("blocked", "queued"),
    ("queued", "blocked"),
    ("queued", "running"),
    ("running", "queued"),
}
LEGAL_ATTEMPT = {
    *itertools.product(("leased",), ("running", "lost", "cancelled")),
    *itertools.product(("running",), ("finished", "lost", "cancelled")),
    ("lost", "stale"),
}
LATER = NOW + timedelta(seconds=5)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A migrated SQLite with one job and one attempt."""
    folder: Path = tmp_path_factory.mktemp("states")
    engine = open_database(f"sqlite:///{folder / 'benchfarm.db'}")
    with writing(engine) as connection:
        host = {"key": "h", "name": "h", "description": {}, "agent_version": "1", "last_seen_at": NOW}
        host_id = insert_row(connection, table_of(Host), **host)
        device = {"key": "d", "name": "d", "kind": "cpu", "driver": "cpu", "host_id": host_id, "attributes": {}}
        insert_row(connection, table_of(Device), **device, presence="online", admin="enabled", last_seen_at=NOW)
        run = {"request": {}, "request_digest": "0", "unsupported": [], "owner": "me", "created_at": NOW}
        run_id = insert_row(connection, table_of(SweepRun), **run)
        wants = requirement_id(connection, "device")
        job = {"sweep_run_id": run_id, "kind": "measure", "state": "queued", "priority": 0, "position": 0}
        job |= {"requirement_id": wants, "owner": "me"}
        job_id = insert_row(
            connection,
            jobs,
            **job,
            title="t",
            payload_id=payload_id(connection, {}),
            created_at=NOW,
            changed_at=NOW,
            repeat_no=0,
            attempts=0,
        )
        attempt = {"job_id": job_id, "host_id": host_id, "place": "d", "token": "t", "state": "leased"}
        insert_row(connection, attempts, **attempt, lease_until=NOW, started_at=NOW)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """A transaction that is undone in the end."""
    with engine.connect() as connection:
        transaction = connection.begin()
        yield connection
        transaction.rollback()


def put(connection: Connection, table: Table, state: str) -> None:
    """Set the state of the one row."""
    connection.execute(update(table).values(state=state))


def state_of(connection: Connection, table: Table) -> str:
    """The state of the one row."""
    return str(connection.execute(select(table.c.state)).scalar_one())


def test_the_tables_of_changes_are_those_of_the_design() -> None:
    assert {(before, after) for before, to in JOB_CHANGES.items() for after in to} == LEGAL_JOB
    assert {(before, after) for before, to in ATTEMPT_CHANGES.items() for after in to} == LEGAL_ATTEMPT
    assert set(OPEN_JOB) == {before for before, to in JOB_CHANGES.items() if to}
    assert set(LIVE_ATTEMPT) == {"leased", "running"}


@pytest.mark.parametrize(("before", "after"), sorted(LEGAL_JOB))
def test_a_legal_change_of_a_job_is_made_and_leaves_an_event(connection: Connection, before: str, after: str) -> None:
    put(connection, jobs, before)
    change_job(connection, 1, before, after, who="tester", why="because", now=LATER, failure_code="x")
    row = connection.execute(select(jobs)).one()
    assert (row.state, row.changed_at, row.failure_code) == (after, LATER, "x")
    event = connection.execute(select(events)).one()
    assert (event.entity, event.entity_id, event.before, event.after) == ("job", 1, before, after)
    assert (event.who, event.why, event.at) == ("tester", "because", LATER)


@pytest.mark.parametrize(("before", "after"), sorted(LEGAL_ATTEMPT))
def test_a_legal_change_of_an_attempt_is_made_and_leaves_an_event(
    connection: Connection, before: str, after: str
) -> None:
    put(connection, attempts, before)
    change_attempts(connection, [1], before, after, who="tester", why="because", now=LATER)
    assert state_of(connection, attempts) == after
    event = connection.execute(select(events)).one()
    assert (event.entity, event.entity_id, event.before, event.after) == ("attempt", 1, before, after)


def test_every_illegal_change_of_a_job_is_refused_and_leaves_nothing(connection: Connection) -> None:
    for before, after in set(itertools.product(JOB_CHANGES, JOB_CHANGES)) - LEGAL_JOB:
        put(connection, jobs, before)
        with pytest.raises(IllegalChangeError, match=f"job 1: {before} -> {after} is not a legal change"):
            change_job(connection, 1, before, after, who="tester", why=None, now=LATER)
        assert state_of(connection, jobs) == before
    assert connection.execute(select(func.count()).select_from(events)).scalar_one() == 0


def test_every_illegal_change_of_an_attempt_is_refused_and_leaves_nothing(connection: Connection) -> None:
    for before, after in set(itertools.product(ATTEMPT_CHANGES, ATTEMPT_CHANGES)) - LEGAL_ATTEMPT:
        put(connection, attempts, before)
        with pytest.raises(IllegalChangeError, match=f"attempt 1: {before} -> {after} is not a legal change"):
            change_attempts(connection, [1], before, after, who="tester", why=None, now=LATER)
        assert state_of(connection, attempts) == before
    assert connection.execute(select(func.count()).select_from(events)).scalar_one() == 0


def test_a_change_from_a_state_that_somebody_else_has_changed_is_lost(connection: Connection) -> None:
    put(connection, jobs, "cancelled")
    with pytest.raises(LostRaceError, match="job 1 is no longer queued"):
        change_job(connection, 1, "queued", "running", who="tester", why=None, now=LATER)
    with pytest.raises(LostRaceError, match="job 99 is no longer queued"):
        change_job(connection, 99, "queued", "running", who="tester", why=None, now=LATER)
    assert state_of(connection, jobs) == "cancelled"
    assert connection.execute(select(events)).all() == []


@pytest.mark.parametrize("after", ["finished", "lost", "cancelled"])
def test_an_attempt_that_ends_says_when_and_why(connection: Connection, after: str) -> None:
    put(connection, attempts, "running")
    change_attempts(connection, [1], "running", after, who="tester", why="the host is gone", now=LATER)
    row = connection.execute(select(attempts)).one()
    assert (row.finished_at, row.message) == (LATER, "the host is gone")


def test_a_late_result_does_not_change_when_its_attempt_was_lost(connection: Connection) -> None:
    put(connection, attempts, "running")
    change_attempts(connection, [1], "running", "lost", who="tester", why="the host is gone", now=NOW)
    change_attempts(connection, [1], "lost", "stale", who="tester", why="a result came", now=LATER)
    row = connection.execute(select(attempts)).one()
    assert (row.state, row.finished_at, row.message) == ("stale", NOW, "the host is gone")


def test_what_is_rolled_back_leaves_no_event(engine: Engine) -> None:
    def change_and_fail() -> None:
        with writing(engine) as connection:
            change_job(connection, 1, "queued", "running", who="tester", why=None, now=LATER)
            raise RuntimeError("before the commit")

    with pytest.raises(RuntimeError, match="before the commit"):
        change_and_fail()
    with reading(engine) as connection:
        assert state_of(connection, jobs) == "queued"
        assert connection.execute(select(events)).all() == []


def test_many_change_together_or_not_at_all(connection: Connection) -> None:
    put(connection, jobs, "queued")
    with pytest.raises(LostRaceError, match="job 1 or 99 is no longer queued"):
        change_jobs(connection, [1, 99], "queued", "running", who="tester", why=None, now=LATER)


def test_each_of_many_has_values_and_a_reason_of_its_own(connection: Connection) -> None:
    put(connection, jobs, "running")
    each = {1: {"attempts": 2, "avoid": ["here"]}}
    change_jobs(connection, [1], "running", "queued", who="tester", why={1: "lost"}, now=LATER, each=each)
    row = connection.execute(select(jobs)).one()
    assert (row.state, row.attempts, row.avoid) == ("queued", 2, ["here"])
    assert connection.execute(select(events.c.why)).scalars().all() == ["lost"]
