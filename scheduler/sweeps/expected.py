"""What a plan will take, from the farm's history: device time, how much of it is a guess, and when it may be done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, or_, select

from device_registry.registry import RegisteredDevice
from scheduler.durations import FIRST_GUESS_S, duration_key, expected_s
from scheduler.lanes import RESTING
from scheduler.plan import Plan, PlannedConversion, PlannedMeasurement
from scheduler.queue import standing, sweep_runs
from scheduler.requirements import requirements
from scheduler.states import IS_QUEUED, jobs, portions
from workers.contract import MeasureTask
from workers.measure import longest_s


@dataclass(frozen=True, kw_only=True)
class CaseTime:
    """What a case takes on a device."""

    #: One process.
    process_s: float
    processes: int
    #: Whether such a case was measured before; else it is a guess.
    known: bool

    @property
    def device_s(self) -> float:
        """All its processes."""
        return self.process_s * self.processes


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a plan will take."""

    #: By case key.
    cases: Mapping[str, CaseTime]
    #: By device id: of its own cases, and of those that may go elsewhere its share; and what is queued there already.
    device_s: Mapping[int, float]
    queued_s: Mapping[int, float]
    #: Conversions that must be made first: their number, and the seconds of all.
    conversions: int
    conversion_s: float
    #: The seconds of each, by the key of what it makes.
    missing: Mapping[str, float]
    #: Conversions that are made at once.
    slots: int
    #: Seconds of the busiest device, with what is queued there; and until all is done.
    busiest_s: float
    finish_s: float

    @property
    def total_s(self) -> float:
        """Device seconds of all cases."""
        return sum(case.device_s for case in self.cases.values())

    @property
    def guessed(self) -> int:
        """Cases that nobody has measured yet."""
        return sum(not case.known for case in self.cases.values())


def case_times(connection: Connection, measurements: Iterable[PlannedMeasurement]) -> dict[str, CaseTime]:
    """What cases take, by case key."""
    counts: dict[str, int] = defaultdict(int)
    keys: dict[str, str] = {}
    kinds: dict[str, str] = {}
    tasks: dict[str, MeasureTask] = {}
    for item in measurements:
        counts[item.case_key] += 1
        if item.case_key not in keys:
            tasks[item.case_key] = item.task
            kinds[item.case_key] = item.kind
            keys[item.case_key] = duration_key(item.kind, item.task.model, item.task, item.device_model)
    known = expected_s(connection, set(keys.values()))
    return {
        case: CaseTime(
            process_s=known.get(key, _guess_s(kinds[case], tasks[case])), processes=counts[case], known=key in known
        )
        for case, key in keys.items()
    }


def expected(
    connection: Connection,
    made: Plan,
    devices: Mapping[str, Sequence[RegisteredDevice]],
    slots: int,
    now: datetime,
) -> Expected:
    """What a plan will take; nothing is inserted.

    Args:
        connection: to read from.
        made: the plan.
        devices: those that each case may run on.
        slots: conversions that the farm makes at once.
        now: the time.
    """
    cases = case_times(connection, made.measurements)
    device_s: dict[int, float] = defaultdict(float)
    for key, case in cases.items():
        for device in devices[key]:
            device_s[device.id] += case.device_s / len(devices[key])
    missing = _missing(connection, made)
    keys = {item.variant.key: duration_key("convert", item.model, item.task, None) for item in missing}
    known = expected_s(connection, set(keys.values()))
    conversion_s = sum(known.get(key, FIRST_GUESS_S["convert"]) for key in keys.values())
    queued_s = _queued(connection, device_s, now)
    busiest_s = max((seconds + queued_s.get(device, 0.0) for device, seconds in device_s.items()), default=0.0)
    return Expected(
        cases=cases,
        device_s=dict(device_s),
        queued_s=queued_s,
        conversions=len(missing),
        conversion_s=conversion_s,
        missing={made_key: known.get(key, FIRST_GUESS_S["convert"]) for made_key, key in keys.items()},
        slots=slots,
        busiest_s=busiest_s,
        finish_s=busiest_s + conversion_s / max(1, slots),
    )


def _missing(connection: Connection, made: Plan) -> list[PlannedConversion]:
    keys = {item.variant.key for item in made.conversions}
    there: set[str] = set()
    for portion in portions(keys):
        there |= standing(connection, portion)
    return list({item.variant.key: item for item in made.conversions if item.variant.key not in there}.values())


def _queued(connection: Connection, devices: Collection[int], now: datetime) -> dict[int, float]:
    """Expected seconds of what is queued for devices already; what was interrupted is not."""
    found: dict[int, float] = {}
    for portion in portions(devices):
        query = (
            select(requirements.c.device_id, func.sum(jobs.c.expected_s))
            .join(jobs, jobs.c.requirement_id == requirements.c.id)
            .join(sweep_runs, sweep_runs.c.id == jobs.c.sweep_run_id)
            .where(IS_QUEUED, requirements.c.device_id.in_(portion), jobs.c.rank < RESTING)
            .where(or_(sweep_runs.c.followed_until.is_(None), sweep_runs.c.followed_until > now))
            .group_by(requirements.c.device_id)
        )
        found |= {int(device): float(seconds) for device, seconds in connection.execute(query)}
    return found


def _guess_s(kind: str, task: MeasureTask) -> float:
    """Of what was never seen: sustained runs last as long as they say."""
    guess = FIRST_GUESS_S[kind]
    sustained = kind == "measure" and task.options.mode == "sustained"
    return guess + longest_s(task.options) if sustained else guess
