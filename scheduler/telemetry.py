"""Readings of sensors become rows: of attempts, and of devices between attempts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Connection, Engine, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import StatementError

from device_registry.database import one_of, passes, table_of
from device_registry.registry import devices
from scheduler.reading_rows import Batch, insert_batches
from scheduler.reports import Told, read_readings
from scheduler.tables import SensorChannel, Telemetry
from workers.readings import Meaning

log = logging.getLogger(__name__)

channels = table_of(SensorChannel)
telemetry = table_of(Telemetry)

#: Readings of one device between attempts: host id, device key, what was sent, how far the host's clock is ahead.
Between = tuple[int, str, str, float]

#: Names that are longer are cut: no sensor of anybody's fails an attempt.
_LENGTHS: Final = (50, 100, 50, 20)
_NAMES: Final = ("sensor", "domain", "quantity", "unit")
_CHANNELS: Final = select(channels).where(one_of(channels.c.sensor, "sensors"))
_DEVICES: Final = select(devices.c.id, devices.c.key, devices.c.host_id).where(one_of(devices.c.key, "keys"))
_INSERTS: Final[dict[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
#: Ids of channels: of rows that never change, and that were committed when they were read.
_known: WeakKeyDictionary[Engine, dict[Meaning, int]] = WeakKeyDictionary()
#: Transactions that made channels: what they see of them may be undone yet.
_makers: WeakSet[Any] = WeakSet()


def insert_telemetry(connection: Connection, taken: Sequence[tuple[Told, Any]]) -> None:
    """Keep what reports tell of the time of their attempts.

    Args:
        connection: inside a transaction that writes.
        taken: reports, each with its attempt's row.
    """
    told = [(one, row) for one, row in taken if one.telemetry is not None]
    ids = channel_ids(connection, [one.telemetry.channels for one, _ in told if one.telemetry is not None])
    batches = [
        Batch(one.telemetry, own, row.device_id, row.id, one.ahead_s)
        for (one, row), own in zip(told, ids, strict=True)
        if one.telemetry is not None
    ]
    insert_batches(connection, batches)


def insert_between(connection: Connection, told: Sequence[Between]) -> int:
    """Keep what hosts tell of their devices between attempts; returns how many readings.

    What cannot be kept is dropped, and holds up nothing: the next round is near.

    Args:
        connection: inside a transaction that writes.
        told: by device.
    """
    if not told:
        return 0
    there = connection.execute(_DEVICES, {"keys": [key for _, key, _, _ in told]})
    known = {(row.host_id, row.key): row.id for row in there}
    read = []
    for host_id, key, text, ahead_s in told:
        device_id = known.get((host_id, key))
        if device_id is None:  # not heard of, or it hangs on another host by now
            continue
        try:
            read.append((read_readings(text), device_id, ahead_s))
        except ValueError as error:
            log.warning("readings of %s break the contract and are dropped: %s", key, type(error).__name__)
    try:
        with connection.begin_nested():
            ids = channel_ids(connection, [columns.channels for columns, _, _ in read])
            return insert_batches(
                connection,
                [
                    Batch(columns, own, device_id, None, ahead_s)
                    for (columns, device_id, ahead_s), own in zip(read, ids, strict=True)
                ],
            )
    except (StatementError, ValueError, ArithmeticError) as error:
        if passes(error):
            raise
        kind = type(getattr(error, "orig", error)).__name__
        log.warning("readings of %d devices cannot be kept: %s", len(read), kind)
        return 0


def channel_ids(connection: Connection, wanted: Sequence[Sequence[Meaning]]) -> list[list[int]]:
    """Ids of channels, made where they are new; lists of them as they are given.

    Args:
        connection: inside a transaction that writes.
        wanted: lists of meanings.
    """
    kept = [[_cut(meaning) for meaning in own] for own in wanted]
    missing = {meaning for own in kept for meaning in own}
    found = _known.setdefault(connection.engine, {})
    missing -= found.keys()
    if missing:
        found = found | _read(connection, missing)
        if absent := sorted(missing - found.keys()):
            _makers.add(connection.get_transaction())
            made = _INSERTS[connection.dialect.name](channels).on_conflict_do_nothing()
            connection.execute(made, [dict(zip(_NAMES, meaning, strict=True)) for meaning in absent])
            found |= _read(connection, absent)
        elif connection.get_transaction() not in _makers:
            _known[connection.engine] = found
    return [[found[meaning] for meaning in own] for own in kept]


def _read(connection: Connection, wanted: Iterable[Meaning]) -> dict[Meaning, int]:
    rows = connection.execute(_CHANNELS, {"sensors": sorted({meaning[0] for meaning in wanted})})
    return {(row.sensor, row.domain, row.quantity, row.unit): row.id for row in rows}


def _cut(meaning: Meaning) -> Meaning:
    sensor, domain, quantity, unit = (
        name.replace("\0", "")[:length] for name, length in zip(meaning, _LENGTHS, strict=True)
    )
    return sensor, domain, quantity, unit
