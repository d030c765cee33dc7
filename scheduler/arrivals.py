"""Hosts that come: greeted, or refused with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from device_registry.capabilities import BackendCapability, DeviceDescription, HostDescription
from device_registry.database import one_of
from device_registry.registry import Note, PresenceChange, devices, record_hello, with_keys
from scheduler.offers import slot_count
from scheduler.roster import ReachedHost
from scheduler.states import record
from workers.agent import AGENT_VERSION

_SEAMS = ("runtimes", "converters", "sensors", "sources")


@dataclass(frozen=True)
class Arrival:
    """A host that came."""

    host: ReachedHost
    #: Why it gets no work; None where it does.
    refused: str | None


def arrive(
    connection: Connection,
    reached_as: str,
    hello: dict[str, Any],
    reached: Iterable[ReachedHost],
    store_marker: str | None,
    *,
    who: str,
    now: datetime,
) -> Arrival:
    """Record a host that came, and its devices.

    Args:
        connection: inside a transaction that writes.
        reached_as: what the executor calls it.
        hello: what its agent said.
        reached: hosts that are in reach already.
        store_marker: of the farm's artifact store; None: not looked at.
        who: for the events.
        now: the time.
    """
    described = _host_description(hello["host"])
    why = _objection(hello, described, reached, store_marker)
    found = [] if why is not None else with_keys([DeviceDescription(**device) for device in hello["devices"]])
    why = why or _shared(connection, found, described, reached)
    note = noting(connection, who=who, now=now)
    host_id = record_hello(connection, described, found, hello["version"], now, note, refused=why)
    host = ReachedHost(
        id=host_id,
        reached_as=reached_as,
        name=described.name,
        key=described.key,
        memory_bytes=described.memory_bytes,
        slots=slot_count(described.cpu_count, described.memory_bytes),
    )
    return Arrival(host, why)


def noting(connection: Connection, *, who: str, now: datetime) -> Note:
    """Leaves an event row for each change of presence."""

    def note(change: PresenceChange) -> None:
        record(
            connection,
            change.entity,
            change.entity_id,
            change.before,
            change.after,
            who=who,
            why=change.why,
            now=now,
        )

    return note


def _objection(
    hello: dict[str, Any], described: HostDescription, reached: Iterable[ReachedHost], store_marker: str | None
) -> str | None:
    if hello["version"] != AGENT_VERSION:
        return (
            f"its agent has version {hello['version']}, this farm {AGENT_VERSION}: install the same benchfarm on both"
        )
    if any(host.name == described.name and host.key != described.key for host in reached):
        return f"another host is called {described.name} already: give one of them another name"
    if store_marker is not None and hello["store"] != store_marker:
        return "it does not see the farm's artifact store: give all hosts one that they share"
    return None


def _shared(
    connection: Connection,
    found: Iterable[DeviceDescription],
    described: HostDescription,
    reached: Iterable[ReachedHost],
) -> str | None:
    """Objects to one machine that joins twice under two names: a device has one host."""
    others = {host.id: host.name for host in reached if host.key != described.key}
    rows = connection.execute(
        select(devices.c.name, devices.c.host_id).where(
            devices.c.host_id.in_(others),
            devices.c.presence == "online",
            one_of(devices.c.key, [device.key for device in found if device.presence == "online"]),
        )
    )
    row = rows.first()
    return f"{others[row.host_id]} has its device {row.name} already: join with --only others" if row else None


def _host_description(data: dict[str, Any]) -> HostDescription:
    """Read leniently: an agent of another version shall be refused by its name, not break the dispatcher."""
    known = {field.name: data[field.name] for field in fields(HostDescription) if field.name in data}
    absent: dict[str, Any] = {"system": "", "architecture": "", "cpu_model": "", "cpu_count": 1, "memory_bytes": 0}
    backends = {seam: tuple(BackendCapability(**item) for item in known.get(seam, ())) for seam in _SEAMS}
    return HostDescription(**{**absent, **known, **backends})
