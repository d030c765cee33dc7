"""Users' transactions beside the dispatcher's, on PostgreSQL, where both write at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text, update
from sqlalchemy.exc import OperationalError

from device_registry.database import passes, reading, writing
from scheduler import queue
from scheduler.executors.scripted import Succeed
from scheduler.ingest import lose_attempts, take_started
from scheduler.request import Request
from scheduler.states import attempts
from scheduler.wakeups import Watcher
from tests.unit.scheduler.builders import TORCH, Farm, check_history, plan_of
from tests.unit.scheduler.databases import PostgresDatabases


@pytest.fixture
def farm(tmp_path: Path, postgres_databases: PostgresDatabases) -> Iterator[Farm]:
    """A farm on PostgreSQL whose conversion runs and says nothing."""
    made = Farm(tmp_path / "farm", postgres_databases)
    made.play("silent")
    yield made
    made.close()


def _beside(farm: Farm, first: Callable[[Connection], object], then: Callable[[], object], last: str | None) -> None:
    """One transaction has its locks, another waits for them, the first goes on and is committed."""
    failed: list[Exception] = []

    def wait() -> None:
        try:
            then()
        except Exception as error:
            failed.append(error)

    with writing(farm.engine) as connection:
        first(connection)
        waiting = threading.Thread(target=wait)
        waiting.start()
        blocked = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = :name")
        for _ in range(500):
            with reading(farm.engine) as other:
                if other.execute(blocked, {"name": farm.engine.url.database}).scalar_one() or not waiting.is_alive():
                    break
            time.sleep(0.01)
        if last is not None:
            connection.execute(update(attempts).values(message=last))
    waiting.join(30)
    assert failed == []


def _cancel(farm: Farm, kind: str) -> Callable[[Connection], object]:
    job_id = farm.job(kind).id
    return lambda connection: queue.cancel_job(connection, job_id, who="ada", now=farm.clock())


def test_a_measurement_is_cancelled_while_its_conversion_ends(farm: Farm, caplog: pytest.LogCaptureFixture) -> None:
    farm.submit(plan_of(farm.devices(), TORCH))
    for _ in range(3):
        farm.tick()
    farm.host.finish(farm.live()[0].id, Succeed())
    _beside(farm, _cancel(farm, "measure"), farm.dispatcher.tick, None)
    assert farm.states() == [("convert", "succeeded"), ("measure", "cancelled")]
    assert "repeated" not in caplog.text
    check_history(farm)


def test_a_job_is_cancelled_while_its_queue_timeout_runs_out(farm: Farm, caplog: pytest.LogCaptureFixture) -> None:
    farm.submit(plan_of(farm.devices(), TORCH), Request(models=("net",), queue_timeout_s=30.0))
    farm.clock.advance(31)
    _beside(farm, _cancel(farm, "measure"), farm.dispatcher.tick, None)
    assert farm.states()[1] == ("measure", "cancelled")
    assert "repeated" not in caplog.text
    check_history(farm)


@pytest.mark.parametrize("what", ["started", "lost"])
def test_who_cancels_a_job_and_who_hears_of_its_attempt_wait_for_each_other_in_one_order(farm: Farm, what: str) -> None:
    """Job, then attempt: else each would have what the other wants."""
    farm.submit(plan_of(farm.devices(), TORCH))
    farm.dispatcher.tick()
    [attempt] = farm.live()

    def hear() -> None:
        with writing(farm.engine) as connection:
            if what == "started":
                take_started(connection, [(attempt.id, attempt.token)], who="test", now=farm.clock())
            else:
                lose_attempts(connection, [attempt.id], who="test", why="lost", now=farm.clock())

    lock = text("SELECT 1 FROM job WHERE id = :id FOR UPDATE").bindparams(id=attempt.job_id)
    _beside(farm, lambda connection: connection.execute(lock), hear, "noted by the user")


def test_a_watcher_whose_server_ends_it_says_so_in_words_that_pass(farm: Farm) -> None:
    watcher = Watcher(farm.engine)
    with writing(farm.engine) as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )

    def listen() -> None:
        for _ in range(1000):
            watcher.changed()
            time.sleep(0.01)

    with pytest.raises(OperationalError) as told:
        listen()
    assert passes(told.value)
    watcher.close()
