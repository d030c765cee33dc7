"""Quarantine as rows: devices are put aside, probed, recovered, released; and people say what a device may do.

The rules are in `device_registry.health`; every change leaves an event of the entity `admin`, by the device's id.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Float, Row, and_, bindparam, or_, select, update

from device_registry.errors import UsageError
from device_registry.health import (
    FARM,
    Admin,
    Health,
    administered,
    after,
    normal_ms,
    probe_pause_s,
)
from device_registry.health import Outcome as Outcome
from device_registry.registry import RegisteredDevice, devices, hosts, list_devices
from device_registry.rests import LONGEST_PROBE_S, moments, over
from scheduler import queue, runs
from scheduler.ingest import results
from scheduler.offers import device_offers, need, own_offers
from scheduler.plan import plan
from scheduler.queue import sweep_runs
from scheduler.request import Request
from scheduler.states import OPEN_JOB, jobs, portions, record
from scheduler.status import run_is_done
from scheduler.tables import CANARY as CANARY
from scheduler.verdicts import LEAST_PROCESSES, compare
from scheduler.wakeups import announce

#: A canary that has not begun by then is given up.
_LONGEST_WAIT_S = 3600.0


@dataclass(frozen=True)
class Canary:
    """A job of known outcome for a kind of device."""

    model: str
    #: The first that the host has.
    runtimes: tuple[str, ...]


#: By kind of device. A kind without one is left to people.
CANARIES = {
    "sim": Canary("sim/tiny", ("sim",)),
    "cpu": Canary("torchvision/mobilenet_v3_small", ("torch", "onnxruntime", "litert", "openvino", "executorch")),
    "android": Canary("torchvision/mobilenet_v3_small", ("benchmark-model", "ort-perf-test", "executor-runner")),
}


@dataclass(frozen=True)
class Recovery:
    """A step of a device's recovery ladder that is due."""

    host_id: int
    device_key: str
    #: 0 is the gentlest.
    rung: int


