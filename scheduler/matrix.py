"""Variants x devices from the views: each model with its cells, one model after another."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from sqlalchemy import Connection, func, select

from device_registry.database import one_of, table_of
from device_registry.errors import UsageError
from device_registry.registry import devices, hosts, label_of, list_devices
from device_registry.selectors import parse_selector
from scheduler.cells import CASE, COVERAGE, LATEST, Floor, Row, Wanted, cell_of, cells, own_options
from scheduler.coverage import cells as cell_rows
from scheduler.evaluations import latest_accuracies
from scheduler.points import points, series
from scheduler.views import view_of
from scheduler.watch_tables import NoiseFloor

noise_floors = table_of(NoiseFloor)


def matrix_models(connection: Connection, models: Collection[str]) -> list[str]:
    """The models that a comparison is of, in order of their names.

    Args:
        connection: to read from.
        models: what was named; none: all.

    Raises:
        UsageError: nothing was measured yet, or a model that was named was not.
    """
    # Of the tables: what `coverage` finds missing is found for every device, which here would only cost time.
    known = set(connection.execute(select(series.c.model).distinct()).scalars())
    known |= set(connection.execute(select(cell_rows.c.model).distinct()).scalars())
    if not known:
        raise UsageError("nothing was measured yet: benchfarm run MODEL measures")
    for model in models:
        if model not in known:
            tails = {name.rpartition("/")[2]: name for name in known}
            close = get_close_matches(model, known, n=3) or [tails[t] for t in get_close_matches(model, tails, n=3)]
            hint = f"did you mean {', '.join(close)}?" if close else f"measured are {_some(sorted(known))}"
            raise UsageError(f"no result of a model {model!r}: {hint}")
    return sorted(set(models)) if models else sorted(known)


def matching_devices(connection: Connection, selector: str) -> list[int] | None:
    """Ids of the devices that a selector matches; None where it names none, which are all.

    Raises:
        UsageError: it cannot be read, or matches nothing.
    """
    parsed = parse_selector(selector)
    if not parsed.terms:
        return None
    found = [device.id for device in list_devices(connection, parsed)]
    if not found:
        raise UsageError(f"no device matches {selector!r}; see benchfarm devices list")
    return found


def matrix(connection: Connection, wanted: Wanted, now: datetime) -> Iterator[tuple[str, list[Row]]]:
    """Each model with its cells, one model after another: all cells of a large farm are not held at once.

    Args:
        connection: to read from.
        wanted: what to compare.
        now: the time.

    Raises:
        UsageError: something named is not there.
    """
    device_ids = matching_devices(connection, wanted.selector)
    namesakes = _namesakes(connection)
    for model in matrix_models(connection, wanted.models):
        latest = _read(connection, "latest_result", LATEST, model, device_ids)
        coverage = _read(connection, "coverage", COVERAGE, model, device_ids)
        baselines = _baselines(connection, model, device_ids) if wanted.baseline is None else {}
        invalid = _invalid(connection, model, device_ids)
        shown = [row["point_id"] for row in (*latest, *(invalid if wanted.invalid else ()))]
        processes, floors = _processes(connection, shown), _floors(connection, shown)
        rows = cells(latest, coverage, baselines, processes, wanted, now, invalid, floors)
        accuracies = latest_accuracies(connection, {row["artifact_sha256"] for row in rows})
        for row in rows:
            own = own_options(row)
            row["accuracy"] = accuracies.get((row["device_id"], row["artifact_sha256"], row["runtime"], own))
            if row["device_id"] in namesakes:
                row["device_label"] = label_of(namesakes[row["device_id"]], {"simulated": row["simulated"]})
        if rows:
            yield model, rows


def _namesakes(connection: Connection) -> dict[int, str]:
    """Devices that are called like others, told apart by their host's name, or else by their number."""
    shared = select(devices.c.name).group_by(devices.c.name).having(func.count() > 1)
    query = select(devices.c.id, devices.c.name, hosts.c.name.label("host")).join(
        hosts, hosts.c.id == devices.c.host_id
    )
    rows = connection.execute(query.where(devices.c.name.in_(shared))).all()
    still = Counter((row.name, row.host) for row in rows)
    return {
        row.id: f"{row.name}@{row.host}" if still[row.name, row.host] == 1 else f"{row.name}#{row.id}" for row in rows
    }


