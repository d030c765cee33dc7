"""The outbox: what is told is a row of the transaction that made it true, and is never told twice.

A row is made without a channel. Who delivers knows the channels, and gives each of them a row of its own (`delivery`):
so a settings file that cannot be read costs time and no message.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, and_, insert, select, update
from sqlalchemy.exc import IntegrityError

from device_registry.database import one_of, table_of
from device_registry.errors import UsageError
from scheduler.notifications.digest import digest_document
from scheduler.notifications.incident import incident_document
from scheduler.notifications.told import SCHEMA_VERSION
from scheduler.watch_tables import Incident, Notification

notifications = table_of(Notification)
_incidents = table_of(Incident)

#: What may become of an incident.
Change = Literal["opened", "resolved", "reopened"]
#: Channel of a row that is not addressed yet.
UNADDRESSED: Final = ""
#: A message that nobody takes for so long is given up.
PATIENCE: Final = timedelta(hours=24)
#: Rows that `messages` reads at most, and characters of a key.
_MOST, _MOST_KEY = 1000, 200


def tell_incident(connection: Connection, incident_id: int, kind: Change, now: datetime) -> None:
    """Put into the outbox what became of an incident.

    Args:
        connection: the transaction that changes the incident; its series are there already.
        incident_id: of the incident.
        kind: what became of it. Each of its openings, resolutions and reopenings is told once.
        now: the time.
    """
    changed_at = connection.execute(select(_incidents.c.changed_at).where(_incidents.c.id == incident_id)).scalar_one()
    key = f"incident/{incident_id}/{kind}"
    if kind != "opened":  # it may be resolved and reopened again
        key += f"/{changed_at:%Y%m%dT%H%M%S%f}"
    _put(
        connection,
        key=key,
        kind=f"incident.{kind}",
        document=lambda: incident_document(connection, incident_id),
        now=now,
        incident_id=incident_id,
    )


def tell_digest(connection: Connection, sweep_run_id: int, now: datetime) -> None:
    """Put the digest of a sweep run into the outbox, once.

    Args:
        connection: the transaction that ends the look at the run.
        sweep_run_id: of the run.
        now: the time.
    """
    _put(
        connection,
        key=f"digest/{sweep_run_id}",
        kind="digest",
        document=lambda: digest_document(connection, sweep_run_id, now),
        now=now,
        sweep_run_id=sweep_run_id,
    )


def tell_trouble(
    connection: Connection, *, key: str, title: str, text: str, now: datetime, sweep_run_id: int | None = None
) -> None:
    """Put into the outbox what the farm could not do, once.

    Args:
        connection: the transaction that found it.
        key: what it is about, "schedule/nightly/2026-11-30T02:00": told once.
        title: a line.
        text: a few sentences.
        now: the time.
        sweep_run_id: of the run that it is about, if of any.
    """
    _put(
        connection,
        key=f"trouble/{key}"[:_MOST_KEY],
        kind="trouble",
        document=lambda: {"schema_version": SCHEMA_VERSION, "title": title, "text": text},
        now=now,
        sweep_run_id=sweep_run_id,
    )


def messages(
    connection: Connection, *, state: str | None = None, ids: list[int] | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """Messages, the newest first; of those that nobody addressed yet the channel is None.

    Args:
        connection: to read with.
        state: pending, sent or given_up; None: all.
        ids: only these, however many; None: all.
        limit: how many.
    """
    columns = (
        notifications.c.id,
        notifications.c.channel,
        notifications.c.key,
        notifications.c.kind,
        notifications.c.state,
        notifications.c.tries,
        notifications.c.next_at,
        notifications.c.error,
        notifications.c.created_at,
        notifications.c.sent_at,
    )
    query = select(*columns).where(notifications.c.state != "addressed")
    if state is not None:
        query = query.where(notifications.c.state == state)
    query = query.limit(min(limit, _MOST)) if ids is None else query.where(one_of(notifications.c.id, ids))
    rows = connection.execute(query.order_by(notifications.c.id.desc()))
    return [{**row._mapping, "channel": row.channel or None} for row in rows]


def retry(connection: Connection, ids: list[int], now: datetime) -> list[int]:
    """Have messages tried again at once, for another day; returns those that will be.

    Args:
        connection: inside a transaction that writes.
        ids: of messages; empty: all that were given up or wait after a failure.
        now: the time.

    Raises:
        UsageError: one of them is unknown, or was sent.
    """
    which: ColumnElement[bool] = and_(notifications.c.state.in_(("pending", "given_up")), notifications.c.tries > 0)
    if ids:
        states = select(notifications.c.id, notifications.c.state).where(one_of(notifications.c.id, ids))
        known: dict[int, str] = {row.id: row.state for row in connection.execute(states)}
        for wanted in ids:
            if (found := known.get(wanted)) is None:
                raise UsageError(f"there is no message {wanted}; see benchfarm notifications list")
            if found not in ("pending", "given_up"):
                raise UsageError(f"message {wanted} is {found}: it is never sent twice")
        which = one_of(notifications.c.id, ids)
    again = sorted(connection.execute(select(notifications.c.id).where(which)).scalars())
    if again:
        change = update(notifications).where(one_of(notifications.c.id, again))
        connection.execute(change.values(state="pending", next_at=now, give_up_at=now + PATIENCE))
    return again


def _put(
    connection: Connection,
    *,
    key: str,
    kind: str,
    document: Callable[[], dict[str, Any]],
    now: datetime,
    **about: int | None,
) -> None:
    told = select(notifications.c.id).where(notifications.c.channel == UNADDRESSED, notifications.c.key == key)
    if connection.execute(told).first() is not None:
        return
    row = {
        "channel": UNADDRESSED,
        "key": key,
        "kind": kind,
        "document": document(),
        "state": "pending",
        "tries": 0,
        "next_at": now,
        "give_up_at": now + PATIENCE,
        "created_at": now,
        **about,
    }
    with suppress(IntegrityError), connection.begin_nested():  # somebody told it in the same moment
        connection.execute(insert(notifications).values(row))
