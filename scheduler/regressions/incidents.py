"""Incidents as rows: opened by the farm, acknowledged, resolved and reopened by people, closed by what recovers."""

from __future__ import annotations

import logging
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select, text, update

from device_registry.database import insert_row, one_of, table_of
from device_registry.errors import UsageError
from scheduler.notifications.outbox import tell_incident
from scheduler.points import points, series
from scheduler.quarantine import ask_canary, canary_said
from scheduler.regressions.attribution import Cause
from scheduler.regressions.grouping import Finding, ties_of
from scheduler.regressions.ranges import narrow
from scheduler.regressions.series_history import SeriesFacts, facts_of, times_of
from scheduler.states import record
from scheduler.watch_tables import Incident, IncidentSeries

log = logging.getLogger(__name__)

incidents = table_of(Incident)
incident_series = table_of(IncidentSeries)

#: Who resolves an incident when its series are back.
FARM: Final = "farm"
#: Literal, for the index unresolved_incident (see `states.IS_LIVE`).
IS_UNRESOLVED: Final = text("incident.state != 'resolved'")
#: From which states a user's change leads to which.
CHANGES: Final[dict[str, tuple[str, ...]]] = {
    "open": ("acknowledged", "resolved"),
    "acknowledged": ("resolved",),
    "resolved": ("open",),
}
_CAUSES: Final[dict[Cause, str]] = {
    "code": "",
    "environment": " since its environment changed",
    "device": ": the unit is under suspicion",
    "clock": ": its clock changed",
    "unknown": "",
}


def open_incident(
    connection: Connection,
    findings: Sequence[Finding],
    facts: Mapping[int, SeriesFacts],
    run: Row[Any],
    now: datetime,
) -> int:
    """Open an incident of findings that belong together, and tell of it; returns its number.

    Args:
        connection: inside a transaction that writes, with the run's row locked.
        findings: at least one, of one cause; each series once (of its findings the largest counts).
        facts: of their series.
        run: the row of the run that showed them.
        now: the time.
    """
    largest: dict[int, Finding] = {}
    for finding in sorted(findings, key=lambda one: -one.change):
        largest.setdefault(finding.series_id, finding)
    members = [largest[series_id] for series_id in sorted(largest)]
    changed = {name: [before, after] for one in members for name, before, after in one.environment}
    # Each series dates the step for itself, and some are a night off: the range that most of them say. Of artifacts
    # all that the series tell is put together (`ranges`).
    [((good, bad), _)] = Counter((one.revision_good, one.revision_bad) for one in members).most_common(1)
    title = title_of([(facts[one.series_id], one.change) for one in members], members[0].cause)
    incident_id = insert_row(
        connection,
        incidents,
        state="open",
        cause=members[0].cause,
        cause_why=Counter(one.why for one in members).most_common(1)[0][0],
        title=title,
        sweep=run.sweep,
        sweep_run_id=run.id,
        change=statistics.median(one.change for one in members),
        change_low=min((one.low for one in members if one.low is not None), default=None),
        change_high=max((one.high for one in members if one.high is not None), default=None),
        revision_good=good,
        revision_bad=bad,
        environment=changed,
        opened_at=now,
        changed_at=now,
    )
    _add(connection, incident_id, members)
    narrow(connection, incident_id)
    record(connection, "incident", incident_id, None, "open", who="watch", why=members[0].why, now=now)
    log.info("incident %d opened: %s (%s)", incident_id, title, members[0].cause, extra={"action": "incident_opened"})
    if members[0].cause == "device" and (asked := ask_canary(connection, facts[members[0].series_id].device_id, now)):
        of_it = incidents.c.id == incident_id
        connection.execute(update(incidents).where(of_it).values(canary_run_id=asked))
    tell_incident(connection, incident_id, "opened", now)
    return incident_id


