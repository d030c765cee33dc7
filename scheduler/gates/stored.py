"""`run:N` and `revision:REV`: results that are stored, compared as they stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, func, select

from device_registry.database import one_of
from device_registry.errors import UsageError
from device_registry.registry import devices, label_of
from scheduler.coverage import cells
from scheduler.gates.case import Answer, Evidence, Side, Unpaired, What
from scheduler.gates.references import Reference
from scheduler.ingest import results
from scheduler.matrix import matching_devices
from scheduler.points import points, series
from scheduler.queue import sweep_runs
from scheduler.repeats import Repeat

#: Of a commit, as git's own short names.
_LEAST_PREFIX = 7
_KEPT = Repeat._fields


class _Point(NamedTuple):
    """A valid point, or why there is none."""

    row: Row[Any]
    valid: bool


def stored_evidence(
    connection: Connection,
    baseline: Reference,
    candidate: Reference,
    *,
    selector: str = "",
    runtimes: Sequence[str] = (),
    recipes: Sequence[str] = (),
    noise_floors: Callable[[Connection, Sequence[int]], Mapping[int, float]] = lambda _connection, _series: {},
) -> tuple[list[Evidence], list[Unpaired]]:
    """Cases that the baseline has a valid point of, with what the candidate has of them.

    Args:
        connection: to read from.
        baseline: stored results.
        candidate: stored results.
        selector: of devices; empty: all.
        runtimes: only of these; none: all.
        recipes: likewise.
        noise_floors: what A/A runs taught of series.

    Raises:
        UsageError: no such results, none of them valid, or no case in common.
    """
    if baseline == candidate:
        raise UsageError(f"{baseline} would be compared with itself")
    chosen = matching_devices(connection, selector)
    narrowed: list[ColumnElement[bool]] = [series.c.runtime.in_(runtimes)] if runtimes else []
    narrowed += [series.c.recipe.in_(recipes)] if recipes else []
    narrowed += [one_of(series.c.device_id, set(chosen))] if chosen is not None else []
    before = _points(connection, baseline, narrowed)
    after = _points(connection, candidate, narrowed)
    for reference, found in ((baseline, before), (candidate, after)):
        _refuse_nothing(found, reference, narrowed=bool(narrowed))
    floors = noise_floors(connection, sorted(before))
    made = [
        _evidence(connection, before[key], after.get(key), candidate, floors.get(key))
        for key in before
        if before[key].valid
    ]
    if not any(one.candidate is not None for one in made):
        raise UsageError(f"{baseline} and {candidate} have no case in common on any device")
    only = [
        Unpaired(
            side="baseline",
            runtime=point.row.runtime,
            recipe=point.row.recipe,
            device=point.row.device,
            why=f"{baseline} has no valid point of it",
        )
        for key, point in after.items()
        if point.valid and not (key in before and before[key].valid)
    ]
    return made, only


def _runs_of(connection: Connection, reference: Reference) -> list[int]:
    """Runs that results are looked for in.

    Raises:
        UsageError: there is none.
    """
    mine = select(sweep_runs.c.id, sweep_runs.c.revision, sweep_runs.c.purpose)
    if reference.kind == "run":
        row = connection.execute(mine.where(sweep_runs.c.id == int(reference.name))).first()
        if row is None:
            raise UsageError(f"no run {reference.name}: it was deleted or never was; see benchfarm results list")
        if row.purpose is not None:
            raise UsageError(f"run {reference.name} is the farm's own ({row.purpose}): it has no points to compare")
        return [row.id]
    users = mine.where(sweep_runs.c.purpose.is_(None), sweep_runs.c.revision.is_not(None))
    rows = connection.execute(users.where(sweep_runs.c.revision == reference.name)).all()
    if not rows and len(reference.name) >= _LEAST_PREFIX:
        prefix = func.substr(sweep_runs.c.revision, 1, len(reference.name)) == reference.name
        rows = connection.execute(users.where(prefix)).all()
        if len(named := sorted({row.revision for row in rows})) > 1:
            raise UsageError(f"{reference} is the beginning of {len(named)} revisions: {', '.join(named[:3])}")
    if not rows:
        raise UsageError(f"nothing was measured of {reference}; benchfarm sweep run --revision says what is")
    return [row.id for row in rows]


def _points(connection: Connection, reference: Reference, narrowed: Sequence[Any]) -> dict[int, _Point]:
    """By series the latest valid point, else the latest."""
    query = (
        select(
            points,
            series.c.device_id,
            series.c.case_key,
            series.c.model,
            series.c.format,
            series.c.recipe,
            series.c.runtime,
            series.c.threads,
            series.c.batch,
            series.c.mode,
            series.c.options_text,
            devices.c.name.label("device"),
            devices.c.attributes,
            sweep_runs.c.revision,
        )
        .join(series, series.c.id == points.c.series_id)
        .join(devices, devices.c.id == series.c.device_id)
        .join(sweep_runs, sweep_runs.c.id == points.c.sweep_run_id)
        .where(one_of(points.c.sweep_run_id, set(_runs_of(connection, reference))), *narrowed)
        .order_by(series.c.model, series.c.runtime, series.c.recipe, devices.c.name, points.c.at, points.c.id)
    )
    found: dict[int, _Point] = {}
    for row in connection.execute(query):
        point = _Point(row, row.verdict == "valid")
        if point.valid or not (row.series_id in found and found[row.series_id].valid):
            found[row.series_id] = point
    return found


def _refuse_nothing(found: Mapping[int, _Point], reference: Reference, *, narrowed: bool) -> None:
    if any(point.valid for point in found.values()):
        return
    fits = " that fits these options" if narrowed else ""
    if not found:
        raise UsageError(f"{reference} has no point{fits}: nothing of it was measured")
    verdicts = ", ".join(sorted({point.row.verdict for point in found.values()}))
    raise UsageError(f"{reference} has no valid point{fits}: {verdicts}")


def _evidence(
    connection: Connection, before: _Point, after: _Point | None, candidate: Reference, floor: float | None
) -> Evidence:
    row = before.row
    settled = None if after is not None and after.valid else _settled(connection, row, after, candidate)
    baseline, other = _side(row), None if after is None else _side(after.row)
    if after is not None and row.environment_digest != after.row.environment_digest:
        baseline, other = (
            _with_environment(connection, baseline, row),
            _with_environment(connection, _side(after.row), after.row),
        )
    return Evidence(what=_what(row), baseline=baseline, candidate=other, noise_floor=floor, settled=settled)


def _what(row: Row[Any]) -> What:
    words = [f"threads={row.threads}"] if row.threads != 1 else []
    words += [f"batch={row.batch}"] if row.batch != 1 else []
    words += [row.mode] if row.mode != "burst" else []
    return What(
        model=row.model,
        runtime=row.runtime,
        format=row.format,
        recipe=row.recipe,
        options=" ".join([*words, *([row.options_text] if row.options_text else [])]),
        device=label_of(row.device, row.attributes),
        simulated=row.attributes.get("simulated") is True,
    )


def _side(row: Row[Any]) -> Side:
    kept = [dict(zip(_KEPT, repeat, strict=False)) for repeat in row.process_medians]
    invalid = [str(repeat["verdict"]) for repeat in kept if repeat["verdict"] != "valid"]
    interval = (row.value_ci_low, row.value_ci_high)
    return Side(
        model=row.model,
        values_ms=tuple(float(repeat["p50_ms"]) for repeat in kept if repeat["verdict"] == "valid"),
        invalid={verdict: invalid.count(verdict) for verdict in sorted(set(invalid))},
        p50_ms=row.value,
        p50_ci_ms=None if None in interval else interval,
        snr_db=row.snr_db,
        top1_agreement=row.top1_agreement,
        peak_rss_bytes=row.peak_rss_bytes,
        artifact_bytes=row.artifact_bytes,
        artifact_sha256=row.artifact_sha256,
        energy_per_inference_mj=row.energy_per_inference_mj,
        flags=tuple(flag for flag in row.flags.split(", ") if flag),
        run=row.sweep_run_id,
        revision=row.revision,
    )


def _with_environment(connection: Connection, side: Side, row: Row[Any]) -> Side:
    """With the environment of one of its processes: read only where it differs, for documents are long."""
    query = (
        select(results.c.document)
        .where(
            results.c.sweep_run_id == row.sweep_run_id,
            results.c.device_id == row.device_id,
            results.c.artifact_sha256 == row.artifact_sha256,
            results.c.stale.is_(False),
        )
        .order_by(results.c.id.desc())
        .limit(1)
    )
    document = connection.execute(query).scalar()
    environment = {} if document is None else document["environment"]
    return replace(side, environment={str(name): str(value) for name, value in environment.items()})


def _settled(connection: Connection, row: Row[Any], after: _Point | None, candidate: Reference) -> tuple[Answer, str]:
    """Why the candidate has no valid point of a case that the baseline has one of."""
    if after is not None:
        return "inconclusive", f"the candidate's processes were judged {after.row.verdict}"
    # What became last of the case there; should it have been tried again since, nobody knows any more.
    of_it = (cells.c.device_id == row.device_id, cells.c.case_key == row.case_key)
    there = one_of(cells.c.sweep_run_id, set(_runs_of(connection, candidate)))
    cell = connection.execute(select(cells.c.state, cells.c.why).where(*of_it, there)).first()
    if cell is not None and cell.state == "unsupported":
        return "lost", f"unsupported, where the baseline runs: {cell.why}"
    if cell is not None and cell.state == "failed":
        return "failed", f"the candidate failed: {cell.why}"
    return "missing", f"{candidate} has no point of it"
