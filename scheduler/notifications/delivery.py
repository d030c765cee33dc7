"""Messages on their way: which channel gets them, who tries now, and what came of it. Nothing here talks to anybody.

A try is claimed before it is made and reported after it, each in a short transaction: whoever dies between the two
leaves a message that is tried again (with the same idempotency key), and of two that deliver, one does.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Text, and_, bindparam, cast, exists, insert, select, text, update

from scheduler.conversions import digest
from scheduler.notifications.outbox import UNADDRESSED, notifications

#: Who claimed a message and never reported is given up on after so long.
CLAIM: Final = timedelta(minutes=3)
#: Pauses between tries: twice as long each time, within limits; and a receiver that names one is believed so far.
_FIRST_S, _MOST_S, _MOST_ASKED_S = 30.0, 900.0, 6 * 3600.0
#: Pauses differ by so much, lest all channels of a host that was away come back at once.
_JITTER = 0.2
#: Messages that are looked at in one go.
_PORTION = 200
#: Literal, for SQLite uses a partial index only for a query that repeats its words.
_IS_PENDING = text("notification.state = 'pending'")


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message for one channel."""

    id: int
    channel: str
    key: str
    #: incident.opened, incident.resolved, incident.reopened, digest or test.
    kind: str
    document: Mapping[str, Any]
    incident_id: int | None
    created_at: datetime
    #: The number of this try, 1 for the first.
    attempt: int
    #: What the receiver called the message that opened this incident, where it called it anything.
    receipt: str | None = None

    @property
    def idempotency_key(self) -> str:
        """The same for every try, and for no other message of any farm."""
        return digest([self.created_at.isoformat(), self.channel, self.key])[:32]


def pause_s(attempt: int, *, asked_s: float | None = None, chance: Callable[[], float] = random.random) -> float:
    """Seconds from a failed try to the next.

    Args:
        attempt: the number of the try that failed.
        asked_s: how long the receiver asked to be left alone.
        chance: a number from 0 to 1, for the jitter.
    """
    grown = min(_MOST_S, _FIRST_S * 2.0 ** min(attempt - 1, 16))
    pause = grown * (1 + _JITTER * (2 * chance() - 1))
    return pause if asked_s is None else max(pause, min(asked_s, _MOST_ASKED_S))


def address(connection: Connection, channels: Mapping[str, Callable[[str], bool]], now: datetime) -> int:
    """Give every channel a row of its own of each message that has none yet; returns how many were addressed.

    Args:
        connection: inside a transaction that writes.
        channels: by name; whether each wants messages of a kind.
        now: the time.
    """
    waiting = (
        select(notifications)
        .where(_IS_PENDING, notifications.c.channel == UNADDRESSED)
        .order_by(notifications.c.id)
        .limit(_PORTION)
    )
    rows = connection.execute(waiting).all()
    for row in rows:
        known = set(connection.execute(select(notifications.c.channel).where(notifications.c.key == row.key)).scalars())
        common = {name: row._mapping[name] for name in _COPIED}
        fresh = [
            {**common, "channel": name, "state": "pending", "tries": 0, "next_at": now}
            for name, wants in channels.items()
            if name not in known and wants(row.kind)
        ]
        if fresh:
            connection.execute(insert(notifications), fresh)
        done = update(notifications).where(notifications.c.id == row.id)
        connection.execute(done.values(state="addressed", next_at=None, sent_at=now))
    return len(rows)


_COPIED: Final = ("key", "kind", "document", "give_up_at", "incident_id", "sweep_run_id", "created_at")


def anything_due(connection: Connection, now: datetime) -> bool:
    """Whether anything is to be done now."""
    query = select(notifications.c.id).where(_IS_PENDING, notifications.c.next_at <= now).limit(1)
    return connection.execute(query).first() is not None


def due(connection: Connection, now: datetime) -> list[str]:
    """Channels with a message to try now."""
    query = select(notifications.c.channel).distinct()
    query = query.where(_IS_PENDING, notifications.c.next_at <= now, notifications.c.channel != UNADDRESSED)
    return sorted(connection.execute(query).scalars())


