"""Hosts and devices as rows: what agents say of them, and what selectors see."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Row, Table, bindparam, insert, select, update

from device_registry.capabilities import Attribute, DeviceDescription, HostDescription
from device_registry.database import insert_row, table_of
from device_registry.selectors import Selector
from device_registry.storable import storable, text_of
from device_registry.tables import Device, Host

hosts = table_of(Host)
devices = table_of(Device)
log = logging.getLogger(__name__)

#: online, lost (its agent does not answer), left (said goodbye) or refused (another version, another store, ...).
HostPresence = Literal["online", "lost", "left", "refused"]


@dataclass(frozen=True, kw_only=True)
class PresenceChange:
    """A host or a device came or went: what leaves an event row."""

    entity: Literal["host", "device"]
    entity_id: int
    before: str | None
    after: str
    why: str | None = None


Note = Callable[[PresenceChange], None]


def _no_note(_change: PresenceChange) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, kw_only=True)
class RegisteredHost:
    """A host's row."""

    id: int
    key: str
    name: str
    description: dict[str, Any]
    agent_version: str
    presence: str
    why: str | None
    labels: dict[str, str]
    last_seen_at: datetime


@dataclass(frozen=True, kw_only=True)
class RegisteredDevice:
    """A device's row together with its host's."""

    id: int
    key: str
    name: str
    kind: str
    driver: str
    host_id: int
    host: str
    host_description: dict[str, Any]
    presence: str
    admin: str
    not_before: datetime | None
    last_seen_at: datetime
    attributes: dict[str, Attribute]
    host_presence: str = "online"
    host_labels: dict[str, str] = field(default_factory=dict)
    admin_by: str | None = None
    admin_why: str | None = None
    tags: tuple[str, ...] = ()
    failures_in_row: int = 0
    probe_at: datetime | None = None
    #: Seconds of work done so far.
    used_s: float = 0.0

    @property
    def simulated(self) -> bool:
        """Whether its results are made up: they are marked everywhere, and never ranked with real ones."""
        return self.attributes.get("simulated") is True

    @property
    def label(self) -> str:
        """Its name as tables and titles show it."""
        return label_of(self.name, self.attributes)

    @property
    def selectable(self) -> dict[str, Attribute]:
        """The attributes that a selector may compare."""
        return selectable(
            self.attributes,
            {"name": self.name, "kind": self.kind, "host": self.host, "key": self.key, "simulated": self.simulated},
            self.host_labels,
            self.tags,
        )


def label_of(name: str, attributes: Mapping[str, Any]) -> str:
    """A device's name, marked where its results are made up."""
    return f"{name} (simulated)" if attributes.get("simulated") is True else name


def selectable(
    attributes: dict[str, Attribute], facts: dict[str, Attribute], labels: dict[str, str], tags: Sequence[str]
) -> dict[str, Attribute]:
    """What a selector may compare of a device: its attributes, its facts, `host.LABEL` and its tags as `tag`."""
    named: dict[str, Attribute] = {f"host.{name}": value for name, value in labels.items()}
    return {**attributes, **named, **facts, "tag": tuple(tags)}


def record_hello(
    connection: Connection,
    host: HostDescription,
    found: Sequence[DeviceDescription],
    agent_version: str,
    now: datetime,
    note: Note = _no_note,
    *,
    refused: str | None = None,
) -> int:
    """Record a host that came, and its devices. Returns the host's id.

    Args:
        connection: a transaction that writes.
        host: what its agent says of it.
        found: its devices; those known of it that are not among them are offline.
        agent_version: of its agent.
        now: the time.
        note: called with every change of presence.
        refused: why it gets no work; its devices are offline then.
    """
    presence: HostPresence = "online" if refused is None else "refused"
    values = {
        "name": _text(hosts, "name", host.name),
        "description": storable(asdict(host)),
        "agent_version": _text(hosts, "agent_version", agent_version),
        "presence": presence,
        "why": refused,
        "labels": storable(host.labels),
        "last_seen_at": now,
    }
    key = _text(hosts, "key", host.key)
    row = connection.execute(select(hosts.c.id, hosts.c.presence, hosts.c.why).where(hosts.c.key == key)).first()
    if row is None:
        host_id = insert_row(connection, hosts, key=key, **values)
    else:
        host_id = int(row.id)
        connection.execute(update(hosts).where(hosts.c.id == host_id).values(**values))
    before = row.presence if row is not None else None
    if row is None or (before, row.why) != (presence, refused):
        note(PresenceChange(entity="host", entity_id=host_id, before=before, after=presence, why=refused))
    if refused is None:
        record_devices(connection, host_id, found, now, note)
    else:
        _take_offline(connection, host_id, presence, note)
    return host_id


