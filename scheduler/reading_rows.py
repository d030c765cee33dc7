"""Readings into rows of telemetry, as fast as either database takes them: COPY on PostgreSQL, executemany on SQLite.

What SQLAlchemy does for each value costs more than the database itself, so the drivers are given what they send: binary
COPY was a fifth quicker than text, for neither side has to write or read numbers (`benchmarks/ingest.py`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice, repeat
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from workers.readings import QUALITIES, ReadingColumns

#: Columns of a row, in the order that both ways write them.
_NAMES: Final = ("at", "device_id", "attempt_id", "channel_id", "value", "quality", "why")
_COPY: Final = f"COPY telemetry ({', '.join(_NAMES)}) FROM STDIN (FORMAT BINARY)"
_INSERT: Final = f"INSERT INTO telemetry ({', '.join(_NAMES)}) VALUES ({', '.join('?' * len(_NAMES))})"  # noqa: S608
#: PostgreSQL counts microseconds from 2000.
_POSTGRES_EPOCH_S: Final = 946_684_800
_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = struct.pack(">h", -1)
#: Rows that are handed to the driver at once: enough that its calls cost nothing, few enough to be nobody's memory.
_ROWS_AT_ONCE: Final = 10_000
_MICRO: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Batch:
    """Readings of one device, or one attempt."""

    columns: ReadingColumns
    #: Ids of the channels that the columns number.
    channel_ids: Sequence[int]
    device_id: int | None
    attempt_id: int | None
    #: How far the clock that dated them is ahead of the head's.
    ahead_s: float = 0.0


def insert_batches(connection: Connection, batches: Sequence[Batch]) -> int:
    """Insert the rows of many batches; returns how many.

    Args:
        connection: inside a transaction that writes.
        batches: of readings that fit together (`workers.readings.checked`).

    Raises:
        DBAPIError: as of any statement.
    """
    count = sum(len(batch.columns) for batch in batches)
    if not count:
        return 0
    if connection.dialect.name == "postgresql":
        _copy(connection, (row for batch in batches for row in _binary(batch)))
    else:
        rows = (row for batch in batches for row in _values(batch))
        for some in _portions(rows):
            connection.exec_driver_sql(_INSERT, some)
    return count


def _copy(connection: Connection, rows: Iterator[bytes]) -> None:
    """In the transaction that the connection has begun; errors are those that SQLAlchemy would raise."""
    from psycopg import Error

    fairy = connection.connection
    cursor = fairy.cursor()
    try:
        with cursor.copy(_COPY) as copy:
            copy.write(_HEADER)
            for some in _portions(rows):
                copy.write(b"".join(some))
            copy.write(_TRAILER)
    except Error as error:
        gone = connection.dialect.is_disconnect(error, fairy.dbapi_connection, cursor)  # type: ignore[arg-type]
        told = DBAPIError.instance(_COPY, None, error, Error, connection_invalidated=gone, dialect=connection.dialect)
        if gone:
            connection.invalidate(error)
        raise told from error
    finally:
        cursor.close()


def _portions(rows: Iterator[Any]) -> Iterator[list[Any]]:
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        yield some


def _binary(batch: Batch) -> Iterator[bytes]:
    """Rows as PostgreSQL's binary COPY has them: each field after its length, -1 where it is NULL."""
    columns, ids = batch.columns, batch.channel_ids
    usual, lead = _layout(batch.device_id is not None, batch.attempt_id is not None)
    given = [part for known in (batch.device_id, batch.attempt_id) for part in _integer(known)]
    start_us = round((columns.anchor - batch.ahead_s - _POSTGRES_EPOCH_S) * _MICRO)
    for position, (offset_s, channel, value, quality) in enumerate(
        zip(columns.offset_s, columns.channel, columns.value, columns.quality, strict=True)
    ):
        at_us = start_us + round(offset_s * _MICRO)
        if value is not None and quality == 0 and position not in columns.why:
            yield usual(7, 8, at_us, *given, 4, ids[channel], 8, value, 2, b"ok", -1)
            continue
        tail = _NULL if value is None else struct.pack(">id", 8, value)
        why = columns.why.get(position)
        parts = (lead(7, 8, at_us, *given, 4, ids[channel]), tail, _text(QUALITIES[quality]), _text(why))
        yield b"".join(parts)


_NULL: Final = struct.pack(">i", -1)


def _integer(value: int | None) -> tuple[int, ...]:
    return (-1,) if value is None else (4, value)


def _text(value: str | None) -> bytes:
    if value is None:
        return _NULL
    data = value.replace("\0", "").encode()
    return struct.pack(">i", len(data)) + data


@lru_cache(maxsize=4)
def _layout(has_device: bool, has_attempt: bool) -> tuple[Any, Any]:
    """How to pack a row with a value, and the part of any row before its value."""
    lead = ">hiq" + ("ii" if has_device else "i") + ("ii" if has_attempt else "i") + "ii"
    return struct.Struct(lead + "idi2si").pack, struct.Struct(lead).pack


def _values(batch: Batch) -> Iterator[tuple[Any, ...]]:
    """Rows as SQLite's driver takes them; nothing but their times is made here row by row."""
    columns, why = batch.columns, batch.columns.why
    return zip(
        _texts(batch),
        repeat(batch.device_id),
        repeat(batch.attempt_id),
        map(batch.channel_ids.__getitem__, columns.channel),
        columns.value,
        map(QUALITIES.__getitem__, columns.quality),
        map(why.get, range(len(columns))) if why else repeat(None),
        strict=False,
    )


def _texts(batch: Batch) -> Iterator[str]:
    """Times as SQLAlchemy writes them; readings of one second share the most of it."""
    start_us = round((batch.columns.anchor - batch.ahead_s) * _MICRO)
    second, text = None, ""
    for offset_s in batch.columns.offset_s:
        seconds, micros = divmod(start_us + round(offset_s * _MICRO), _MICRO)
        if seconds != second:
            second, text = seconds, datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
        yield f"{text}.{micros:06d}"
