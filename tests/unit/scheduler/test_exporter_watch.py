"""What is watched, as series: incidents, messages, series that cannot see, missing cells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event, insert, text, update

from device_registry.database import reading, table_of, writing
from exporters import watch_snapshot
from exporters.families import Filling
from scheduler.notifications.outbox import notifications, tell_digest, tell_incident
from scheduler.watch_tables import Schedule
from tests.unit.scheduler.builders import INT8, ONNX, TORCH, Farm
from tests.unit.scheduler.test_exporter_snapshot import Shown, series
from tests.unit.scheduler.watched import incidents, learn_noise, open_incident, points_of, watched_run


@pytest.fixture
def shown(farm: Farm) -> Iterator[Shown]:
    made = Shown(farm)
    yield made
    made.close()


def test_incidents_are_counted_by_cause_and_none_is_a_number(farm: Farm, shown: Shown) -> None:
    found = series(shown.look(), "benchfarm_incidents_open")
    assert len(found) == 10
    assert set(found.values()) == {0.0}
    runs = [watched_run(farm, TORCH, salt=salt) for salt in "12"]
    for state in ("open", "open", "acknowledged", "resolved"):
        open_incident(farm, *runs, state=state)
    found = series(shown.look(), "benchfarm_incidents_open")
    assert {labels: count for labels, count in found.items() if count} == {
        (("cause", "code"), ("state", "open")): 2.0,
        (("cause", "code"), ("state", "acknowledged")): 1.0,
    }


def test_messages_that_wait_and_those_given_up_lately(farm: Farm, shown: Shown) -> None:
    runs = [watched_run(farm, TORCH, salt=salt) for salt in "12"]
    incident = open_incident(farm, *runs)
    with writing(farm.engine) as connection:
        tell_incident(connection, incident, "opened", farm.clock())
        tell_digest(connection, runs[1], farm.clock())
        connection.execute(update(notifications).where(notifications.c.kind == "digest").values(channel="team"))
    farm.clock.advance(90)
    found = shown.look()
    assert series(found, "benchfarm_notifications") == {
        (("channel", "none"), ("state", "pending")): 1.0,
        (("channel", "team"), ("state", "pending")): 1.0,
    }
    assert set(series(found, "benchfarm_notification_oldest_seconds").values()) == {90.0}
    with writing(farm.engine) as connection:
        connection.execute(update(notifications).values(state="given_up"))
    assert set(series(shown.look(), "benchfarm_notifications").values()) == {1.0}
    farm.clock.advance(3 * 86_400)  # two days after they were given up
    assert series(shown.look(), "benchfarm_notifications") == {}


def test_watched_series_by_what_they_can_see(farm: Farm, shown: Shown) -> None:
    run_id = watched_run(farm, TORCH, ONNX, INT8, salt="1")
    first, second, _ = points_of(farm, run_id)
    learn_noise(farm, run_id, first.series_id, 0.01, 0.03)
    learn_noise(farm, run_id, second.series_id, 0.01, None)
    assert series(shown.look(), "benchfarm_watched_series") == {
        (("sight", sight), ("simulated", "false")): 1.0 for sight in ("sighted", "blind", "unknown")
    }


def test_missing_cells_of_schedules_that_are_not_paused(farm: Farm, shown: Shown) -> None:
    now = farm.clock()
    row = {"sweep": "s", "sweep_text": "", "folder": "", "cron": "0 2 * * *", "timezone": "UTC", "missed": "once"}
    row |= {"options": {}, "owner": "ada", "created_at": now, "changed_at": now}
    with writing(farm.engine) as connection:
        for name, missing, paused in (
            ("nightly", 3, False),
            ("weekly", 0, False),
            ("new", None, False),
            ("old", 9, True),
        ):
            connection.execute(insert(table_of(Schedule)).values(name=name, missing=missing, paused=paused, **row))
    assert series(shown.look(), "benchfarm_sweep_cells_missing") == {"nightly": 3.0, "weekly": 0.0}


def test_what_each_look_asks_reads_no_table_that_grows(farm: Farm) -> None:
    asked: list[tuple[str, Any]] = []

    def see(_connection: object, _cursor: object, statement: str, given: Any, *_: object) -> None:
        asked.append((statement, given))

    with reading(farm.engine) as connection:
        event.listen(farm.engine, "before_cursor_execute", see)
        watch_snapshot.read_incidents(connection, Filling({}))  # type: ignore[arg-type]
        watch_snapshot.read_notifications(connection, Filling({}), farm.clock())  # type: ignore[arg-type]
        event.remove(farm.engine, "before_cursor_execute", see)
        if farm.engine.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        prefix = "EXPLAIN QUERY PLAN " if farm.engine.dialect.name == "sqlite" else "EXPLAIN "
        for statement, given in asked:
            plan = str(connection.exec_driver_sql(prefix + statement, given).all())
            assert any(
                name in plan for name in ("unresolved_incident", "pending_notification", "given_up_notification")
            ), plan
    assert len(asked) == 3
    assert incidents.name == "incident"
