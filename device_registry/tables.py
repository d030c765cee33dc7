"""Tables of hosts and devices, and the column types that every table shares."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, ForeignKey, Integer, String, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, UserDefinedType
from sqlmodel import Field, SQLModel


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time, always aware and always UTC (SQLite has no time zones of its own)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times; hand SQLite plain UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive datetime: every time in the database is UTC")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give back an aware UTC time."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class JsonText(UserDefinedType[str]):
    """What a JSON column is given as text that is JSON already: it is stored as it is, by either database."""

    cache_ok = True
    #: PostgreSQL takes no plain text for a JSON column.
    render_bind_cast = True

    def get_col_spec(self, **_: Any) -> str:
        """See `UserDefinedType`."""
        return "JSON"


def utc_now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)


class Host(SQLModel, table=True):
    """A machine that runs an agent."""

    id: int | None = Field(default=None, primary_key=True)
    #: Stable identity of the machine.
    key: str = Field(sa_type=String(200), unique=True)
    name: str = Field(sa_type=String(200))
    #: The agent's whole HostDescription, as JSON.
    description: dict[str, Any] = Field(sa_type=JSON)
    agent_version: str = Field(sa_type=String(50))
    #: online, lost (its agent does not answer), left (said goodbye) or refused (see `why`).
    presence: str = Field(default="online", sa_type=String(20))
    why: str | None = Field(default=None, sa_type=Text)
    #: What the lab said at join: {"rack": "a"}; selectors see them as `host.rack`.
    labels: dict[str, str] = Field(default_factory=dict, sa_type=JSON)
    last_seen_at: datetime = Field(sa_type=UtcDateTime)


class Device(SQLModel, table=True):
    """A thing that is measured. Whether it is busy is not stored: that is its live attempt's row."""

    id: int | None = Field(default=None, primary_key=True)
    #: Stable identity: outlives cables and ports.
    key: str = Field(sa_type=String(200), unique=True)
    name: str = Field(sa_type=String(200), index=True)
    kind: str = Field(sa_type=String(50))
    driver: str = Field(sa_type=String(50))
    host_id: int = Field(sa_type=Integer, sa_column_args=[ForeignKey("host.id")])
    attributes: dict[str, Any] = Field(sa_type=JSON)
    #: First fact: online, offline, unauthorized, ...
    presence: str = Field(sa_type=String(50))
    #: Second fact: enabled, draining, maintenance or quarantined; and who said so.
    admin: str = Field(default="enabled", sa_type=String(50))
    admin_by: str | None = Field(default=None, sa_type=Text)
    admin_why: str | None = Field(default=None, sa_type=Text)
    #: Set by people, compared by `tag=canary`.
    tags: list[str] = Field(default_factory=list, sa_type=JSON)
    #: Failures for its own sake in a row; three quarantine it.
    failures_in_row: int = Field(default=0)
    #: Canaries that failed since it was quarantined, and when the next one may run: back-off.
    probes: int = Field(default=0)
    probe_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    #: Seconds of work done so far: wear is spread over twins.
    used_s: float = Field(default=0.0)
    #: Third fact: cooling until then.
    not_before: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_seen_at: datetime = Field(sa_type=UtcDateTime)
