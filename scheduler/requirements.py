"""What jobs want of a place, as rows that many jobs share. Never changed, so whoever read one may keep it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Literal

from sqlalchemy import Connection, Row, select

from device_registry.database import one_of, shared_row, table_of
from device_registry.selectors import parse_selector
from scheduler import placement
from scheduler.conversions import digest
from scheduler.tables import Requirement

requirements = table_of(Requirement)


def requirement_id(
    connection: Connection,
    place: Literal["device", "slot"],
    selector: str = "",
    device_id: int | None = None,
    host_id: int | None = None,
    needs: Iterable[str] = (),
) -> int:
    """The row of a requirement, made if there is none yet.

    Args:
        connection: inside a transaction that writes.
        place: where its jobs run.
        selector: canonical text of a selector (`str(parse_selector(text))`); empty: any device.
        device_id: the one device that it may be.
        host_id: the one host that it may be.
        needs: what the place must offer.
    """
    values = {"place": place, "selector": selector, "device_id": device_id, "host_id": host_id, "needs": sorted(needs)}
    return shared_row(connection, requirements, digest(list(values.values())), **values)


def load(connection: Connection, after_id: int = 0) -> list[placement.Requirement]:
    """All requirements with greater ids."""
    rows = connection.execute(select(requirements).where(requirements.c.id > after_id).order_by(requirements.c.id))
    return [_read(row) for row in rows]


def load_some(connection: Connection, ids: Collection[int]) -> list[placement.Requirement]:
    """The requirements of these ids."""
    return [_read(row) for row in connection.execute(select(requirements).where(one_of(requirements.c.id, ids)))]


def _read(row: Row[Any]) -> placement.Requirement:
    return placement.Requirement(
        id=row.id,
        kind=row.place,
        selector=parse_selector(row.selector),
        device_id=row.device_id,
        host_id=row.host_id,
        needs=frozenset(row.needs),
    )
