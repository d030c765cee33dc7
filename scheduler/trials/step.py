"""Trials go on and end: a look at those that run, what is missing made again, an answer or why there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, bindparam, select, text, update

from device_registry.database import one_of
from device_registry.health import FARM
from device_registry.registry import devices
from scheduler import queue
from scheduler.states import OPEN_JOB, jobs, record
from scheduler.trials.answers import Answered, answer
from scheduler.trials.floors import keep_floor, noise_floor_of
from scheduler.trials.processes import SIDES, Jobs, Ran, failures_of, jobs_of, ran_of
from scheduler.trials.start import add_processes, trials
from scheduler.trials.turns import Counted, count
from scheduler.verdicts import LEAST_PROCESSES, ROUNDS
from workers.statistics import benjamini_hochberg

#: Literal, for the index running_trial (see `states.IS_LIVE`).
_IS_RUNNING: Final = text("trial.state = 'running'")
_ADJUSTING: Final = update(trials).where(trials.c.id == bindparam("one")).values(adjusted_p=bindparam("by"))
#: Trials that one step ends or gives more: its transaction must be short.
_MOST_AT_ONCE = 50
#: A side of which so many processes failed and none ran is not tried on.
_MOST_FAILED = 3
#: None of its jobs changed for so long: given up where its device is away or takes no work, and in any case.
LONGEST_AWAY = timedelta(hours=2)
LONGEST_WAIT = timedelta(hours=24)


@dataclass(frozen=True)
class _End:
    """How a trial ends."""

    state: Literal["done", "void"]
    why: str
    answered: Answered | None = None


def step_trials(connection: Connection, now: datetime) -> list[int]:
    """Look at the trials that run: judge those whose processes are in, make again what does not count, end the rest.

    May be called at any time, by any number of processes: what a step does to a trial it does under its row's lock.

    Args:
        connection: inside a transaction that writes.
        now: the time.

    Returns:
        The trials that ended, at most some dozens; whoever wants all calls until there is none.
    """
    running = list(connection.execute(select(trials.c.id).where(_IS_RUNNING).order_by(trials.c.id)).scalars())
    if not running:
        return []
    counted = jobs_of(connection, running)
    stuck = _stuck(connection, counted, now)
    due = [trial_id for trial_id in running if trial_id in stuck or _is_due(counted[trial_id])][:_MOST_AT_ONCE]
    if not due:
        return []
    locked = select(trials).where(_IS_RUNNING, one_of(trials.c.id, due)).order_by(trials.c.id).with_for_update()
    rows = connection.execute(locked).all()
    ids = [row.id for row in rows]
    counted, ran = jobs_of(connection, ids), ran_of(connection, ids)  # somebody else's step may just have been here
    floors = noise_floor_of(connection, {row.series_id for row in rows if row.series_id is not None})
    ended = []
    for row in rows:
        end = _decide(connection, row, counted[row.id], ran[row.id], stuck.get(row.id), floors, now)
        if end is not None:
            _end(connection, row, ran[row.id], end, now)
            ended.append(row)
    for run_id in sorted({row.sweep_run_id for row in ended}):
        _adjust(connection, run_id)
    return [row.id for row in ended]


def _is_due(mine: Jobs) -> bool:
    return mine.open == 0 or mine.cancelled > 0 or mine.cut_short > 0 or _fails(mine) is not None


def _fails(mine: Jobs) -> str | None:
    """The side of which nothing runs."""
    for side in SIDES:
        if mine.by_state[side, "failed"] >= _MOST_FAILED and not mine.by_state[side, "succeeded"]:
            return side
    return None


def _stuck(connection: Connection, counted: Mapping[int, Jobs], now: datetime) -> dict[int, str]:
    """Trials none of whose jobs changed for too long, and what their devices do meanwhile."""
    quiet = {trial_id for trial_id, mine in counted.items() if mine.open and now - mine.changed_at >= LONGEST_AWAY}
    if not quiet:
        return {}
    query = (
        select(trials.c.id, *(devices.c[name] for name in ("name", "presence", "admin", "admin_why")))
        .join(devices, devices.c.id == trials.c.device_id)
        .where(one_of(trials.c.id, quiet))
    )
    found = {}
    for row in connection.execute(query):
        hours = (now - counted[row.id].changed_at) / timedelta(hours=1)
        if row.admin != "enabled":
            because = f" ({row.admin_why})" if row.admin_why else ""
            found[row.id] = f"{row.name} is {row.admin}{because}: nothing of it ran for {hours:.0f} h"
        elif row.presence != "online":
            found[row.id] = f"{row.name} is {row.presence}: nothing of it ran for {hours:.0f} h"
        elif now - counted[row.id].changed_at >= LONGEST_WAIT:
            found[row.id] = f"{row.name} had no time for it: nothing of it ran for {hours:.0f} h"
    return found


def _decide(
    connection: Connection,
    row: Row[Any],
    mine: Jobs,
    ran: Ran,
    stuck: str | None,
    floors: Mapping[int, float],
    now: datetime,
) -> _End | None:
    """How it ends; None: it goes on, with more processes where those that are in do not tell."""
    counted = count(ran.valid)
    enough = min(len(counted.of(side)) for side in SIDES) >= LEAST_PROCESSES
    if mine.cancelled:
        return _End("void", "its jobs were cancelled")
    if (cut := stuck or ("its time was up" if mine.cut_short else None)) is not None:
        if not enough:
            return _End("void", f"{cut}; {_what_came(counted, ran, mine)}")
        return _judged(row, counted, ran, mine, floors, cut)
    if (side := _fails(mine)) is not None:
        return _End("void", f"its {side} fails: {failures_of(connection, row.id)[side]}")
    if mine.open:
        return None
    missing = row.wanted - min(len(counted.of(side)) for side in SIDES)
    spare = 2 * row.wanted - max(mine.made(side) for side in SIDES)
    if missing > 0 and spare > 0:
        add_processes(connection, row, min(missing, spare), now=now)
        return None
    if not enough:
        return _End("void", _what_came(counted, ran, mine))
    end = _judged(row, counted, ran, mine, floors)
    verdict = end.answered.verdict if end.answered is not None else None
    more = next((number for number in ROUNDS if number > row.wanted), row.wanted)
    if verdict is None or verdict.answer != "inconclusive" or row.purpose == "noise" or row.wanted >= row.most:
        return end
    if end.answered is not None and end.answered.ruled_out:
        return end
    wanted = min(more, row.most) if more > row.wanted else row.most
    connection.execute(update(trials).where(trials.c.id == row.id).values(wanted=wanted))
    add_processes(connection, row, wanted - row.wanted, now=now)
    record(connection, "trial", row.id, "running", "running", who=FARM, why=f"{wanted} + {wanted}: {end.why}", now=now)
    return None


def _judged(
    row: Row[Any], counted: Counted, ran: Ran, mine: Jobs, floors: Mapping[int, float], cut: str | None = None
) -> _End:
    floor = floors.get(row.series_id)
    answered = answer(counted, noise_floor=floor, least_effect=row.effect, suspected=row.suspected)
    notes = [answered.verdict.why, answered.clock_why, cut]
    if counted.pauses:
        notes.append(f"{_number(counted.pauses, 'pause')} of over an hour between its processes")
    elif counted.lopsided:
        notes.append("one side ran earlier than the other")
    if left := _left_out(counted, ran, mine):
        notes.append(f"not counted: {left}")
    return _End("done", "; ".join(note for note in notes if note), answered)


def _what_came(counted: Counted, ran: Ran, mine: Jobs) -> str:
    before, after = (len(counted.of(side)) for side in SIDES)
    of = " + ".join(str(mine.made(side)) for side in SIDES)
    said = f"only {before} + {after} of {of} processes count, {LEAST_PROCESSES} + {LEAST_PROCESSES} are the fewest"
    left = _left_out(counted, ran, mine)
    return f"{said}: {left}" if left else said


def _left_out(counted: Counted, ran: Ran, mine: Jobs) -> str:
    left: Counter[str] = Counter(ran.invalid)
    for (_, state), number in mine.by_state.items():
        if state in ("failed", "cancelled"):
            left[state] += number
    if counted.alone:
        left["alone in their hour"] += counted.alone
    return ", ".join(f"{number} {what}" for what, number in sorted(left.items()))


def _number(count_: int, noun: str) -> str:
    return f"{count_} {noun}" + ("s" if count_ != 1 else "")


def _end(connection: Connection, row: Row[Any], ran: Ran, end: _End, now: datetime) -> None:
    """Write how it ended; what of it has not begun is cancelled."""
    counted = count(ran.valid)
    values: dict[str, Any] = {"state": end.state, "why": end.why, "device_s": ran.device_s, "ended_at": now}
    values["not_alternated"] = counted.not_alternated
    for side in SIDES:
        values[f"{side}_values"] = [[process.p50_ms, process.clock_mhz] for process in counted.of(side)]
    if end.answered is not None:
        told = end.answered.verdict
        values |= {name: getattr(told, name) for name in ("answer", "ratio", "p", "least_effect", "bound")}
        values["detectable"], values["clock_agrees"] = told.detectable, end.answered.clock_agrees
        if told.interval is not None:
            values["ratio_low"], values["ratio_high"] = told.interval
        if row.purpose == "noise" and row.series_id is not None:
            together = [process.p50_ms for process in counted.processes]
            keep_floor(connection, row.series_id, together, told, row.id, now)
    connection.execute(update(trials).where(trials.c.id == row.id).values(**values))
    _cancel_rest(connection, [row.id], end.why, now)
    record(connection, "trial", row.id, "running", end.state, who=FARM, why=end.why, now=now)


def _cancel_rest(connection: Connection, trial_ids: Collection[int], why: str, now: datetime) -> None:
    left = select(jobs.c.id).where(one_of(jobs.c.trial_id, trial_ids), jobs.c.state.in_(OPEN_JOB))
    if ids := list(connection.execute(left).scalars()):
        queue.cancel_jobs(connection, ids, who=FARM, why=f"its trial ended: {why}", now=now)


def _adjust(connection: Connection, run_id: int) -> None:
    """Adjust what the trials of a run show by chance for how many they are; A/A trials ask nothing."""
    rows = connection.execute(
        select(trials.c.id, trials.c.p, trials.c.adjusted_p)
        .where(trials.c.sweep_run_id == run_id, trials.c.purpose != "noise", trials.c.p.is_not(None))
        .order_by(trials.c.id)
    ).all()
    adjusted = zip(rows, benjamini_hochberg([row.p for row in rows]), strict=True)
    if changed := [{"one": row.id, "by": p} for row, p in adjusted if row.adjusted_p != p]:
        connection.execute(_ADJUSTING, changed)
