"""The database goes away while telemetry is written: nothing is lost, and nothing is there twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from device_registry.database import passes
from scheduler import reading_rows
from scheduler.executors.scripted import Succeed
from scheduler.reading_rows import Batch
from scheduler.states import attempts
from scheduler.telemetry import telemetry
from tests.postgres import PostgresServer, needs_postgres
from tests.unit.scheduler.builders import TORCH, Farm, check_counts, check_history, plan_of
from tests.unit.scheduler.databases import PostgresDatabases

_READINGS = [
    {"sensor": "s", "domain": "d", "quantity": "q", "unit": "u", "value": float(number), "quality": "ok", "at": 1e9}
    for number in range(25_000)
]


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server that may be killed: what it said is committed is on its disk."""
    found = PostgresServer(settings=("shared_buffers=32MB", "autovacuum=off"))
    yield found
    found.remove()


def _killing(server: PostgresServer, made: Callable[[Batch], Iterator[Any]], after: int) -> Callable[[Batch], Any]:
    """Rows, and a server that dies when so many of them were written; once."""
    alive = [True]

    def rows(batch: Batch) -> Iterator[Any]:
        for number, row in enumerate(made(batch)):
            if number == after and alive.pop():
                alive.append(False)
                server.kill()
            yield row

    return rows


@needs_postgres
@pytest.mark.parametrize("after", [0, 24_999])
def test_a_server_that_dies_in_the_middle_of_an_ingest_loses_and_doubles_nothing(
    server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    farm = Farm(tmp_path / "farm", PostgresDatabases(server))
    farm.play(lambda order: "silent" if order.convert is None else Succeed())
    farm.submit(plan_of(farm.devices(), TORCH))
    while not farm.host.running:
        farm.tick()
    [attempt] = farm.host.running
    farm.host.finish(attempt, Succeed(), telemetry=_READINGS, telemetry_block={"sha256": "b" * 64, "bytes": 1})
    monkeypatch.setattr(reading_rows, "_binary", _killing(server, reading_rows._binary, after))
    for _ in range(3):  # it is tried again and again while the server is away
        with pytest.raises(Exception, match=r".") as told:
            farm.dispatcher.tick()
        assert passes(told.value), told.value
        farm.dispatcher.close()
        farm.clock.advance(1)
    # The agent still tells it: nobody took it.
    assert [event["attempt_id"] for event in farm.host._events if event["kind"] == "finished"] == [attempt]
    server.start()
    farm.settle()
    rows = farm.rows(telemetry)
    assert [row.value for row in rows] == [float(number) for number in range(len(_READINGS))]
    assert {row.attempt_id for row in rows} == {attempt}
    assert len(farm.results()) == 1
    [row] = farm.attempts(attempts.c.id == attempt)
    assert (row.state, row.telemetry_sha256) == ("finished", "b" * 64)
    check_history(farm)
    check_counts(farm)
    farm.close()
