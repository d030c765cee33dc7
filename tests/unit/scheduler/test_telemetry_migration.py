"""A farm of the schema before channels: its readings are carried over, in their order, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, MetaData, insert, select

from device_registry.database import open_engine, reading, writing
from scheduler.reading_rows import Batch, insert_batches
from scheduler.reports import read_readings
from scheduler.schema import upgrade
from scheduler.telemetry import channel_ids, channels, telemetry
from tests.postgres import PostgresServer
from workers.readings import pack

_THEN = datetime(2026, 1, 1, tzinfo=UTC)
_ENERGY, _HEAT = ("rapl", "package", "energy", "mJ"), ("zones", "zone:acpi", "temperature", "C")


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database of schema 0003."""
    url = f"sqlite:///{tmp_path / 'old.db'}"
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        name = f"telemetry_{uuid4().hex}"
        server.execute(f"CREATE DATABASE {name}")
        url = server.url(name)
    found = open_engine(url)
    upgrade(found, "0003")
    yield found
    found.dispose()


def _fill(engine: Engine) -> None:
    """One measurement with its result and readings, in the tables of 0003."""
    old = MetaData()
    with writing(engine) as connection:
        old.reflect(connection)

        def add(table: str, **values: Any) -> None:
            connection.execute(insert(old.tables[table]).values(**values))

        postgres = engine.dialect.name == "postgresql"
        at = _THEN if postgres else _THEN.replace(tzinfo=None)
        add(
            "host",
            key="h",
            name="lab",
            description={},
            agent_version="3",
            presence="online",
            labels={},
            last_seen_at=at,
        )
        device = {"key": "d", "name": "d0", "kind": "cpu", "driver": "cpu", "host_id": 1, "attributes": {}, "tags": []}
        more = {"failures_in_row": 0, "probes": 0, "used_s": 0.0}
        add("device", **device, **more, presence="online", admin="enabled", last_seen_at=at)
        run = {"request": {}, "request_digest": "r", "unsupported": [], "owner": "ada"}
        add("sweep_run", **run, created_at=at, resting=False)
        add("requirement", digest="q", place="device", selector="", needs=[])
        add("payload", digest="p", document={})
        job = {"sweep_run_id": 1, "kind": "measure", "title": "t", "repeat_no": 0, "attempts": 1, "owner": "ada"}
        job |= {"requirement_id": 1, "payload_id": 1, "priority": 0, "rank": 0.0, "position": 0, "expected_s": 0.0}
        for number in (1, 2):
            add("job", **job, state="succeeded", avoid=[], canary=False, created_at=at, changed_at=at)
            attempt = {"job_id": number, "host_id": 1, "device_id": 1, "place": "d", "token": "t", "state": "finished"}
            add("attempt", **attempt, lease_until=at, started_at=at)
        raw = {"sha256": "a" * 64, "bytes": 8}
        for number, seen in ((1, raw), (2, None)):
            document = {"result": {"measurement": {"raw": seen}}}
            ids = {"attempt_id": number, "job_id": number, "sweep_run_id": 1, "device_id": 1, "case_key": "c"}
            add("result", **ids, stale=False, verdict="valid", p50_ms=1.0, document=document, created_at=at)
        known = {"attempt_id": 1, "device_id": 1}
        heat = {**known, **dict(zip(("sensor", "domain", "quantity", "unit"), _HEAT, strict=True))}
        energy = {**known, **dict(zip(("sensor", "domain", "quantity", "unit"), _ENERGY, strict=True))}
        add("telemetry", **heat, at=at, value=40.5, quality="ok")
        add("telemetry", **energy, at=at + timedelta(seconds=1), value=None, quality="no_permission")
        add("telemetry", **heat | {"device_id": None}, at=at + timedelta(seconds=2), value=41.0, quality="partial")
        for odd in (float("inf"), float("nan")) if postgres else (float("inf"),):
            add("telemetry", **heat, at=at + timedelta(seconds=3), value=odd, quality="ok")


def test_readings_are_carried_over(engine: Engine) -> None:
    _fill(engine)
    upgrade(engine, "0004")
    with reading(engine) as connection:
        rows = connection.execute(
            select(telemetry, channels).join(channels, channels.c.id == telemetry.c.channel_id).order_by(telemetry.c.id)
        ).all()
    meanings = [(row.sensor, row.domain, row.quantity, row.unit) for row in rows]
    assert meanings[:3] == [_HEAT, _ENERGY, _HEAT]
    assert [(row.device_id, row.attempt_id, row.value, row.quality) for row in rows[:3]] == [
        (1, 1, 40.5, "ok"),
        (1, 1, None, "no_permission"),
        (None, 1, 41.0, "partial"),
    ]
    assert [row.at - _THEN for row in rows[:3]] == [timedelta(seconds=number) for number in range(3)]
    # What is no number was one before.
    assert {(row.value, row.quality) for row in rows[3:]} == {(None, "implausible")}
    assert len(rows) > 3


def test_attempts_name_their_raw_times(engine: Engine) -> None:
    _fill(engine)
    upgrade(engine, "0004")
    with reading(engine) as connection:
        rows = connection.exec_driver_sql("SELECT raw_sha256, telemetry_sha256 FROM attempt ORDER BY id").all()
    assert [tuple(row) for row in rows] == [("a" * 64, None), (None, None)]


def test_new_readings_come_after_the_old_ones(engine: Engine) -> None:
    _fill(engine)
    upgrade(engine, "0004")
    known = dict(zip(("sensor", "domain", "quantity", "unit"), _HEAT, strict=True))
    columns = read_readings(pack([{**known, "value": 50.0, "quality": "ok", "at": _THEN.timestamp()}]))
    with writing(engine) as connection:
        before = connection.execute(select(telemetry.c.id)).scalars().all()
        [ids] = channel_ids(connection, [[_HEAT]])
        insert_batches(connection, [Batch(columns, ids, 1, None)])
        [row] = connection.execute(select(telemetry).where(telemetry.c.id > max(before))).all()
    assert (row.value, row.attempt_id) == (50.0, None)
    with reading(engine) as connection:
        assert len(connection.execute(select(channels)).all()) == 2