def open_or_join(
    connection: Connection,
    findings: Sequence[Finding],
    facts: Mapping[int, SeriesFacts],
    run: Row[Any],
    now: datetime,
) -> int:
    """Add findings to the incident that they belong to, where one is not resolved yet, else open one: one alert each.

    They belong to it as findings of one run belong together, and what the code did must have been done at one time.
    """
    known = _incident_of(connection, findings)
    if known is None:
        return open_incident(connection, findings, facts, run, now)
    row, members = known
    has = {one.series_id for one in members}
    new = {one.series_id: one for one in findings if one.series_id not in has}
    if not new:
        return int(row.id)
    _add(connection, row.id, [new[series_id] for series_id in sorted(new)])
    all_facts = {**facts_of(connection, has), **facts}
    changes = [(all_facts[one.series_id], float(one.change)) for one in members]
    changes += [(all_facts[series_id], one.change) for series_id, one in new.items()]
    lows = [one for one in (row.change_low, *(one.low for one in new.values())) if one is not None]
    highs = [one for one in (row.change_high, *(one.high for one in new.values())) if one is not None]
    values = {
        "title": title_of(changes, row.cause),
        "change": statistics.median(change for _, change in changes),
        "change_low": min(lows, default=None),
        "change_high": max(highs, default=None),
        "changed_at": now,
    }
    connection.execute(update(incidents).where(incidents.c.id == row.id).values(**values))
    narrow(connection, row.id)
    why = f"{len(new)} more series of run {run.id} show it"
    record(connection, "incident", row.id, row.state, row.state, who="watch", why=why, now=now)
    return int(row.id)


def _incident_of(connection: Connection, findings: Sequence[Finding]) -> tuple[Row[Any], Sequence[Row[Any]]] | None:
    """The incident that findings belong to, and its series; None: there is none yet."""
    cause = findings[0].cause
    rows = connection.execute(
        select(incidents).where(IS_UNRESOLVED, incidents.c.cause == cause).order_by(incidents.c.id.desc()).limit(100)
    ).all()
    before, after = points.alias("before"), points.alias("after")
    query = (
        select(incident_series, before.c.at.label("before_at"), after.c.at.label("after_at"))
        .join(before, before.c.id == incident_series.c.baseline_point_id)
        .join(after, after.c.id == incident_series.c.candidate_point_id)
        .where(one_of(incident_series.c.incident_id, [row.id for row in rows]))
        .order_by(incident_series.c.id)
    )
    of_incident: dict[int, list[Row[Any]]] = {row.id: [] for row in rows}
    for one in connection.execute(query):
        of_incident[one.incident_id].append(one)
    facts = facts_of(connection, {one.series_id for members in of_incident.values() for one in members})
    at = times_of(connection, [known for one in findings for known in (one.baseline_point_id, one.candidate_point_id)])
    for row in rows:
        changed = tuple((name, *values) for name, values in sorted(row.environment.items()))
        for one in of_incident[row.id]:
            its = set(ties_of(_as_finding(one, facts[one.series_id], row.cause, changed)))
            for finding in findings:
                same_time = (
                    one.before_at < at[finding.candidate_point_id] and at[finding.baseline_point_id] < one.after_at
                )
                if its & set(ties_of(finding)) and (same_time or cause != "code"):
                    return row, of_incident[row.id]
    return None


def _as_finding(one: Row[Any], facts: SeriesFacts, cause: Cause, changed: tuple[Any, ...]) -> Finding:
    return Finding(
        series_id=one.series_id,
        device_id=facts.device_id,
        device_class=facts.device_class,
        case_key=facts.case_key,
        model=facts.model,
        cause=cause,
        why="",
        change=one.change,
        low=one.change_low,
        high=one.change_high,
        found_by=one.found_by,
        trial_id=one.trial_id,
        baseline_point_id=one.baseline_point_id,
        candidate_point_id=one.candidate_point_id,
        environment=changed,
    )


def _add(connection: Connection, incident_id: int, members: Sequence[Finding]) -> None:
    columns = ("series_id", "found_by", "trial_id", "baseline_point_id", "candidate_point_id", "change")
    connection.execute(
        insert(incident_series),
        [
            {
                "incident_id": incident_id,
                "change_low": one.low,
                "change_high": one.high,
                **{name: getattr(one, name) for name in columns},
            }
            for one in members
        ],
    )