def _read(
    connection: Connection, view: str, columns: Sequence[str], model: str, device_ids: list[int] | None
) -> list[Mapping[str, Any]]:
    table = view_of(view)
    query = select(*(table.c[name] for name in columns)).where(table.c.model == model)
    if device_ids is not None:
        query = query.where(one_of(table.c.device_id, device_ids))
    return [dict(row) for row in connection.execute(query).mappings()]


def _invalid(connection: Connection, model: str, device_ids: list[int] | None) -> list[Mapping[str, Any]]:
    """What was measured last of cells that are invalid, in the columns of `latest_result`."""
    known = {
        **{name: cell_rows.c[name] for name in ("device_id", "model", *CASE)},
        "device": devices.c.name,
        "device_kind": devices.c.kind,
        "host": hosts.c.name,
        "statistic": series.c.statistic,
        "unconverted": series.c.unconverted,
        "protocol_version": series.c.protocol_version,
        "point_id": points.c.id,
        "p50_ms": points.c.value,
        "p50_ci_low_ms": points.c.value_ci_low,
        "p50_ci_high_ms": points.c.value_ci_high,
        "processes": points.c.repeats,
    }
    of_point = [points.c[name] for name in LATEST if name not in known and name in points.c]
    query = (
        select(*(column.label(name) for name, column in known.items()), *of_point, devices.c.attributes)
        .join(series, series.c.id == cell_rows.c.series_id)
        .join(points, (points.c.series_id == series.c.id) & (points.c.sweep_run_id == cell_rows.c.sweep_run_id))
        .join(devices, devices.c.id == cell_rows.c.device_id)
        .join(hosts, hosts.c.id == devices.c.host_id)
        .where(cell_rows.c.state == "invalid", cell_rows.c.model == model)
    )
    if device_ids is not None:
        query = query.where(one_of(cell_rows.c.device_id, device_ids))
    return [
        {
            **row,
            "device_model": str(row["attributes"].get("model") or ""),
            "simulated": row["attributes"].get("simulated") is True,
        }
        for row in connection.execute(query).mappings()
    ]


def _baselines(
    connection: Connection, model: str, device_ids: list[int] | None
) -> dict[tuple[Any, ...], tuple[str, str]]:
    columns = ("device_id", *CASE, "statistic", "baseline_runtime", "baseline_recipe")
    return {
        (*cell_of(row), row["statistic"]): (row["baseline_runtime"], row["baseline_recipe"])
        for row in _read(connection, "variant_vs_baseline", columns, model, device_ids)
        if row["baseline_runtime"] is not None
    }


def _processes(connection: Connection, point_ids: Sequence[int]) -> dict[int, list[Any]]:
    query = select(points.c.id, points.c.process_medians).where(one_of(points.c.id, list(point_ids)))
    return {
        row.id: json.loads(row.process_medians) if isinstance(row.process_medians, str) else row.process_medians or []
        for row in connection.execute(query)
    }


def _floors(connection: Connection, point_ids: Sequence[int]) -> dict[int, Floor]:
    """Noise floors of the series that points belong to, where they were learnt."""
    query = (
        select(points.c.id, noise_floors.c.noise, noise_floors.c.detectable)
        .join(noise_floors, noise_floors.c.series_id == points.c.series_id)
        .where(one_of(points.c.id, list(point_ids)))
    )
    return {row.id: Floor(row.noise, row.detectable) for row in connection.execute(query)}


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
