"""Events of a real dispatcher, counted: each once, whatever order their ids appear in."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text

from device_registry.database import reading, writing
from exporters import events as exporter_events
from exporters import metrics
from exporters.events import EventCounts
from exporters.families import Distribution
from exporters.metrics import Metric
from scheduler.executors.scripted import Succeed
from scheduler.queue import MOST_ATTEMPTS
from scheduler.states import events, record
from tests.unit.scheduler.builders import BROKEN, CRASHED, INT8, ONNX, TORCH, Farm, in_turn, plan_of
from tests.unit.scheduler.databases import PostgresDatabases
from workers.contract import Failure

HOT = Failure(cause="device", code="too_hot", message="51 C")


def look(farm: Farm, counts: EventCounts) -> None:
    """One look at the log."""
    with reading(farm.engine) as connection:
        counts.read(connection, Counter())


def counted(counts: EventCounts, metric: Metric) -> dict[tuple[str, ...], Any]:
    """What a counter has above zero."""
    rows = counts.filling.rows.get(metric, {})
    return {
        labels: sum(value.counts) if isinstance(value, Distribution) else value
        for labels, value in rows.items()
        if value and (not isinstance(value, Distribution) or sum(value.counts))
    }


def test_what_happened_before_the_first_look_is_not_counted(farm: Farm) -> None:
    farm.run(plan_of(farm.devices(), TORCH))
    counts = EventCounts()
    look(farm, counts)
    look(farm, counts)
    assert counted(counts, metrics.ATTEMPTS) == {}
    assert counts.behind == 0
    assert counts.filling.rows[metrics.ATTEMPTS]["measure", "failed", "model"] == 0  # but it is there to rise


@pytest.mark.parametrize("portion", [1, 7, 20_000])
def test_attempts_results_waits_and_runs(farm: Farm, portion: int) -> None:
    counts = EventCounts(portion=portion)
    look(farm, counts)
    farm.play(in_turn(Succeed(), CRASHED, Succeed(verdict="throttled")))
    farm.run(plan_of(farm.devices(), TORCH, ONNX, INT8))
    while True:
        look(farm, counts)
        if not counts.behind:
            break
    assert counted(counts, metrics.ATTEMPTS) == {
        ("convert", "succeeded", "none"): 3,
        ("measure", "succeeded", "none"): 2,
        ("measure", "failed", "model"): 1,
    }
    assert counted(counts, metrics.RESULTS) == {("cpu", "valid"): 1, ("cpu", "throttled"): 1}
    assert counted(counts, metrics.QUEUE_WAIT) == {("convert",): 3, ("measure",): 3}
    assert counted(counts, metrics.RUN) == {("convert", "none"): 3, ("measure", "cpu"): 3}
    assert counted(counts, metrics.REQUEUES) == {}
    wait = counts.filling.rows[metrics.QUEUE_WAIT]["measure",]
    assert isinstance(wait, Distribution)
    since = {row.entity_id: row.at for row in farm.rows(events, events.c.entity == "job", events.c.after == "queued")}
    kinds = {row.id: row.kind for row in farm.jobs()}
    began = farm.rows(events, events.c.entity == "job", events.c.after == "running")
    waited = [(row.at - since[row.entity_id]).total_seconds() for row in began if kinds[row.entity_id] == "measure"]
    assert wait.total == pytest.approx(sum(waited), abs=1e-3)
    assert sum(waited) > 0


def test_a_look_ends_in_time_and_says_what_is_left(farm: Farm) -> None:
    seconds = itertools.count()
    counts = EventCounts(portion=2, monotonic=lambda: float(next(seconds)))
    look(farm, counts)
    farm.run(plan_of(farm.devices(), TORCH))
    left = len(farm.rows(events, events.c.id > counts.newest))
    while True:
        look(farm, counts)
        assert counts.behind < left
        left = counts.behind
        if not left:
            break
        assert counted(counts, metrics.ATTEMPTS).get(("measure", "succeeded", "none"), 0) <= 1
    assert counted(counts, metrics.ATTEMPTS)["measure", "succeeded", "none"] == 1


def test_causes_of_what_was_tried_again(farm: Farm) -> None:
    counts = EventCounts()
    look(farm, counts)
    farm.play(in_turn(BROKEN, HOT, Succeed()))
    farm.run(plan_of(farm.devices(), TORCH))
    look(farm, counts)
    assert counted(counts, metrics.REQUEUES) == {("measure", "infrastructure"): 1, ("measure", "device"): 1}
    found = counted(counts, metrics.ATTEMPTS)
    assert found["measure", "failed", "infrastructure"] == 1
    assert found["measure", "failed", "device"] == 1
    assert found["measure", "succeeded", "none"] == 1


def test_a_lost_host_and_its_late_result(farm: Farm) -> None:
    counts = EventCounts()
    look(farm, counts)
    farm.play(lambda order: "silent" if order.convert is None else Succeed())
    farm.submit(plan_of(farm.devices(), TORCH))
    for _ in range(8):
        farm.tick()
    farm.host.state = "lost"
    farm.tick()
    farm.clock.advance(120)
    for _ in range(5):
        farm.tick()
    look(farm, counts)
    assert counted(counts, metrics.ATTEMPTS)["measure", "lost", "infrastructure"] == 1
    assert counted(counts, metrics.REQUEUES) == {("measure", "infrastructure"): 1}
    [attempt_id] = [number for number, order in farm.host.orders.items() if order.convert is None]
    farm.host.state = "answers"
    farm.host.finish(attempt_id, Succeed())
    farm.play(Succeed())
    farm.settle()
    look(farm, counts)
    assert counted(counts, metrics.ATTEMPTS)["measure", "stale", "infrastructure"] == 1
    assert counted(counts, metrics.RECONNECTS) == {("cpu",): 1}


def test_a_job_that_is_given_up_counts_every_try(farm: Farm) -> None:
    counts = EventCounts()
    look(farm, counts)
    farm.play(in_turn(then=BROKEN))
    farm.run(plan_of(farm.devices(), TORCH))
    look(farm, counts)
    assert counted(counts, metrics.ATTEMPTS)["measure", "failed", "infrastructure"] == MOST_ATTEMPTS
    assert counted(counts, metrics.REQUEUES) == {("measure", "infrastructure"): MOST_ATTEMPTS - 1}


def test_another_database_in_its_place_is_begun_anew(farm: Farm) -> None:
    counts = EventCounts()
    farm.run(plan_of(farm.devices(), TORCH))
    look(farm, counts)
    with writing(farm.engine) as connection:
        connection.execute(events.delete())
    look(farm, counts)
    assert counts.newest == 0
    farm.run(plan_of(farm.devices(), TORCH, salt="again"))
    look(farm, counts)
    assert counted(counts, metrics.ATTEMPTS)["measure", "succeeded", "none"] == 1


class Seconds:
    """A clock that a test turns."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def postgres_farm(tmp_path: Path, postgres_databases: PostgresDatabases) -> Iterator[Farm]:
    """A farm on PostgreSQL: SQLite has one writer, and ids appear in their order."""
    farm = Farm(tmp_path / "farm", postgres_databases)
    yield farm
    farm.close()


