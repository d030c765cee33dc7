"""Series and their points: what the results of a case in one run amount to, kept as the results come in."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, select, update

from device_registry.bulk import insert_rows
from device_registry.database import one_of, table_of
from scheduler.conversions import digest
from scheduler.reports import Told
from scheduler.tables import Artifact, Point, Result, Series
from workers.codec import from_dict
from workers.contract import PROTOCOL_VERSION, MeasureTask

series = table_of(Series)
points = table_of(Point)
_results = table_of(Result)
_artifacts = table_of(Artifact)

#: From best to worst: the verdict of a point none of whose repeats is valid is its worst.
_SEVERITY = ("valid", "not_converged", "unusable", "throttled", "contaminated", "interrupted")

#: A case of a run on a device: (run, case key, device).
_Case = tuple[int, str, int]


def update_points(connection: Connection, taken: Sequence[tuple[Told, Any]], now: datetime) -> None:
    """Points of the cases whose results were just inserted, each from all its repeats so far; and latest valid points.

    Args:
        connection: inside a transaction that writes.
        taken: what was told of measurements, with their rows of attempt and job.
        now: the time.
    """
    if not taken:
        return
    latest = {_case(row): (told.report, row) for told, row in taken}
    series_ids = _series(connection, {case: row for case, (_, row) in latest.items()})
    environments = _Environments(_conversion_versions(connection, {row.needs_key for _, row in latest.values()}))
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for case, repeats in _repeats(connection, latest).items():
        report, row = latest[case]
        value, verdict, counted = point_of(repeats)
        found[series_ids[case], row.sweep_run_id] = {
            "series_id": series_ids[case],
            "sweep_run_id": row.sweep_run_id,
            "value": value,
            "repeats": counted,
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
        its_point = (
            select(points.c.id)
            .where(points.c.series_id == series.c.id, points.c.sweep_run_id == run_id)
            .correlate(series)
            .scalar_subquery()
        )
        # Another repeat of a case changes nothing here.
        new = series.c.latest_valid_point_id.is_distinct_from(its_point)
        here = update(series).where(one_of(connection, series.c.id, ids), new)
        connection.execute(here.values(latest_valid_point_id=its_point))


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


def _case(row: Any) -> _Case:
    return row.sweep_run_id, row.case_key, row.device_id


def _repeats(connection: Connection, cases: Iterable[_Case]) -> dict[_Case, list[tuple[float, str]]]:
    """What counts of each case, (process median, verdict) each."""
    wanted = set(cases)
    by_run: dict[int, set[str]] = {}
    for run_id, case_key, _ in wanted:
        by_run.setdefault(run_id, set()).add(case_key)
    found: dict[_Case, list[tuple[float, str]]] = {}
    for run_id, keys in by_run.items():
        rows = connection.execute(
            select(_results.c.case_key, _results.c.device_id, _results.c.p50_ms, _results.c.verdict).where(
                _results.c.sweep_run_id == run_id,
                one_of(connection, _results.c.case_key, keys),
                _results.c.stale.is_(False),
            )
        )
        for case_key, device_id, p50_ms, verdict in rows.all():
            if (case := (run_id, case_key, device_id)) in wanted:
                found.setdefault(case, []).append((p50_ms, verdict))
    return found


def _identity(device_id: int, payload: str) -> dict[str, Any]:
    return {"device_id": device_id, **_task_identity(payload)}


@lru_cache(maxsize=65_536)
def _series_key(device_id: int, payload: str) -> str:
    return digest(_identity(device_id, payload))


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
        "statistic": "median of process medians",
        "unit": "ms",
        "protocol_version": PROTOCOL_VERSION,
    }


def _series(connection: Connection, rows: dict[_Case, Any]) -> dict[_Case, int]:
    """The series of each case, made where there is none yet."""
    keys = {case: _series_key(row.device_id, row.payload_text) for case, row in rows.items()}
    query = select(series.c.key, series.c.id).where(one_of(connection, series.c.key, set(keys.values())))
    known = {key: int(series_id) for key, series_id in connection.execute(query).all()}
    missing = {
        key: {"key": key, **_identity(rows[case].device_id, rows[case].payload_text)}
        for case, key in keys.items()
        if key not in known
    }
    if missing:
        made = connection.execute(series.insert().returning(series.c.key, series.c.id), list(missing.values()))
        known.update((key, series_id) for key, series_id in made.all())
    return {case: known[key] for case, key in keys.items()}


def _conversion_versions(connection: Connection, keys: set[str | None]) -> dict[str, Any]:
    wanted = [key for key in keys if key is not None]
    query = select(_artifacts.c.key, _artifacts.c.provenance).where(one_of(connection, _artifacts.c.key, wanted))
    return {row.key: row.provenance["versions"] for row in connection.execute(query)}


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
