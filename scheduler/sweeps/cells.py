"""How far a run is, cell by cell: each case on its device, what became of its processes, and what they told so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, select

from device_registry.database import one_of, table_of
from scheduler import coverage
from scheduler.cases import case_of
from scheduler.interventions import known_run
from scheduler.payloads import payloads
from scheduler.points import points, series
from scheduler.records import devices_of, superseded
from scheduler.states import OPEN_JOB, attempts, jobs
from scheduler.sweeps.answered import Key, run_evaluations, variant_of
from scheduler.watch_tables import Incident, IncidentSeries, Screening
from workers.codec import from_dict
from workers.contract import MeasureTask
from workers.errors import UNSUPPORTED

_screenings, _incidents, _of_incidents = table_of(Screening), table_of(Incident), table_of(IncidentSeries)


def run_cells(connection: Connection, run_id: int) -> list[dict[str, Any]]:
    """The cells of a run, in the order of model, runtime, recipe, options and device.

    Raises:
        UsageError: there is no such run.
    """
    unsupported = known_run(connection, run_id).unsupported
    rows = connection.execute(
        select(jobs, payloads.c.document.label("payload"))
        .join(payloads, payloads.c.id == jobs.c.payload_id)
        .where(jobs.c.sweep_run_id == run_id, jobs.c.kind == "measure", jobs.c.side.is_(None), ~superseded())
        .order_by(jobs.c.position)
    ).all()
    where = devices_of(connection, rows)
    by_case: dict[str, list[Any]] = {}
    for row in rows:
        by_case.setdefault(row.case_key, []).append(row)
    known = _points(connection, run_id)
    ran_on = _ran_on(connection, run_id)
    watched = _watched(connection, run_id, {point["series_id"] for point in known.values()})
    answered = run_evaluations(connection, run_id)
    shown: set[Key] = set()
    found = []
    for key, mine in by_case.items():
        task = from_dict(MeasureTask, mine[0].payload["measure"])
        places = sorted(
            {ran_on[row.id] for row in mine if row.id in ran_on} | {r.device_id for r in mine if r.device_id}
        )
        told = [known[place, case_of(task).key] for place in places if (place, case_of(task).key) in known]
        point = told[0] if told else {}
        beside: list[Key] = [(variant_of(mine[0].payload["measure"]), place) for place in places]
        evaluation = next((answered[known_as] for known_as in beside if known_as in answered), None)
        shown.update(beside)
        found.append(
            {
                "case_key": key,
                **_case(task),
                "device": ", ".join(sorted({where[row.id] for row in mine if row.id in where})) or None,
                "state": _state(mine),
                "processes": len(mine),
                "done": sum(row.state == "succeeded" for row in mine),
                "why": _why(mine) or _why_no_accuracy(evaluation) or point.get("why"),
                "p50_ms": point.get("value"),
                "p50_ci_ms": point.get("interval"),
                "verdict": point.get("verdict"),
                "screening": watched.get(point.get("series_id"), {}).get("outcome"),
                "change": watched.get(point.get("series_id"), {}).get("effect"),
                "incident": watched.get(point.get("series_id"), {}).get("incident"),
                **_accuracy(evaluation),
            }
        )
    found += [_only_evaluated(one) for known_as, one in answered.items() if known_as not in shown]
    # What is measured and only not evaluated has its cell already.
    found += [_unsupported(entry) for entry in unsupported if entry.get("kind") != "evaluate"]
    found.sort(key=_order)
    return found


def cell_counts(cells: Collection[dict[str, Any]]) -> dict[str, int]:
    """Cells by their state."""
    return dict(Counter(cell["state"] for cell in cells))


def _accuracy(evaluation: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a cell tells of the evaluation of its variant; None of both: nobody wanted one."""
    state = None if evaluation is None else evaluation["state"]
    return {"evaluation": state, "accuracy": None if evaluation is None else evaluation["accuracy"]}


def _why_no_accuracy(evaluation: Mapping[str, Any] | None) -> str | None:
    return f"evaluation: {evaluation['why']}" if evaluation is not None and evaluation["why"] else None


