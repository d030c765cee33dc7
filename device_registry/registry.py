"""Hosts and devices as rows: what an agent said at hello, and what selectors see."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from device_registry.capabilities import Attribute, DeviceDescription, HostDescription
from device_registry.database import insert_row, table_of
from device_registry.selectors import Selector
from device_registry.tables import Device, Host

hosts = table_of(Host)
devices = table_of(Device)


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

    @property
    def selectable(self) -> dict[str, Attribute]:
        """The attributes that a selector may compare."""
        return {**self.attributes, "name": self.name, "kind": self.kind, "host": self.host, "key": self.key}


def record_hello(
    connection: Connection, host: HostDescription, found: list[DeviceDescription], agent_version: str, now: datetime
) -> int:
    """Record a host and its devices; devices of the host that were not found are offline. Returns the host's id."""
    values = {
        "name": host.name,
        "description": asdict(host),
        "agent_version": agent_version,
        "last_seen_at": now,
    }
    host_id = connection.execute(select(hosts.c.id).where(hosts.c.key == host.key)).scalar_one_or_none()
    if host_id is None:
        host_id = insert_row(connection, hosts, key=host.key, **values)
    else:
        connection.execute(update(hosts).where(hosts.c.id == host_id).values(**values))
    known = {row.key for row in connection.execute(select(devices.c.key))}
    for device in found:
        values = {
            "name": device.name,
            "kind": device.kind,
            "driver": device.driver,
            "host_id": host_id,
            "attributes": device.attributes,
            "presence": device.presence,
            "last_seen_at": now,
        }
        if device.key in known:
            connection.execute(update(devices).where(devices.c.key == device.key).values(**values))
        else:
            insert_row(connection, devices, key=device.key, admin="enabled", **values)
    connection.execute(
        update(devices)
        .where(devices.c.host_id == host_id, devices.c.key.not_in([device.key for device in found]))
        .values(presence="offline")
    )
    return int(host_id)


def list_devices(connection: Connection, selector: Selector | None = None) -> list[RegisteredDevice]:
    """Every device that the selector matches, by name."""
    rows = connection.execute(
        select(devices, hosts.c.name.label("host"), hosts.c.description.label("host_description"))
        .join(hosts, hosts.c.id == devices.c.host_id)
        .order_by(devices.c.name)
    )
    found = [
        RegisteredDevice(
            id=row.id,
            key=row.key,
            name=row.name,
            kind=row.kind,
            driver=row.driver,
            host_id=row.host_id,
            host=row.host,
            host_description=row.host_description,
            presence=row.presence,
            admin=row.admin,
            not_before=row.not_before,
            last_seen_at=row.last_seen_at,
            attributes=row.attributes,
        )
        for row in rows
    ]
    return [device for device in found if selector is None or selector.matches(device.selectable)]
