"""The farm at a glance: who dispatches, which hosts and devices there are, what waits, what runs, what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, select

from device_registry.registry import RegisteredDevice, RegisteredHost, list_devices, list_hosts
from device_registry.registry import devices as device_rows
from device_registry.rests import LONGEST_REST_S, is_over
from scheduler.leases import DISPATCHER, is_led, leases
from scheduler.requirements import requirements
from scheduler.states import IS_LIVE, IS_QUEUED, attempts, events, jobs

#: Events that are looked through for failures: a farm that never fails has no others.
_LOOK_BACK = 200_000


def farm_status(connection: Connection, now: datetime, *, most: int = 20) -> dict[str, Any]:
    """Everything that one looks for first.

    Args:
        connection: to read from.
        now: the time.
        most: entries of each list that could be long.
    """
    hosts, devices, busy = list_hosts(connection), list_devices(connection), _busy(connection)
    return {
        "at": now,
        "dispatcher": _dispatcher(connection, hosts, now),
        "hosts": [_host(host, devices, busy) for host in hosts],
        "devices": _devices(devices, busy, now),
        "set_aside": [_set_aside(device) for device in devices if device.admin != "enabled"][:most],
        "queue": _queue(connection, now, most),
        "blocked": connection.execute(select(func.count()).where(jobs.c.state == "blocked")).scalar_one(),
        "running_count": connection.execute(select(func.count()).select_from(attempts).where(IS_LIVE)).scalar_one(),
        "running": _running(connection, most),
        "failures": _failures(connection, most // 2),
    }


def hosts_at_a_glance(connection: Connection) -> list[dict[str, Any]]:
    """Each host with how many of its devices are there and at work."""
    devices, busy = list_devices(connection), _busy(connection)
    return [_host(host, devices, busy) for host in list_hosts(connection)]


def _busy(connection: Connection) -> set[int | None]:
    return set(connection.execute(select(attempts.c.device_id).where(IS_LIVE)).scalars())


def _dispatcher(connection: Connection, hosts: Sequence[RegisteredHost], now: datetime) -> dict[str, Any]:
    row = connection.execute(select(leases).where(leases.c.role == DISPATCHER)).first()
    if row is None or not is_led(connection, now):
        return {"alive": False, "host": None, "pid": None}
    name = next((host.name for host in hosts if host.key.partition("/")[0] == row.host_key), None)
    return {"alive": True, "host": name, "pid": row.pid}


def _host(host: RegisteredHost, all_devices: Sequence[RegisteredDevice], busy: set[int | None]) -> dict[str, Any]:
    devices = [device for device in all_devices if device.host_id == host.id]
    return {
        "name": host.name,
        "presence": host.presence,
        "why": host.why,
        "labels": host.labels,
        "devices": len(devices),
        "online": sum(device.presence == "online" for device in devices),
        "busy": sum(device.id in busy for device in devices),
        "last_seen_at": host.last_seen_at,
    }


def _devices(devices: Sequence[RegisteredDevice], busy: set[int | None], now: datetime) -> dict[str, int]:
    """Each device counted once, by what keeps it from work, or that it works or is idle."""
    return dict(Counter(state_of(device, busy, now) for device in devices).most_common())


def state_of(device: RegisteredDevice | Row[Any], busy: Container[int | None], now: datetime) -> str:
    """What a device does, or the first thing that keeps it from work: its presence, why it is set aside, its heat."""
    if device.id in busy:
        return "busy"
    if device.presence != "online":
        return str(device.presence)
    if device.admin != "enabled":
        return str(device.admin)
    return "idle" if is_over(device.not_before, LONGEST_REST_S, now) else "cooling"


def _set_aside(device: RegisteredDevice) -> dict[str, Any]:
    return {
        "device": device.label,
        "host": device.host,
        "admin": device.admin,
        "by": device.admin_by,
        "why": device.admin_why,
        "probe_at": device.probe_at,
    }


def _queue(connection: Connection, now: datetime, most: int) -> list[dict[str, Any]]:
    """Queued jobs by what they want and whose they are, the most first. Counted in an index: there may be millions."""
    lanes = connection.execute(
        select(jobs.c.requirement_id, jobs.c.owner, func.count().label("jobs"), func.min(jobs.c.rank).label("rank"))
        .where(IS_QUEUED)
        .group_by(jobs.c.requirement_id, jobs.c.owner)
    ).all()
    known = {row.id: row for row in connection.execute(select(requirements))}
    groups: dict[tuple[str, str], list[Any]] = {}
    for lane in lanes:
        groups.setdefault((lane.owner, _wants(known[lane.requirement_id])), []).append(lane)
    found = []
    for (owner, wants), members in groups.items():
        first = min(members, key=lambda lane: lane.rank)
        found.append({"owner": owner, "wants": wants, "jobs": sum(lane.jobs for lane in members), "first": first})
    found.sort(key=lambda group: -group["jobs"])
    return [
        {key: value for key, value in group.items() if key != "first"}
        | {"first_waits_s": _first_waits_s(connection, group["first"], now)}
        for group in found[:most]
    ]


def _first_waits_s(connection: Connection, lane: Any, now: datetime) -> float:
    """How long the first in line has waited."""
    here = (jobs.c.requirement_id == lane.requirement_id, jobs.c.owner == lane.owner)
    first = select(jobs.c.created_at).where(IS_QUEUED, *here).order_by(jobs.c.rank).limit(1)
    return float((now - connection.execute(first).scalar_one()).total_seconds())


def _wants(row: Any) -> str:
    if row.place == "slot":
        return "a host to convert on"
    if row.device_id is not None:
        return "one certain device"
    return f"any of {row.selector}" if row.selector else "any device"


def _running(connection: Connection, most: int) -> list[dict[str, Any]]:
    query = (
        select(attempts, jobs.c.title, jobs.c.owner, jobs.c.expected_s, device_rows.c.name.label("device"))
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .outerjoin(device_rows, device_rows.c.id == attempts.c.device_id)
        .where(IS_LIVE)
        .order_by(attempts.c.started_at)
        .limit(most)
    )
    return [
        {
            "job": row.job_id,
            "what": row.title,
            "owner": row.owner,
            "place": row.place if row.device is None else row.device,
            "since": row.started_at,
            "expected_end": row.started_at + timedelta(seconds=row.expected_s),
        }
        for row in connection.execute(query)
    ]


def _failures(connection: Connection, most: int) -> list[dict[str, Any]]:
    """The latest failures, newest first."""
    newest = connection.execute(select(func.max(events.c.id))).scalar() or 0
    query = (
        select(events.c.entity_id, events.c.at, jobs.c.title, jobs.c.failure_code, jobs.c.failure_message)
        .join(jobs, jobs.c.id == events.c.entity_id)
        .where(events.c.id > newest - _LOOK_BACK, events.c.entity == "job", events.c.after == "failed")
        .order_by(events.c.id.desc())
        .limit(most)
    )
    return [
        {
            "job": row.entity_id,
            "what": row.title,
            "code": row.failure_code,
            "why": row.failure_message,
            "at": row.at,
        }
        for row in connection.execute(query)
    ]
