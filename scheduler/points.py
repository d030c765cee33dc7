"""Series and their points: what the results of a case in one run amount to, kept as the results come in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Text, bindparam, cast, exists, select, update

from device_registry.bulk import insert_rows
from device_registry.database import one_of, table_of
from scheduler import coverage
from scheduler.cases import case_of, shared_options_text, task_of
from scheduler.conversions import digest
from scheduler.repeats import columns_of, read_repeats, repeat_of
from scheduler.reports import Told
from scheduler.states import jobs
from scheduler.tables import Artifact, Point, Series
from workers.contract import PROTOCOL_VERSION
from workers.report import Report

series = table_of(Series)
points = table_of(Point)
_artifacts = table_of(Artifact)

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
#: What is kept of the repeats of its point, as text. A join would have PostgreSQL read whole tables.
_ITS_REPEATS = (
    select(cast(points.c.process_medians, Text))
    .where(points.c.series_id == series.c.id, points.c.sweep_run_id == bindparam("run_id"))
    .correlate(series)
    .scalar_subquery()
)
#: Whether its cell says already, and of this run, that it is valid: the repeats that follow need not say so again.
_CELL_STANDS = (
    exists()
    .where(
        coverage.cells.c.device_id == series.c.device_id,
        coverage.cells.c.case_key == series.c.case_key,
        coverage.cells.c.sweep_run_id == bindparam("run_id"),
        coverage.cells.c.state == "valid",
    )
    .correlate(series)
)
_KNOWN: Final = select(series.c.key, series.c.id, _ITS_REPEATS, _CELL_STANDS).where(one_of(series.c.key, "keys"))
_MADE: Final = select(_artifacts.c.key, _artifacts.c.bytes, _artifacts.c.provenance).where(
    one_of(_artifacts.c.key, "keys")
)
_CONVERTED: Final = select(jobs.c.makes_key).where(one_of(jobs.c.makes_key, "keys"), jobs.c.needs_key.is_not(None))

#: A case of a run on a device: (run, case key, device), and the statistic that a tool printed of its invocations.
_Case = tuple[int, str, int, str | None]


def update_points(connection: Connection, taken: Sequence[tuple[Told, Any]], now: datetime) -> None:
    """Points of the cases whose results were just inserted, each from all its repeats so far; latest points and cells.

    Canaries make none: they tell whether a device that was put aside is well, and are no answer to any user. Nor do
    trials, whose processes are compared with each other alone.

    Args:
        connection: inside a transaction that writes.
        taken: what was told of measurements, with their rows of attempt and job.
        now: the time.
    """
    told_of: dict[_Case, list[tuple[Told, Any]]] = {}
    for told, row in taken:
        if not row.canary and row.side is None:
            told_of.setdefault(_case(told.report, row), []).append((told, row))
    if not told_of:
        return
    latest = {case: (told[-1][0].report, told[-1][1]) for case, told in told_of.items()}
    known = _known(connection, latest)
    made = _made(connection, {row.needs_key for _, row in latest.values()})
    environments = _Environments(made)
    found: dict[tuple[int, int], dict[str, Any]] = {}
    cells = coverage.Cells()
    for case, (report, row) in latest.items():
        before = known[case]
        repeats, text = _with(before.repeats, told_of[case])
        artifact = made.get(row.needs_key)
        point = columns_of(repeats)
        point["series_id"] = before.series_id
        point["sweep_run_id"] = row.sweep_run_id
        point["process_medians"] = text
        point["artifact_sha256"] = report.artifact_sha256
        point["artifact_bytes"] = artifact.bytes if artifact is not None else None
        point["environment_digest"] = environments.digest(report.environment, row.needs_key)
        found[before.series_id, row.sweep_run_id] = point
        if not (before.cell_stands and point["verdict"] == "valid"):
            cells.measured(report, row, before.series_id, point["verdict"])
    insert_rows(connection, points, list(found.values()), key=("series_id", "sweep_run_id"), at=now)
    valid: dict[int, list[int]] = {}
    for (series_id, run_id), point in found.items():
        if point["verdict"] == "valid":
            valid.setdefault(run_id, []).append(series_id)
    for run_id, ids in sorted(valid.items()):
        connection.execute(_SET_LATEST, {"ids": ids, "run_id": run_id})
    cells.write(connection, now)


def _case(report: Report, row: Any) -> _Case:
    assert report.result.measurement is not None
    return row.sweep_run_id, row.case_key, row.device_id, report.result.measurement.timings.of_invocations


class _Known(NamedTuple):
    """What there is of a case before its new results."""

    series_id: int
    #: The repeats of its point in this run, as text; None: it has none yet.
    repeats: str | None = None
    cell_stands: bool = False


_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _with(kept: str | None, told: Sequence[tuple[Told, Any]]) -> tuple[list[Sequence[Any]], str]:
    """All repeats of a case so far, and their text, which only grows: what was kept is not written anew."""
    new: list[Sequence[Any]] = [repeat_of(one.report, one.telemetry, task_of(row.payload_text)) for one, row in told]
    text = _json(new)
    return (new, text) if kept is None else ([*read_repeats(kept), *new], f"{kept[:-1]},{text[1:]}")


def _identity(device_id: int, payload: str, of_invocations: str | None) -> dict[str, Any]:
    of_what = f" of invocation {of_invocations}s" if of_invocations is not None else ""
    statistic = f"median of process medians{of_what}"
    return {"device_id": device_id, **_task_identity(payload), "statistic": statistic}


@lru_cache(maxsize=65_536)
def series_key(device_id: int, payload: str, of_invocations: str | None) -> str:
    """Key of the series of what a payload asks for on a device, and of the statistic that a tool prints."""
    return digest(_identity(device_id, payload, of_invocations))


def _parts(told: tuple[Report, Any]) -> tuple[int, str, str | None]:
    """What the series of a report follows from: device, payload, and the statistic that a tool printed."""
    report, row = told
    assert report.result.measurement is not None
    return row.device_id, row.payload_text, report.result.measurement.timings.of_invocations


@lru_cache(maxsize=4096)
def _task_identity(payload: str) -> dict[str, Any]:
    """What of a task makes a series; kept, for a sweep has few tasks and many jobs."""
    task = task_of(payload)
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
    keys = {case: series_key(*_parts(one)) for case, one in told.items()}
    found: dict[tuple[str, int], _Known] = {}
    for run_id in sorted({case[0] for case in told}):
        wanted = {key for case, key in keys.items() if case[0] == run_id}
        for key, *before in connection.execute(_KNOWN, {"keys": wanted, "run_id": run_id}).all():
            found[key, run_id] = _Known(*before)
    new = {key: told[case] for case, key in keys.items() if (key, case[0]) not in found}
    if new:
        converted = set(connection.execute(_CONVERTED, {"keys": {row.needs_key for _, row in new.values()}}).scalars())
        missing = {
            key: {"key": key, **_identity(*_parts(one)), **_columns(one[1], one[1].needs_key not in converted)}
            for key, one in new.items()
        }
        made = connection.execute(series.insert().returning(series.c.key, series.c.id), list(missing.values()))
        fresh = {key: _Known(series_id) for key, series_id in made.all()}
        found |= {(key, case[0]): fresh[key] for case, key in keys.items() if (key, case[0]) not in found}
    return {case: found[key, case[0]] for case, key in keys.items()}


def _columns(row: Any, unconverted: bool) -> dict[str, Any]:
    """What of its identity a series has as columns, too."""
    task = task_of(row.payload_text)
    case = case_of(task)
    named = {name: getattr(case, name) for name in ("weights", "threads", "batch", "mode", "options_text")}
    shared = shared_options_text(task.options)
    return {
        **named,
        "case_key": case.key,
        "shared_options_text": shared,
        "plain": not task.options.runtime_options,
        "unconverted": unconverted,
    }


@dataclass(frozen=True)
class _Artifact:
    """What a point tells of its artifact."""

    bytes: int
    versions: Any


def _made(connection: Connection, keys: set[str | None]) -> dict[str | None, _Artifact]:
    rows = connection.execute(_MADE, {"keys": [key for key in keys if key is not None]})
    return {row.key: _Artifact(row.bytes, row.provenance["versions"]) for row in rows}


class _Environments:
    """Fingerprints of conversion and run environment; twins and repeats share theirs."""

    def __init__(self, made: Mapping[str | None, _Artifact]) -> None:
        self._made = made
        self._known: dict[Any, str] = {}

    def digest(self, environment: dict[str, str], needs_key: str | None) -> str:
        seen = (needs_key, *environment.items())
        if (known := self._known.get(seen)) is None:
            artifact = self._made.get(needs_key)
            known = self._known[seen] = digest([environment, artifact.versions if artifact is not None else None])
        return known
