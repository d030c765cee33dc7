"""Series and their points: what the results of a case in one run amount to, kept as the results come in."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Text, bindparam, cast, func, select, update

from device_registry.bulk import insert_rows
from device_registry.database import one_of, table_of
from scheduler.conversions import digest
from scheduler.reports import Told
from scheduler.states import jobs
from scheduler.tables import Artifact, Point, Result, Series
from workers.codec import from_dict
from workers.contract import PROTOCOL_VERSION, MeasureTask
from workers.report import Report

series = table_of(Series)
points = table_of(Point)
_results = table_of(Result)
_artifacts = table_of(Artifact)

#: From best to worst: the verdict of a point none of whose repeats is valid is its worst.
_SEVERITY = ("valid", "not_converged", "unusable", "throttled", "contaminated", "interrupted")

_ITS_POINT = (
    select(points.c.id)
    .where(points.c.series_id == series.c.id, points.c.sweep_run_id == bindparam("run_id"))
    .correlate(series)
    .scalar_subquery()
)
#: Another repeat of a case changes nothing here.
_SET_LATEST: Final = (
    update(series)
    .where(one_of(series.c.id, "ids"), series.c.latest_valid_point_id.is_distinct_from(_ITS_POINT))
    .values(latest_valid_point_id=_ITS_POINT)
)
#: The medians as text; empty where there is a point that has none. A join would have PostgreSQL read whole tables.
_ITS_MEDIANS = (
    select(func.coalesce(cast(points.c.process_medians, Text), ""))
    .where(points.c.series_id == series.c.id, points.c.sweep_run_id == bindparam("run_id"))
    .correlate(series)
    .scalar_subquery()
)
_KNOWN: Final = select(series.c.key, series.c.id, _ITS_MEDIANS).where(one_of(series.c.key, "keys"))
_PROVENANCE: Final = select(_artifacts.c.key, _artifacts.c.provenance).where(one_of(_artifacts.c.key, "keys"))
#: Where a report says what its times are of.
_OF_INVOCATIONS = ("result", "measurement", "timings", "of_invocations")

#: A case of a run on a device: (run, case key, device), and the statistic that a tool printed of its invocations.
_Case = tuple[int, str, int, str | None]


def update_points(connection: Connection, taken: Sequence[tuple[Told, Any]], now: datetime) -> None:
    """Points of the cases whose results were just inserted, each from all its repeats so far; and latest valid points.

    Args:
        connection: inside a transaction that writes.
        taken: what was told of measurements, with their rows of attempt and job.
        now: the time.
    """
    if not taken:
        return
    latest = {_case(told.report, row): (told.report, row) for told, row in taken}
    known = _known(connection, latest)
    repeats = _repeats(connection, taken, known)
    environments = _Environments(_conversion_versions(connection, {row.needs_key for _, row in latest.values()}))
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for case, (report, row) in latest.items():
        series_id = known[case].series_id
        value, verdict, counted = point_of(repeats[case])
        found[series_id, row.sweep_run_id] = {
            "series_id": series_id,
            "sweep_run_id": row.sweep_run_id,
            "value": value,
            "repeats": counted,
            "process_medians": json.dumps(repeats[case]),
            "verdict": verdict,
            "artifact_sha256": report.artifact_sha256,
            "environment_digest": environments.digest(report.environment, row.needs_key),
        }
    insert_rows(connection, points, list(found.values()), key=("series_id", "sweep_run_id"), at=now)
    valid: dict[int, list[int]] = {}
    for (series_id, run_id), point in found.items():
        if point["verdict"] == "valid":
            valid.setdefault(run_id, []).append(series_id)
    for run_id, ids in sorted(valid.items()):
        connection.execute(_SET_LATEST, {"ids": ids, "run_id": run_id})


def point_of(repeats: list[tuple[float, str]]) -> tuple[float, str, int]:
    """Median over the valid repeats, or over all where none is valid; the verdict; how many counted.

    Args:
        repeats: (process median, verdict) of each repeat, at least one.
    """
    valid = [value for value, verdict in repeats if verdict == "valid"]
    if valid:
        return statistics.median(valid), "valid", len(valid)
    worst = max((verdict for _, verdict in repeats), key=_SEVERITY.index)
    return statistics.median(value for value, _ in repeats), worst, len(repeats)


def _case(report: Report, row: Any) -> _Case:
    assert report.result.measurement is not None
    return row.sweep_run_id, row.case_key, row.device_id, report.result.measurement.timings.of_invocations


class _Known(NamedTuple):
    """What there is of a case before its new results."""

    series_id: int
    #: Process medians of its point in this run, as text; None: it has none yet; empty: an older benchfarm kept none.
    medians: str | None = None


def _repeats(
    connection: Connection, taken: Sequence[tuple[Told, Any]], known: Mapping[_Case, _Known]
) -> dict[_Case, list[tuple[float, str]]]:
    """What counts of each case, (process median, verdict) each."""
    unkept = {case for case, before in known.items() if before.medians == ""}
    found: dict[_Case, list[tuple[float, str]]] = _from_results(connection, unkept) if unkept else {}
    for told, row in taken:
        case = _case(told.report, row)
        if case in unkept:
            continue
        if case not in found:
            found[case] = json.loads(known[case].medians or "[]")
        measurement, judgement = told.report.result.measurement, told.report.judgement
        assert measurement is not None
        assert judgement is not None  # or it were no success
        found[case].append((measurement.timings.p50_ms, judgement.verdict))
    return found


def _from_results(connection: Connection, cases: Set[_Case]) -> dict[_Case, list[tuple[float, str]]]:
    """The same from the results themselves, the new ones included."""
    columns = (
        _results.c.sweep_run_id,
        _results.c.case_key,
        _results.c.device_id,
        _results.c.document[_OF_INVOCATIONS].as_string(),
        _results.c.p50_ms,
        _results.c.verdict,
    )
    rows = connection.execute(
        select(*columns)
        .join(jobs, jobs.c.id == _results.c.job_id)
        .where(
            jobs.c.sweep_run_id.in_({case[0] for case in cases}),
            one_of(jobs.c.case_key, {case[1] for case in cases}),
            _results.c.stale.is_(False),
        )
        .order_by(_results.c.id)
    )
    found: dict[_Case, list[tuple[float, str]]] = {}
    for *case, p50_ms, verdict in rows.all():
        found.setdefault((case[0], case[1], case[2], case[3]), []).append((p50_ms, verdict))
    return {case: repeats for case, repeats in found.items() if case in cases}


def _identity(device_id: int, payload: str, of_invocations: str | None) -> dict[str, Any]:
    of_what = f" of invocation {of_invocations}s" if of_invocations is not None else ""
    statistic = f"median of process medians{of_what}"
    return {"device_id": device_id, **_task_identity(payload), "statistic": statistic}


@lru_cache(maxsize=65_536)
def _series_key(device_id: int, payload: str, of_invocations: str | None) -> str:
    return digest(_identity(device_id, payload, of_invocations))


def _parts(told: tuple[Report, Any]) -> tuple[int, str, str | None]:
    """What the series of a report follows from: device, payload, and the statistic that a tool printed."""
    report, row = told
    assert report.result.measurement is not None
    return row.device_id, row.payload_text, report.result.measurement.timings.of_invocations


@lru_cache(maxsize=4096)
def _task_identity(payload: str) -> dict[str, Any]:
    """What of a task makes a series; kept, for a sweep has few tasks and many jobs."""
    task = from_dict(MeasureTask, json.loads(payload)["measure"])
    return {
        "model": task.model,
        "format": task.format,
        "recipe": task.recipe,
        "runtime": task.runtime,
        "options": {**task.options.identity(), "weights": task.weights},
        "metric": "latency",
        "unit": "ms",
        "protocol_version": PROTOCOL_VERSION,
    }


def _known(connection: Connection, told: Mapping[_Case, tuple[Report, Any]]) -> dict[_Case, _Known]:
    """The series of each case, made where there is none yet, and its point of the case's run."""
    keys = {case: _series_key(*_parts(one)) for case, one in told.items()}
    found: dict[tuple[str, int], _Known] = {}
    for run_id in sorted({case[0] for case in told}):
        wanted = {key for case, key in keys.items() if case[0] == run_id}
        for key, series_id, medians in connection.execute(_KNOWN, {"keys": wanted, "run_id": run_id}).all():
            found[key, run_id] = _Known(series_id, medians)
    missing = {
        key: {"key": key, **_identity(*_parts(told[case]))} for case, key in keys.items() if (key, case[0]) not in found
    }
    if missing:
        made = connection.execute(series.insert().returning(series.c.key, series.c.id), list(missing.values()))
        fresh = {key: _Known(series_id) for key, series_id in made.all()}
        found |= {(key, case[0]): fresh[key] for case, key in keys.items() if (key, case[0]) not in found}
    return {case: found[key, case[0]] for case, key in keys.items()}


def _conversion_versions(connection: Connection, keys: set[str | None]) -> dict[str, Any]:
    wanted = [key for key in keys if key is not None]
    return {row.key: row.provenance["versions"] for row in connection.execute(_PROVENANCE, {"keys": wanted})}


class _Environments:
    """Fingerprints of conversion and run environment; twins and repeats share theirs."""

    def __init__(self, versions: dict[str, Any]) -> None:
        self._versions = versions
        self._known: dict[Any, str] = {}

    def digest(self, environment: dict[str, str], needs_key: str | None) -> str:
        seen = (needs_key, *environment.items())
        if (known := self._known.get(seen)) is None:
            versions = self._versions.get(needs_key) if needs_key is not None else None
            known = self._known[seen] = digest([environment, versions])
        return known