def claim(connection: Connection, channel: str, now: datetime) -> Message | None:
    """Take the oldest message of a channel that is due; None: there is none.

    What became of an incident is told in order: a message waits for earlier ones of the same incident.

    Args:
        connection: inside a transaction that writes.
        channel: its name.
        now: the time.
    """
    before = notifications.alias("before")
    earlier = exists().where(
        before.c.incident_id == notifications.c.incident_id,
        before.c.channel == notifications.c.channel,
        before.c.state == "pending",
        before.c.id < notifications.c.id,
    )
    query = (
        select(notifications, cast(notifications.c.document, Text).label("document_text"))
        .where(_IS_PENDING, notifications.c.channel == channel, notifications.c.next_at <= now, ~earlier)
        .order_by(notifications.c.id)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    taken = connection.execute(
        update(notifications)
        .where(notifications.c.id == row.id, notifications.c.tries == row.tries, notifications.c.state == "pending")
        .values(tries=row.tries + 1, next_at=now + CLAIM)
    )
    if taken.rowcount != 1:
        return None
    return Message(
        id=row.id,
        channel=channel,
        key=row.key,
        kind=row.kind,
        document=json.loads(row.document_text),
        incident_id=row.incident_id,
        created_at=row.created_at,
        attempt=row.tries + 1,
        receipt=_receipt(connection, channel, row.incident_id),
    )


def sent(connection: Connection, message: Message, receipt: str | None, now: datetime) -> None:
    """A try went well.

    Args:
        connection: inside a transaction that writes.
        message: as it was claimed.
        receipt: what the receiver calls it, if anything.
        now: the time.
    """
    connection.execute(_report(message).values(state="sent", sent_at=now, next_at=None, error=None, receipt=receipt))


def failed(
    connection: Connection, message: Message, why: str, now: datetime, *, pause: float, channel_is_away: bool
) -> bool:
    """A try failed; returns whether that was the last one.

    Args:
        connection: inside a transaction that writes.
        message: as it was claimed.
        why: one sentence without secrets.
        now: the time.
        pause: seconds to the next try.
        channel_is_away: every message of the channel would have failed: all wait as long as this one.
    """
    next_at = now + timedelta(seconds=pause)
    last = bool(
        connection.execute(
            _report(message)
            .where(notifications.c.give_up_at <= next_at)
            .values(state="given_up", next_at=None, error=why)
        ).rowcount
    )
    if not last:
        connection.execute(_report(message).values(next_at=next_at, error=why))
    if channel_is_away:
        others = and_(_IS_PENDING, notifications.c.channel == message.channel, notifications.c.next_at < next_at)
        connection.execute(update(notifications).where(others).values(next_at=next_at))
    return last


def give_up_strays(connection: Connection, channels: Sequence[str], now: datetime) -> int:
    """Give up what waited a day for a channel that is configured no more, or for any; returns how many.

    Args:
        connection: inside a transaction that writes.
        channels: names of those that there are.
        now: the time.
    """
    stray = update(notifications).where(
        _IS_PENDING, notifications.c.give_up_at <= now, notifications.c.channel.not_in(channels)
    )
    why = "its channel is no longer in notifications.toml"
    return connection.execute(stray.values(state="given_up", next_at=None, error=why)).rowcount


def _report(message: Message) -> Any:
    """On this very try: somebody may have begun another meanwhile."""
    return update(notifications).where(
        notifications.c.id == message.id,
        notifications.c.tries == message.attempt,
        notifications.c.state == "pending",
    )


_RECEIPT: Final = (
    select(notifications.c.receipt)
    .where(
        notifications.c.incident_id == bindparam("incident"),
        notifications.c.channel == bindparam("its_channel"),
        notifications.c.receipt.is_not(None),
    )
    .order_by(notifications.c.id.desc())
    .limit(1)
)


def _receipt(connection: Connection, channel: str, incident_id: int | None) -> str | None:
    if incident_id is None:
        return None
    found: str | None = connection.execute(_RECEIPT, {"incident": incident_id, "its_channel": channel}).scalar()
    return found