def note_canaries(connection: Connection, now: datetime) -> int:
    """Note what canaries told that units under suspicion were asked for; returns how many."""
    waiting = select(incidents.c.id, incidents.c.state, incidents.c.canary_run_id).where(
        IS_UNRESOLVED, incidents.c.canary_run_id.is_not(None), incidents.c.canary.is_(None)
    )
    told = 0
    for row in connection.execute(waiting.order_by(incidents.c.id)).all():
        device_id = connection.execute(
            select(series.c.device_id)
            .join(incident_series, incident_series.c.series_id == series.c.id)
            .where(incident_series.c.incident_id == row.id)
            .limit(1)
        ).scalar_one()
        if (said := canary_said(connection, device_id, row.canary_run_id)) is not None:
            connection.execute(update(incidents).where(incidents.c.id == row.id).values(canary=said, changed_at=now))
            record(connection, "incident", row.id, row.state, row.state, who="watch", why=said, now=now)
            told += 1
    return told


def title_of(members: Sequence[tuple[SeriesFacts, float]], cause: Cause) -> str:
    """An incident in a line: "mobilenet_v3_small on litert int8: 5.2 % slower on 3 of pixel-8"."""
    facts = [one for one, _ in members]
    change = statistics.median(change for _, change in members)
    models = sorted({one.model for one in facts})
    cases = sorted({f"{one.runtime} {one.recipe}" for one in facts})
    units = sorted({one.device for one in facts})
    classes = {one.device_class for one in facts}
    what = models[0] if len(models) == 1 else f"{len(models)} models"
    what += f" on {cases[0]}" if len(cases) == 1 else f" in {len(facts)} cases"
    if len(units) == 1:
        where = units[0]
    else:
        known = next(iter(classes)) if len(classes) == 1 else None
        where = f"{len(units)} {known[1]} units" if known is not None else f"{len(units)} devices"
    return f"{what}: {change:.1%} slower on {where}{_CAUSES[cause]}"


def change_state(
    connection: Connection, incident_id: int, after: str, *, who: str, note: str | None, now: datetime
) -> Row[Any]:
    """A user says what an incident is; returns its row before.

    Args:
        connection: inside a transaction that writes.
        incident_id: of the incident.
        after: open (reopen), acknowledged or resolved.
        who: the user.
        note: for other people; None: what is noted stays.
        now: the time.

    Raises:
        UsageError: there is no such incident, or it is so already.
    """
    row = connection.execute(select(incidents).where(incidents.c.id == incident_id).with_for_update()).one_or_none()
    if row is None:
        raise UsageError(f"there is no incident {incident_id}; see benchfarm regressions list")
    if after not in CHANGES[row.state]:
        by = {"acknowledged": row.acknowledged_by, "resolved": row.resolved_by}.get(row.state)
        raise UsageError(f"incident {incident_id} is {row.state}" + (f", by {by}" if by else "") + " already")
    values: dict[str, Any] = {"state": after, "changed_at": now}
    if after == "acknowledged":
        values["acknowledged_by"] = who
    elif after == "resolved":
        values |= {"resolved_by": who, "resolved_at": now}
    else:
        values |= {"resolved_by": None, "resolved_at": None, "acknowledged_by": None}
        # What was back is looked at anew.
        of_it = incident_series.c.incident_id == incident_id
        connection.execute(update(incident_series).where(of_it).values(recovered_point_id=None))
    if note is not None:
        values["note"] = note
    connection.execute(update(incidents).where(incidents.c.id == incident_id).values(**values))
    record(connection, "incident", incident_id, row.state, after, who=who, why=note, now=now)
    if after == "resolved":
        tell_incident(connection, incident_id, "resolved", now)
    elif after == "open":
        tell_incident(connection, incident_id, "reopened", now)
    return row