def record_devices(
    connection: Connection, host_id: int, found: Sequence[DeviceDescription], now: datetime, note: Note = _no_note
) -> None:
    """Record which devices a host has now: new ones, changed ones, and those that moved to it; the others are offline.

    A device is known by its key, so it keeps its identity when it moves from one host to another.

    Args:
        connection: a transaction that writes.
        host_id: the host.
        found: all devices of the host.
        now: the time.
        note: called with every change of presence.
    """
    known = {row.key: row for row in connection.execute(select(devices))}
    found = with_keys(found)
    new, changed = [], []
    for device in {device.key: device for device in found}.values():
        values = {
            "name": _text(devices, "name", device.name),
            "kind": _text(devices, "kind", device.kind),
            "driver": _text(devices, "driver", device.driver),
            "host_id": host_id,
            # Every comparison of the farm looks into it.
            "attributes": storable(device.attributes),
            "presence": device.presence,
            "last_seen_at": now,
        }
        row = known.get(device.key)
        if row is None:
            new.append({"key": device.key, **values})
            continue
        if row.host_id != host_id and device.presence != "online":
            continue  # what is plugged in elsewhere by now is not this host's to report
        changed.append({"row_id": row.id, **values})
        if row.presence != device.presence:
            _note_device(note, row.id, row.presence, device.presence)
    here = {device.key for device in found}
    gone = [row for row in known.values() if row.host_id == host_id and row.key not in here]
    if new:
        connection.execute(insert(devices), new)
        for row in connection.execute(select(devices.c.id, devices.c.key, devices.c.presence)):
            if row.key in here and row.key not in known:
                _note_device(note, row.id, None, row.presence)
    if changed:
        connection.execute(
            update(devices)
            .where(devices.c.id == bindparam("row_id"))
            .values({name: bindparam(name) for name in changed[0] if name != "row_id"}),
            changed,
        )
    _go_offline(connection, gone, f"host {host_id} has it no more", note)


def with_keys(found: Sequence[DeviceDescription]) -> list[DeviceDescription]:
    """Those whose keys a database keeps as they are: cut short, a key could be another device's."""
    kept = [device for device in found if _text(devices, "key", device.key) == device.key]
    if len(kept) < len(found):
        log.warning("%d devices are left out: their keys cannot be kept", len(found) - len(kept))
    return kept


def _text(table: Table, column: str, value: str) -> str:
    return text_of(value, getattr(table.c[column].type, "length", None))


def set_host_presence(
    connection: Connection,
    host_id: int,
    presence: HostPresence,
    why: str | None,
    now: datetime,
    note: Note = _no_note,
) -> None:
    """Say that a host was lost, left, or was refused: its devices are offline until it says hello again.

    Args:
        connection: a transaction that writes.
        host_id: the host.
        presence: what it is now.
        why: the reason, for people.
        now: the time.
        note: called with every change of presence.
    """
    row = connection.execute(select(hosts.c.presence, hosts.c.why).where(hosts.c.id == host_id)).one()
    values = {"presence": presence, "why": why} | ({"last_seen_at": now} if presence == "online" else {})
    connection.execute(update(hosts).where(hosts.c.id == host_id).values(**values))
    if (row.presence, row.why) != (presence, why):
        note(PresenceChange(entity="host", entity_id=host_id, before=row.presence, after=presence, why=why))
    if presence != "online":
        _take_offline(connection, host_id, presence, note)


def list_hosts(connection: Connection) -> list[RegisteredHost]:
    """Every host, by name."""
    rows = connection.execute(select(hosts).order_by(hosts.c.name, hosts.c.id))
    return [RegisteredHost(**row._mapping) for row in rows]


def list_devices(connection: Connection, selector: Selector | None = None) -> list[RegisteredDevice]:
    """Every device that the selector matches, by name."""
    # Not joined: a host's description is large, and would be read once for each of its devices.
    at = {host.id: host for host in list_hosts(connection)}
    found = []
    for row in connection.execute(select(devices).order_by(devices.c.name, devices.c.id)):
        values = dict(row._mapping)
        host = at[values["host_id"]]
        del values["probes"]
        values |= {"tags": tuple(row.tags), "host": host.name, "host_description": host.description}
        values |= {"host_presence": host.presence, "host_labels": host.labels}
        found.append(RegisteredDevice(**values))
    return [device for device in found if selector is None or selector.matches(device.selectable)]


def _take_offline(connection: Connection, host_id: int, presence: HostPresence, note: Note) -> None:
    rows = connection.execute(select(devices).where(devices.c.host_id == host_id)).all()
    _go_offline(connection, rows, f"its host is {presence}", note)


def _go_offline(connection: Connection, rows: Sequence[Row[Any]], why: str, note: Note) -> None:
    leaving = [row for row in rows if row.presence != "offline"]
    if leaving:
        offline = update(devices).where(devices.c.id == bindparam("row_id")).values(presence="offline")
        connection.execute(offline, [{"row_id": row.id} for row in leaving])
    for row in leaving:
        _note_device(note, row.id, row.presence, "offline", why)


def _note_device(note: Note, device_id: int, before: str | None, after: str, why: str | None = None) -> None:
    note(PresenceChange(entity="device", entity_id=device_id, before=before, after=after, why=why))