def _only_evaluated(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Of a variant that the run does not measure, for example for its latency is known."""
    nothing = dict.fromkeys(("case_key", "p50_ms", "p50_ci_ms", "verdict", "screening", "change", "incident"))
    case = _case(from_dict(MeasureTask, evaluation["task"]))
    done = int(evaluation["state"] == "done")
    told = {"device": evaluation["device"], "state": evaluation["state"], "processes": 1, "done": done}
    return {**nothing, **case, **told, "why": _why_no_accuracy(evaluation), **_accuracy(evaluation)}


def _case(task: MeasureTask) -> dict[str, Any]:
    return {
        "model": task.model,
        "runtime": task.runtime,
        "recipe": task.recipe,
        "threads": task.options.threads,
        "batch": task.options.batch,
        "mode": task.options.mode,
        "runtime_options": dict(task.options.runtime_options),
    }


def _unsupported(entry: dict[str, Any]) -> dict[str, Any]:
    cell = {name: entry[name] for name in ("model", "runtime", "recipe", "device", "why")}
    of_case = ("case_key", "threads", "batch", "mode")
    told = ("p50_ms", "p50_ci_ms", "verdict", "screening", "change", "incident", "evaluation", "accuracy")
    nothing = dict.fromkeys((*of_case, *told))
    return {**nothing, **cell, "runtime_options": {}, "state": "unsupported", "processes": 0, "done": 0}


def _state(mine: Sequence[Any]) -> str:
    """The most telling of what became of the processes of a cell: what is open goes before what ended."""
    states = {row.state for row in mine}
    if states & set(OPEN_JOB):
        return "running" if "running" in states or "succeeded" in states else "waiting"
    if "failed" in states:
        failed = {row.failure_code for row in mine if row.state == "failed"}
        return "unsupported" if failed == {UNSUPPORTED} else "failed"
    return "cancelled" if "cancelled" in states else "done"


def _why(mine: Sequence[Any]) -> str | None:
    whys = [row.failure_message or row.failure_code for row in mine if row.state in ("failed", "cancelled")]
    return next((why for why in whys if why), None)


def _points(connection: Connection, run_id: int) -> dict[tuple[int, str], dict[str, Any]]:
    """Points of a run, by device and case."""
    invalid = and_(
        coverage.cells.c.device_id == series.c.device_id,
        coverage.cells.c.case_key == series.c.case_key,
        coverage.cells.c.sweep_run_id == run_id,
        coverage.cells.c.state == "invalid",
    )
    rows = connection.execute(
        select(points, series.c.device_id, series.c.case_key, coverage.cells.c.why)
        .join(series, series.c.id == points.c.series_id)
        .outerjoin(coverage.cells, invalid)
        .where(points.c.sweep_run_id == run_id)
    )
    return {
        (row.device_id, row.case_key): {
            "series_id": row.series_id,
            "value": row.value,
            "interval": None if row.value_ci_low is None else [row.value_ci_low, row.value_ci_high],
            "verdict": row.verdict,
            "why": row.why,
        }
        for row in rows
    }


def _ran_on(connection: Connection, run_id: int) -> dict[int, int]:
    """Devices that the jobs of a run ran on last."""
    rows = connection.execute(
        select(attempts.c.job_id, attempts.c.device_id)
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .where(jobs.c.sweep_run_id == run_id, attempts.c.device_id.is_not(None))
        .order_by(attempts.c.id)
    )
    return {row.job_id: row.device_id for row in rows}


def _watched(connection: Connection, run_id: int, series_ids: Collection[int]) -> dict[Any, dict[str, Any]]:
    """What the first look at the points of a run said, and incidents that are not resolved, by series."""
    looked = select(_screenings.c.series_id, _screenings.c.outcome, _screenings.c.effect)
    rows = connection.execute(looked.where(_screenings.c.sweep_run_id == run_id))
    found: dict[Any, dict[str, Any]] = {row.series_id: {"outcome": row.outcome, "effect": row.effect} for row in rows}
    open_ones = (
        select(_of_incidents.c.series_id, _incidents.c.id)
        .join(_incidents, _incidents.c.id == _of_incidents.c.incident_id)
        .where(_incidents.c.state != "resolved", one_of(_of_incidents.c.series_id, "ids"))
        .order_by(_incidents.c.id)
    )
    for row in connection.execute(open_ones, {"ids": series_ids}):
        found.setdefault(row.series_id, {})["incident"] = row.id
    return found


def _order(cell: dict[str, Any]) -> tuple[Any, ...]:
    options = sorted(cell["runtime_options"].items())
    counts = (cell["threads"] or 0, cell["batch"] or 0, cell["mode"] or "", options)
    return cell["state"] == "unsupported", cell["model"], cell["runtime"], cell["recipe"], counts, cell["device"] or ""
