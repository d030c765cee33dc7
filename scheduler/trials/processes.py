"""What the processes of trials amount to: their jobs by state, their medians, clocks and cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Any, Final

from sqlalchemy import Connection, Row, func, select

from device_registry.database import one_of
from scheduler.ingest import results
from scheduler.states import OPEN_JOB, attempts, jobs
from scheduler.telemetry import channels, telemetry
from scheduler.trials.turns import Process, Side

#: Before any job there is.
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_MEASURED = results.c.document["result"]["measurement"]
#: Of attempts and their results: what `clocks_of` needs of each.
TIMED: Final = (
    results.c.attempt_id,
    attempts.c.started_at,
    attempts.c.clock_offset_s,
    _MEASURED["timed_from"].as_float().label("timed_from"),
    _MEASURED["timed_to"].as_float().label("timed_to"),
    _MEASURED["runtime"]["compute_unit"].as_string().label("compute_unit"),
)
SIDES: Final[tuple[Side, ...]] = ("baseline", "candidate")


@dataclass
class Jobs:
    """The jobs of one trial by what became of them."""

    #: (side, state) to how many.
    by_state: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: When the last of them changed.
    changed_at: datetime = _NEVER
    #: Cancelled by a user, not for a deadline or a budget; and those that were.
    cancelled: int = 0
    cut_short: int = 0

    @property
    def open(self) -> int:
        """How many are not finished."""
        return sum(count for (_, state), count in self.by_state.items() if state in OPEN_JOB)

    def made(self, side: str) -> int:
        """How many a side has, whatever became of them."""
        return sum(count for (of, _), count in self.by_state.items() if of == side)


def jobs_of(connection: Connection, trial_ids: Collection[int]) -> dict[int, Jobs]:
    """The jobs of trials, counted."""
    query = (
        select(
            jobs.c.trial_id,
            jobs.c.side,
            jobs.c.state,
            jobs.c.failure_code.is_not(None).label("told"),
            func.count().label("number"),
            func.max(jobs.c.changed_at).label("changed_at"),
        )
        .where(one_of(jobs.c.trial_id, trial_ids))
        .group_by(jobs.c.trial_id, jobs.c.side, jobs.c.state, jobs.c.failure_code.is_not(None))
    )
    found: dict[int, Jobs] = {trial_id: Jobs() for trial_id in trial_ids}
    for row in connection.execute(query):
        mine = found[row.trial_id]
        mine.by_state[row.side, row.state] += row.number
        mine.changed_at = max(mine.changed_at, row.changed_at)
        if row.state == "cancelled":
            mine.cut_short += row.number if row.told else 0
            mine.cancelled += 0 if row.told else row.number
    return found


def failures_of(connection: Connection, trial_id: int) -> dict[str, str]:
    """Of each side what the last of its failures said."""
    query = select(jobs.c.side, jobs.c.failure_message).where(jobs.c.trial_id == trial_id, jobs.c.state == "failed")
    return {row.side: str(row.failure_message) for row in connection.execute(query.order_by(jobs.c.id))}


@dataclass
class Ran:
    """What ran of one trial."""

    #: Those that were judged valid.
    valid: list[Process] = field(default_factory=list)
    #: Verdicts of the others.
    invalid: Counter[str] = field(default_factory=Counter)
    device_s: float = 0.0


def ran_of(connection: Connection, trial_ids: Collection[int]) -> dict[int, Ran]:
    """What ran of trials, with the clocks that their devices told."""
    found = {trial_id: Ran() for trial_id in trial_ids}
    spent = (
        select(jobs.c.trial_id, attempts.c.started_at, attempts.c.finished_at)
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .where(one_of(jobs.c.trial_id, trial_ids), attempts.c.finished_at.is_not(None))
    )
    for row in connection.execute(spent):
        found[row.trial_id].device_s += max(0.0, (row.finished_at - row.started_at).total_seconds())
    measured = results.c.document["result"]["measurement"]
    told: Sequence[Any] = connection.execute(
        select(
            jobs.c.trial_id,
            jobs.c.side,
            results.c.attempt_id,
            results.c.verdict,
            results.c.p50_ms,
            attempts.c.started_at,
            attempts.c.clock_offset_s,
            measured["timed_from"].as_float().label("timed_from"),
            measured["timed_to"].as_float().label("timed_to"),
            measured["runtime"]["compute_unit"].as_string().label("compute_unit"),
        )
        .join(jobs, jobs.c.id == results.c.job_id)
        .join(attempts, attempts.c.id == results.c.attempt_id)
        .where(one_of(jobs.c.trial_id, trial_ids), results.c.stale.is_(False))
        .order_by(attempts.c.started_at, attempts.c.id)
    ).all()
    clocks = clocks_of(connection, told)
    for one in told:
        mine = found[one.trial_id]
        if one.verdict != "valid":
            mine.invalid[one.verdict] += 1
            continue
        clock_mhz = clocks.get(one.attempt_id)
        process = Process(side=one.side, started_at=one.started_at, p50_ms=one.p50_ms, clock_mhz=clock_mhz)
        mine.valid.append(process)
    return found


def clocks_of(connection: Connection, ran: Sequence[Any]) -> dict[int, float]:
    """Mean clock of what each attempt ran on while it was timed, MHz; without those whose devices tell none."""
    known = {
        channel.id: channel.domain
        for channel in connection.execute(
            select(channels).where(channels.c.quantity == "clock", channels.c.unit == "MHz")
        )
    }
    if not known or not ran:
        return {}
    read: dict[int, dict[str, list[tuple[datetime, float]]]] = {}
    for reading in connection.execute(
        select(telemetry.c.attempt_id, telemetry.c.channel_id, telemetry.c.at, telemetry.c.value).where(
            one_of(telemetry.c.attempt_id, [row.attempt_id for row in ran]),
            one_of(telemetry.c.channel_id, list(known)),
            telemetry.c.value.is_not(None),
        )
    ):
        mine = read.setdefault(reading.attempt_id, {}).setdefault(known[reading.channel_id], [])
        mine.append((reading.at, reading.value))
    found = {}
    for row in ran:
        clocks = {domain: _while_timed(row, values) for domain, values in read.get(row.attempt_id, {}).items()}
        if (clock := _of_unit(clocks, str(row.compute_unit))) is not None:
            found[row.attempt_id] = clock
    return found


def _while_timed(row: Row[Any], values: Sequence[tuple[datetime, float]]) -> float:
    """Of a run that was too short to be read in, that of the whole attempt."""
    by = timedelta(seconds=-(row.clock_offset_s or 0.0))
    first, last = (datetime.fromtimestamp(at or 0.0, UTC) + by for at in (row.timed_from, row.timed_to))
    return fmean([value for at, value in values if first <= at <= last] or [value for _, value in values])


def _of_unit(clocks: Mapping[str, float], compute_unit: str) -> float | None:
    """A GPU's own clock, or that of the fastest CPUs: there a benchmark runs."""
    on_gpu = any(word in compute_unit.lower() for word in ("gpu", "cuda"))
    mine = [clock for domain, clock in clocks.items() if domain.startswith("gpu") == on_gpu]
    return max(mine, default=None)