def note_outcomes(connection: Connection, outcomes: Sequence[Outcome], *, who: str, now: datetime) -> None:
    """Count what attempts tell of their devices; may put devices aside, or bring them back.

    Args:
        connection: inside a transaction that writes.
        outcomes: of the attempts that ended, in the order they did.
        who: for the events.
        now: the time.
    """
    if not outcomes:
        return
    of_device: dict[int, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        of_device[outcome.device_id].append(outcome)
    # Most only succeed: their rows are not read.
    telling = [device_id for device_id, told in of_device.items() if any(_tells(outcome) for outcome in told)]
    well = sorted(of_device.keys() - telling)
    _use(connection, well, of_device, well=True)
    _use(connection, sorted(telling), of_device, well=False)
    for row in _locked(connection, telling):
        health = _health(row)
        for outcome in of_device[row.id]:
            passed = outcome.canary and outcome.failure_cause is None
            known_ms = _normal_ms(connection, outcome) if passed else None
            changed, why = after(health, outcome, normal_ms=known_ms, now=now)
            if why is not None:
                record(connection, "admin", row.id, health.admin, changed.admin, who=who, why=why, now=now)
            health = changed
        _write(connection, row.id, health)


def maintain(connection: Connection, *, who: str, now: datetime) -> list[Recovery]:
    """Probe quarantined devices that are due, and climb their ladders; what is returned is for `Executor.recover`.

    A device that is there gets a canary. One that failed its canary, or is not there while its host is, is recovered.

    Args:
        connection: inside a transaction that writes.
        who: for the events.
        now: the time.
    """
    due = _due(connection, now)
    if not due:
        return []
    steps = []
    probed = {row.device_id for row in _open_canaries(connection, {row.id for row in due}, now)}
    known = {device.id: device for device in list_devices(connection)}
    online = [row.description for row in connection.execute(select(hosts).where(hosts.c.presence == "online"))]
    for row in due:
        health = _health(row)
        pause = timedelta(seconds=probe_pause_s(health.probes))
        if row.probe_at is None:  # its canary failed
            steps.append(_recovery(connection, row, max(0, health.probes - 1), who=who, now=now))
            health = replace(health, probe_at=now + pause)
        elif row.id in probed:
            health = replace(health, probe_at=now + timedelta(seconds=probe_pause_s(0)))
        else:
            pause = timedelta(seconds=probe_pause_s(health.probes + 1))
            if row.presence != "online":
                steps.append(_recovery(connection, row, health.probes, who=who, now=now))
            elif (why_not := _probe(connection, known[row.id], online, now)) is not None:
                why = f"{health.admin_why}; no canary can probe it ({why_not}): release it by hand"
                record(connection, "admin", row.id, health.admin, health.admin, who=who, why=why, now=now)
                _write(connection, row.id, replace(health, admin_why=why, probes=0, probe_at=None))
                continue
            health = replace(health, probes=health.probes + 1, probe_at=now + pause)
        _write(connection, row.id, health)
    return steps


def set_admin(
    connection: Connection, device_id: int, admin: Admin, *, who: str, why: str | None, now: datetime
) -> None:
    """What a person says a device may do; what runs there ends as it would.

    Args:
        connection: inside a transaction that writes.
        device_id: the device.
        admin: what it may do from now on.
        who: the person.
        why: for other people.
        now: the time.

    Raises:
        UsageError: there is no such device, it is so already, or must be released first.
    """
    row = next(iter(_locked(connection, [device_id])), None)
    if row is None:
        raise UsageError(f"no device {device_id}; see benchfarm devices list")
    before = _health(row)
    try:
        health = administered(before, admin, who=who, why=why)
    except UsageError as error:
        raise UsageError(f"device {row.name}: {error}") from error
    record(connection, "admin", row.id, row.admin, admin, who=who, why=why, now=now)
    _write(connection, row.id, health)
    if before.probed:
        _cancel_canaries(connection, row.id, who=who, now=now)
    announce(connection)


def _tells(outcome: Outcome) -> bool:
    return outcome.canary or outcome.failure_cause is not None


_MORE = devices.c.used_s + bindparam("more_s", type_=Float)
_USED: Final = update(devices).where(devices.c.id == bindparam("one")).values(used_s=_MORE)
_USED_WELL: Final = _USED.values(failures_in_row=0)


def _use(connection: Connection, ids: Sequence[int], told: Mapping[int, list[Outcome]], *, well: bool) -> None:
    """Count the seconds that devices were used. In order of their ids: two writers must not lock each other out."""
    rows = [{"one": known, "more_s": sum(outcome.used_s for outcome in told[known])} for known in ids]
    if rows:
        connection.execute(_USED_WELL if well else _USED, rows)


def _locked(connection: Connection, ids: Iterable[int]) -> list[Row[Any]]:
    rows: list[Row[Any]] = []
    for portion in portions(sorted(ids)):
        query = select(devices).where(devices.c.id.in_(portion)).order_by(devices.c.id).with_for_update()
        rows += connection.execute(query)
    return rows


def _health(row: Row[Any]) -> Health:
    return Health(**{field.name: getattr(row, field.name) for field in fields(Health)})


def _write(connection: Connection, device_id: int, health: Health) -> None:
    connection.execute(update(devices).where(devices.c.id == device_id).values(**asdict(health)))


def _normal_ms(connection: Connection, outcome: Outcome) -> float | None:
    """A device's normal time on the canary that just passed there, whose result is in already and does not count."""
    rows = connection.execute(
        select(results.c.case_key, results.c.p50_ms)
        .join(sweep_runs, sweep_runs.c.id == results.c.sweep_run_id)
        .join(jobs, jobs.c.id == results.c.job_id)
        .where(
            sweep_runs.c.purpose == CANARY,
            jobs.c.side.is_(None),  # what a unit under suspicion was asked says nothing of what is normal
            results.c.device_id == outcome.device_id,
            results.c.stale.is_(False),
            results.c.verdict == "valid",
        )
        .order_by(results.c.id)
    ).all()
    passed = [row.p50_ms for row in rows if row.case_key == rows[-1].case_key]
    return normal_ms(passed[:-1] if outcome.verdict == "valid" else passed)


def _due(connection: Connection, now: datetime) -> list[Row[Any]]:
    """Devices that the farm put aside, whose host is there, and that are to be probed or recovered."""
    recovering = and_(devices.c.probe_at.is_(None), devices.c.probes > 0)
    query = (
        select(devices)
        .join(hosts, hosts.c.id == devices.c.host_id)
        .where(
            devices.c.admin == "quarantined",
            devices.c.admin_by == FARM,
            hosts.c.presence == "online",
            or_(recovering, and_(devices.c.probe_at.is_not(None), over(devices.c.probe_at))),
        )
        .order_by(devices.c.id)
        .with_for_update(of=devices)
    )
    return list(connection.execute(query, moments(LONGEST_PROBE_S, now)))


def _open_canaries(connection: Connection, ids: Collection[int], now: datetime) -> list[Row[Any]]:
    """Open jobs of canaries on devices. None is older than its wait and its longest attempts."""
    recent = (sweep_runs.c.purpose == CANARY, sweep_runs.c.created_at > now - timedelta(days=1))
    rows: Iterable[Row[Any]] = connection.execute(
        select(jobs.c.id, jobs.c.device_id, jobs.c.state)
        .join(sweep_runs, sweep_runs.c.id == jobs.c.sweep_run_id)
        .where(*recent, jobs.c.state.in_(OPEN_JOB), jobs.c.canary.is_(True))
    )
    return [row for row in rows if row.device_id in ids]


def _recovery(connection: Connection, row: Row[Any], rung: int, *, who: str, now: datetime) -> Recovery:
    record(connection, "admin", row.id, row.admin, row.admin, who=who, why=f"recovery, step {rung + 1}", now=now)
    return Recovery(row.host_id, row.key, rung)


def _probe(
    connection: Connection, device: RegisteredDevice, descriptions: Sequence[dict[str, Any]], now: datetime
) -> str | None:
    """Queue a canary for a device. Returns why there can be none, or None."""
    queued = _submit(connection, device, descriptions, 1, now)
    if isinstance(queued, str):
        return queued
    mine = (jobs.c.sweep_run_id == queued, jobs.c.device_id == device.id)
    connection.execute(update(jobs).where(*mine).values(canary=True))
    return None


def ask_canary(connection: Connection, device_id: int, now: datetime) -> int | None:
    """Measure the canary on a unit under suspicion, which goes on with its work; returns the run, None: there is none.

    Args:
        connection: inside a transaction that writes.
        device_id: the unit.
        now: the time.
    """
    device = next((one for one in list_devices(connection) if one.id == device_id), None)
    if device is None:
        return None
    online = [row.description for row in connection.execute(select(hosts).where(hosts.c.presence == "online"))]
    queued = _submit(connection, device, online, LEAST_PROCESSES, now)
    if isinstance(queued, str):
        return None
    # No answer to any user, and no probe of a device that was put aside: it makes no point and no cell.
    mine = (jobs.c.sweep_run_id == queued, jobs.c.device_id == device_id)
    connection.execute(update(jobs).where(*mine).values(side=CANARY))
    return queued


def canary_said(connection: Connection, device_id: int, run_id: int) -> str | None:
    """What the canary of `ask_canary` tells of a unit, beside its earlier ones; None: it is not over."""
    if not run_is_done(connection, run_id):
        return None
    rows = connection.execute(
        select(results.c.sweep_run_id, results.c.case_key, results.c.p50_ms)
        .join(sweep_runs, sweep_runs.c.id == results.c.sweep_run_id)
        .where(
            sweep_runs.c.purpose == CANARY,
            results.c.device_id == device_id,
            results.c.stale.is_(False),
            results.c.verdict == "valid",
        )
        .order_by(results.c.id)
    ).all()
    asked = [row for row in rows if row.sweep_run_id == run_id]
    if not asked:
        return "its canary gave no valid value"
    now = [row.p50_ms for row in asked]
    then = [row.p50_ms for row in rows if row.sweep_run_id < run_id and row.case_key == asked[0].case_key]
    told = f"its canary takes {statistics.median(now):.3g} ms"
    if len(then) < LEAST_PROCESSES:
        return f"{told}; it has too few earlier ones to compare with"
    verdict = compare(then, now)
    as_ever = {
        "slower": "slower than ever: the unit is",
        "faster": "faster than ever",
        "same": "as ever: not all of the unit is slower",
    }
    said = as_ever.get(verdict.answer, "neither clearly apart nor the same")
    return f"{told}, {statistics.median(then):.3g} ms before: {said}"


def _submit(
    connection: Connection,
    device: RegisteredDevice,
    descriptions: Sequence[dict[str, Any]],
    repeats: int,
    now: datetime,
) -> int | str:
    """Queue canaries on a device; returns their run, or why there can be none."""
    canary = CANARIES.get(device.kind)
    if canary is None:
        return f"none is known for a {device.kind}"
    offers = own_offers(device_offers(device.host_description, device.kind), device.attributes)
    runtime = next((name for name in canary.runtimes if need("runtimes", name) in offers), None)
    if runtime is None:
        return f"its host runs none of {', '.join(canary.runtimes)}"
    request = Request(
        models=(canary.model,),
        runtimes=(runtime,),
        recipes=("fp32",),
        repeats=repeats,
        owner=FARM,
        queue_timeout_s=_LONGEST_WAIT_S,
    )
    try:
        made = replace(plan(request, [device], descriptions), unsupported_cells=[])  # no user asked
        submitted = runs.submit(connection, made, request, None, owner=FARM, this_host_id=None, now=now, follow=False)
    except UsageError as error:
        return str(error)
    run_id = submitted.sweep_run_id
    connection.execute(update(sweep_runs).where(sweep_runs.c.id == run_id).values(purpose=CANARY))
    return run_id


def _cancel_canaries(connection: Connection, device_id: int, *, who: str, now: datetime) -> None:
    """Canaries that have not begun would wait for ever: they go to quarantined devices only."""
    for row in _open_canaries(connection, [device_id], now):
        if row.state != "running":
            queue.cancel_job(connection, row.id, who=who, now=now)
