"""What the processes of a trial are told: what a job was told that ran before."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from device_registry.database import one_of
from device_registry.errors import UsageError
from scheduler.ingest import results
from scheduler.payloads import payload_text, payloads
from scheduler.points import points, series, series_key
from scheduler.states import jobs

_OF_INVOCATIONS = "median of process medians of invocation {}s"


@dataclass(frozen=True, kw_only=True)
class Template:
    """What a process runs, on whichever device."""

    payload_id: int
    #: Key of its artifact.
    needs_key: str
    case_key: str
    duration_key: str | None
    expected_s: float


def template_of(connection: Connection, job_id: int) -> Template:
    """What a measure job ran.

    Raises:
        UsageError: there is no such job, or it measured nothing.
    """
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
    if row is None or row.kind != "measure" or row.needs_key is None:
        raise UsageError(f"job {job_id} " + ("does not exist" if row is None else "measures nothing"))
    return Template(
        payload_id=row.payload_id,
        needs_key=row.needs_key,
        case_key=row.case_key,
        duration_key=row.duration_key,
        expected_s=row.expected_s,
    )


def template_job(connection: Connection, point_id: int) -> int:
    """The job that a point came of: of its repeats the last, a valid one if there is one.

    Raises:
        UsageError: there is no such point, or what it came of is not known any more.
    """
    found = template_jobs(connection, [point_id])
    if point_id not in found:
        raise UsageError(f"what point {point_id} came of is not known any more")
    return found[point_id]


def template_jobs(connection: Connection, point_ids: Collection[int]) -> dict[int, int]:
    """`template_job` of each of these points that is known."""
    wanted = (
        select(points.c.id, points.c.sweep_run_id, series.c.device_id, series.c.key, series.c.statistic)
        .join(series, series.c.id == points.c.series_id)
        .where(one_of(points.c.id, point_ids))
    )
    of_run: dict[int, list[Any]] = {}
    for row in connection.execute(wanted):
        of_run.setdefault(row.sweep_run_id, []).append(row)
    found: dict[int, int] = {}
    for run_id, of_it in of_run.items():
        ran = _ran(connection, run_id, {point.device_id for point in of_it})
        for point in of_it:
            of_invocations = _of_invocations(point.statistic)
            mine = [
                (bool(one.valid), one.id)
                for one in ran.get(point.device_id, ())
                if series_key(point.device_id, one.payload_text, of_invocations) == point.key
            ]
            if mine:
                found[point.id] = max(mine)[1]
    return found


def _ran(connection: Connection, run_id: int, device_ids: set[int]) -> dict[int, list[Row[Any]]]:
    """Of each payload that a run measured on these devices the last job, valid and not; by device."""
    valid = (results.c.verdict == "valid").label("valid")
    last = (
        select(func.max(jobs.c.id).label("id"), valid, results.c.device_id, jobs.c.payload_id)
        .join(jobs, jobs.c.id == results.c.job_id)
        .where(
            results.c.sweep_run_id == run_id,
            one_of(results.c.device_id, device_ids),
            results.c.stale.is_(False),
            jobs.c.side.is_(None),
        )
        .group_by(valid, results.c.device_id, jobs.c.payload_id)
        .subquery()
    )
    rows = select(last.c.id, last.c.valid, last.c.device_id, payload_text()).join(
        payloads, payloads.c.id == last.c.payload_id
    )
    found: dict[int, list[Row[Any]]] = {}
    for row in connection.execute(rows):
        found.setdefault(row.device_id, []).append(row)
    return found


def _of_invocations(statistic: str) -> str | None:
    """What a tool printed of its invocations, as the name of a series' statistic says."""
    return next((name for name in ("median", "mean") if statistic == _OF_INVOCATIONS.format(name)), None)