def test_a_transaction_that_ends_late_is_counted_once(postgres_farm: Farm) -> None:
    farm, clock = postgres_farm, Seconds()
    [device] = farm.devices()
    counts = EventCounts(monotonic=clock)
    look(farm, counts)

    def note(connection: Any, before: str) -> None:
        record(connection, "device", device.id, before, "online", who="test", why=None, now=farm.clock())

    with writing(farm.engine) as slow:
        note(slow, "offline")  # has the smaller number
        with writing(farm.engine) as quick:
            note(quick, "unauthorized")
        look(farm, counts)
        assert counted(counts, metrics.RECONNECTS) == {("cpu",): 1}
    for _ in range(3):
        clock.now += 15
        look(farm, counts)
        assert counted(counts, metrics.RECONNECTS) == {("cpu",): 2}


def test_numbers_that_were_rolled_back_are_given_up(postgres_farm: Farm) -> None:
    farm, clock = postgres_farm, Seconds()
    counts = EventCounts(monotonic=clock)
    look(farm, counts)
    with farm.engine.connect() as connection:
        record(connection, "run", 1, None, "submitted", who="test", why=None, now=farm.clock())
        connection.rollback()
    with writing(farm.engine) as connection:
        record(connection, "run", 1, None, "submitted", who="test", why=None, now=farm.clock())
    look(farm, counts)
    assert len(counts._holes) == 1
    clock.now += exporter_events._PATIENCE_S + 1
    look(farm, counts)
    assert counts._holes == {}
    assert counts.behind == 0


def test_the_log_is_read_by_its_key(farm: Farm) -> None:
    """A portion never reads the whole log."""
    farm.run(plan_of(farm.devices(), TORCH))
    last = farm.rows(events)[-1]
    with writing(farm.engine) as connection:
        rows = [{**last._mapping, "id": last.id + number} for number in range(1, 5001)]
        connection.execute(insert(events), rows)
    seen: list[str] = []
    with reading(farm.engine) as connection:
        plain = connection.execute

        def execute(statement: Any, *given: Any) -> Any:
            made = str(statement.compile(farm.engine, compile_kwargs={"literal_binds": True}))
            explain = "EXPLAIN QUERY PLAN " if farm.engine.dialect.name == "sqlite" else "EXPLAIN "
            seen.extend(str(row) for row in plain(text(explain + made.replace(":", r"\:"))))
            return plain(statement, *given)

        connection.execute = execute  # type: ignore[method-assign,assignment]
        which = events.c.id.between(last.id + 4000, last.id + 4100)
        exporter_events._count(connection, which, exporter_events.Filling(Counter()))
    assert seen
    assert not [line for line in seen if "SCAN event" in line or "Seq Scan on event" in line]
