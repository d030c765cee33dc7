"""Readings of sensors become rows: of attempts, and of devices between attempts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from device_registry.database import insert_row, table_of
from scheduler.reports import Told
from scheduler.tables import SensorChannel, Telemetry

channels = table_of(SensorChannel)
telemetry = table_of(Telemetry)

_Meaning = tuple[str, str, str, str]


def insert_telemetry(connection: Connection, taken: Sequence[tuple[Told, Any]]) -> None:
    known: dict[_Meaning, int] = {}
    rows = []
    for told, row in taken:
        for reading in told.telemetry:
            meaning = (reading.sensor, reading.domain, reading.quantity, reading.unit)
            if meaning not in known:
                known[meaning] = _channel_id(connection, meaning)
            rows.append(
                {
                    "attempt_id": row.id,
                    "device_id": row.device_id,
                    "at": datetime.fromtimestamp(reading.at, UTC),
                    "channel_id": known[meaning],
                    "value": reading.value,
                    "quality": reading.quality,
                    "why": reading.why,
                }
            )
    if rows:
        connection.execute(insert(telemetry), rows)


def _channel_id(connection: Connection, meaning: _Meaning) -> int:
    sensor, domain, quantity, unit = meaning
    values = {"sensor": sensor, "domain": domain, "quantity": quantity, "unit": unit}
    query = select(channels.c.id).where(*(channels.c[name] == value for name, value in values.items()))
    known = connection.execute(query).scalar_one_or_none()
    if known is not None:
        return int(known)
    try:
        with connection.begin_nested():
            return insert_row(connection, channels, **values)
    except IntegrityError:  # somebody else made it in the same moment
        return int(connection.execute(query).scalar_one())
