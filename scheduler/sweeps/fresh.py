"""Which cases of a sweep need not be measured again: what is known of them is young, complete and of the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from device_registry.database import one_of
from device_registry.registry import RegisteredDevice
from scheduler.cases import case_of
from scheduler.coverage import cells
from scheduler.ingest import results
from scheduler.plan import PlannedMeasurement
from scheduler.points import points, series
from scheduler.queue import artifacts, sweep_runs
from scheduler.states import jobs, portions
from scheduler.sweeps.matrix import Matrix
from workers.contract import PROTOCOL_VERSION

#: What the environment of a measurement calls as the description of its host, or its device's attributes, do.
_OF_HOST = ("python", "kernel")
_OF_DEVICE = ("build", "os", "security_patch", "kernel", "soc")


@dataclass(frozen=True)
class LatestPoint:
    """The last valid point of a case on one of its devices."""

    point_id: int
    sweep_run_id: int
    device_id: int
    value: float
    at: datetime
    #: Why it does not do, a word or two; None: it does, and the case is not run again.
    stale: str | None


def latest_points(
    connection: Connection,
    matrix: Matrix,
    *,
    stale_after_s: float,
    revision: str | None,
    build: Mapping[str, Any] | None,
    now: datetime,
    sweep: str | None = None,
) -> dict[str, LatestPoint]:
    """The last valid point of each case that has one, by case key, and whether it still does.

    A point does while it is younger than `stale_after_s`, has as many valid processes as are asked for, and stands for
    the same artifact, protocol, and environment as far as that is known before it is measured; and where a revision
    or facts of a build are given, for those. With `sweep` only points of runs of that name are looked at.
    """
    cases = matrix.cases
    wanted = {key: case_of(item.task).key for key, item in cases.items()}
    rows = _points(connection, {d.id for found in matrix.devices.values() for d in found}, set(wanted.values()), sweep)
    sha256 = _artifacts(connection, {item.variant.key for item in cases.values()})
    found: dict[str, LatestPoint] = {}
    environments = _Environments(connection)
    for key, item in cases.items():
        if item.kind != "measure":  # `evaluated` says
            continue
        devices = {device.id: device for device in matrix.devices[key]}
        mine = [row for device_id in devices for row in rows.get((device_id, wanted[key]), ())]
        for row in sorted(mine, key=lambda row: row.id, reverse=True):
            stale = None
            if now - row.at > timedelta(seconds=stale_after_s):
                stale = "too old"
            elif row.artifact_sha256 != sha256.get(item.variant.key):
                stale = "another artifact"
            elif row.repeats < matrix.request.repeats:
                stale = f"{row.repeats} of {matrix.request.repeats} processes"
            elif (revision is not None and row.revision != revision) or (build and row.build != dict(build)):
                stale = "another revision"
            elif changed := environments.changed(row, item, devices[row.device_id]):
                stale = changed
            before = found.get(key)
            if before is None or (before.stale is not None and stale is None):
                found[key] = LatestPoint(row.id, row.sweep_run_id, row.device_id, row.value, row.at, stale)
    return found


def known_unsupported(
    connection: Connection, matrix: Matrix, *, stale_after_s: float, now: datetime, sweep: str | None = None
) -> frozenset[str]:
    """Cases that a run has lately found unsupported on each of their devices, with the artifact that they have now.

    It would find the same again. With `sweep` only runs of that name count.
    """
    cases = matrix.cases
    wanted = {key: case_of(item.task).key for key, item in cases.items()}
    query = (
        select(cells.c.device_id, cells.c.case_key, jobs.c.needs_key)
        .join(jobs, jobs.c.id == cells.c.job_id)
        .where(cells.c.state == "unsupported", cells.c.at > now - timedelta(seconds=stale_after_s))
        .where(one_of(cells.c.device_id, "devices"))
    )
    if sweep is not None:
        query = query.join(sweep_runs, sweep_runs.c.id == cells.c.sweep_run_id).where(sweep_runs.c.sweep == sweep)
    devices = {device.id for found in matrix.devices.values() for device in found}
    known = {tuple(row) for row in connection.execute(query, {"devices": devices})}
    return frozenset(
        key
        for key, item in cases.items()
        if matrix.devices[key]
        and all((device.id, wanted[key], item.variant.key) in known for device in matrix.devices[key])
    )


def _points(
    connection: Connection, devices: Collection[int], cases: Collection[str], sweep: str | None
) -> dict[tuple[int, str], list[Row[Any]]]:
    """The latest valid point of each series of users' runs, by device and case; several where statistics differ."""
    latest: ColumnElement[bool] = series.c.latest_valid_point_id == points.c.id
    if sweep is not None:  # the latest of those runs; there may be later ones of others
        latest = (series.c.id == points.c.series_id) & (points.c.verdict == "valid") & (sweep_runs.c.sweep == sweep)
    found: defaultdict[tuple[int, str], list[Row[Any]]] = defaultdict(list)
    query = (
        select(points, series.c.device_id, series.c.case_key, sweep_runs.c.revision, sweep_runs.c.build)
        .join(sweep_runs, sweep_runs.c.id == points.c.sweep_run_id)
        .join(series, latest)
        .where(series.c.protocol_version == PROTOCOL_VERSION, one_of(series.c.device_id, "devices"))
    )
    for portion in portions(cases):
        rows = connection.execute(query.where(series.c.case_key.in_(portion)), {"devices": devices})
        for row in rows:
            found[row.device_id, row.case_key].append(row)
    return found


def _artifacts(connection: Connection, keys: Collection[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for portion in portions(keys):
        rows = connection.execute(select(artifacts.c.key, artifacts.c.sha256).where(artifacts.c.key.in_(portion)))
        found |= {row.key: row.sha256 for row in rows}
    return found


class _Environments:
    """Environments that points were measured in, against what hosts and devices say of themselves now."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def changed(self, row: Row[Any], item: PlannedMeasurement, device: RegisteredDevice) -> str | None:
        """What is known to be another version than when a point was measured, in words; None: nothing."""
        query = (
            select(results.c.document["environment"])
            .where(results.c.sweep_run_id == row.sweep_run_id, results.c.device_id == device.id)
            .where(results.c.artifact_sha256 == row.artifact_sha256, results.c.stale.is_(False))
            .order_by(results.c.id.desc())
            .limit(1)
        )
        before: Mapping[str, str] = self._connection.execute(query).scalar() or {}
        for name, version in known_now(device, item.task.runtime).items():
            if name in before and before[name] != version:
                return f"{name} {before[name]} -> {version}"
        return None


def known_now(device: RegisteredDevice, runtime: str) -> dict[str, str]:
    """Versions that a measurement on a device would tell of, as far as its host and it say now."""
    host, attributes = device.host_description, device.attributes
    if device.driver == "cpu":
        known = {name: str(version) for name, version in host["environment"].items() if name in _OF_HOST}
        known["os"] = str(attributes.get("os_version"))
    else:
        known = {name: str(attributes[name]) for name in _OF_DEVICE if attributes.get(name) is not None}
    for capability in host["runtimes"]:
        if capability["name"] == runtime:
            known |= capability["versions"]
    return known
