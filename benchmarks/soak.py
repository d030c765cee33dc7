"""Random faults over a simulated fleet, N minutes long, while jobs arrive all the time: what is lost, what heals?

200 devices on 8 hosts, each host a network and mount namespace of its own, `benchfarm head`, `up` and `join` as users
start them. Faults of processes, machines, cables, disks and the database come from here; those of devices from the
fleet's own script. What must hold is read from the event log, while it runs and at its end. Needs root; 5 GB of memory.

    python benchmarks/soak.py --minutes 20
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import psutil
from common import DONE, WORSE, counted, say
from soak_faults import LEASE_S, OF_HOSTS, OF_THE_FARM, Soak, kill_database
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from device_registry.database import passes, reading, writing
from device_registry.registry import devices, hosts
from device_registry.tables import utc_now
from scheduler.farm import Farm
from scheduler.home import Home
from scheduler.ingest import results
from scheduler.interventions import cancel_run
from scheduler.request import Request
from scheduler.states import OPEN_JOB, attempts, events, jobs
from tests.faults.hosts import Lab, why_not
from tests.faults.invariants import idle_violations, open_jobs, violations
from tests.postgres import PostgresServer

HOSTS = 8
DEVICES = 25
#: A bound on the queue, not on the rate: work never runs out, and the end comes soon after the faults.
MOST_OPEN = 600
#: After the last fault: for jobs to come to their end, and for devices to be probed (1 + 2 + 4 + 8 minutes at most).
SETTLE_S = 900.0
OWNERS = ("ada", "bob", "eve")
MODELS = ("sim/tiny", "sim/mobilenet", "sim/detector")
#: What devices do by themselves, for each attempt. A hang lasts until the job's own limit.
DEVICE_FAULTS = [
    {"fault": "vanish", "probability": 0.004, "seconds": 8},
    {"fault": "flap", "probability": 0.002, "seconds": 4, "times": 3},
    {"fault": "hang", "probability": 0.001},
    {"fault": "crash", "probability": 0.004},
    {"fault": "slow", "probability": 0.002, "seconds": 30},
    {"fault": "sick", "probability": 0.0005, "seconds": 100},
]
RUN_TIMEOUT_S = 20.0


def main() -> int:
    """Soak, and say what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="of faults; settling comes on top")
    parser.add_argument("--pause", type=float, default=6.0, help="mean seconds between faults from here")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    given = parser.parse_args()
    if (lacking := why_not()) is not None:
        say(lacking)
        return WORSE
    # Killed and started again it must keep what was committed; the machine itself does not fail.
    server = PostgresServer(settings=("fsync=off", "max_connections=100")) if given.database == "postgresql" else None
    lab = Lab(server.url() if server is not None else None, lease_s=LEASE_S)
    try:
        return _soak(lab, server, given)
    finally:
        lab.close()
        if server is not None:
            server.remove()


def _soak(lab: Lab, server: PostgresServer | None, given: argparse.Namespace) -> int:
    devices_each = [
        {"model": model, "count": count, "speed": speed, "thermal": None, "faults": DEVICE_FAULTS}
        for model, count, speed in (("Pixel 8", 10, 1.0), ("Galaxy S24", 10, 1.4), ("Moto G", 5, 0.6))
    ]
    fleet = {"seed": given.seed, "time_scale": 0.3, "devices": devices_each}
    (lab.folder / "fleet.json").write_text(json.dumps(fleet))
    lab.start_head()
    first = lab.up("up-0.out")
    _wait(lambda: "the farm is up" in lab.said("up-0.out"), 60, "the service")
    farm = Farm(Home(lab.folder / "here", lab.database_url, f"file://{lab.home / 'artifacts'}"))
    soak = Soak(lab, farm, server, random.Random(given.seed), services=[first])
    soak.hosts = [lab.host(f"lab-{number + 1}") for number in range(HOSTS)]
    for host in soak.hosts:
        soak.join(host)
        _wait(host.has_joined, 120, f"{host.host} to join")
    soak.keep_services()
    _wait(lambda: _online(soak) == HOSTS * DEVICES, 60, "all devices")
    say(f"{HOSTS * DEVICES} devices on {HOSTS} hosts; {given.minutes:g} minutes of faults")
    stop = threading.Event()
    submitter = threading.Thread(target=_submit_until, args=(soak, stop))
    submitter.start()
    began = time.monotonic()
    try:
        _torment(soak, given.minutes * 60, given.pause)
    finally:
        stop.set()
        submitter.join()
    tormented_s = time.monotonic() - began
    settled_s = _settle(soak)
    return _answer(soak, given, tormented_s, settled_s)


def _torment(soak: Soak, seconds: float, pause_s: float) -> None:
    """One fault after the other, each at a host that has none; now and then a look at what must hold."""
    until = time.monotonic() + seconds
    next_fault = time.monotonic() + pause_s
    next_look = time.monotonic() + 120
    while (now := time.monotonic()) < until:
        soak.undo_due()
        soak.keep_services()
        soak.keep_joined()
        if now >= next_fault:
            _strike(soak)
            next_fault = time.monotonic() + soak.luck.expovariate(1 / pause_s)
        if now >= next_look:
            soak.seen |= set(violations(soak.engine))
            say(f"{sum(soak.faults.values())} faults, {soak.submitted} jobs, {len(soak.seen)} violations")
            next_look = time.monotonic() + 120
        time.sleep(0.2)


def _strike(soak: Soak) -> None:
    well = [host for host in soak.hosts if host.host not in soak.hurt and host.joined is not None]
    shares = (sum(OF_HOSTS.values()) if len(well) > HOSTS // 2 else 0, sum(OF_THE_FARM.values()))
    kinds = soak.luck.choices((OF_HOSTS, OF_THE_FARM), shares)[0]
    (kind,) = soak.luck.choices(list(kinds), list(kinds.values()))
    if kind is kill_database and soak.server is None:
        return
    try:
        kind(soak, *([soak.luck.choice(well)] if kinds is OF_HOSTS else []))
    except (psutil.NoSuchProcess, ValueError):
        return  # what was to be hit is just starting
    soak.faults[kind.__name__] += 1


def _submit_until(soak: Soak, stop: threading.Event) -> None:
    """Users that submit all the time, and cancel now and then."""
    luck = random.Random(soak.luck.random())
    number = 0
    while not stop.wait(luck.uniform(0.5, 2)):
        try:
            if open_jobs(soak.engine) > MOST_OPEN:
                continue
            number += 1
            each = luck.random() < 0.2
            request = Request(
                models=(luck.choice(MODELS),),
                runtimes=("sim",),
                recipes=("fp32",),
                spread="each" if each else "any",
                repeats=1 if each else luck.choice((20, 60, 120)),
                # Now and then a program that stands nowhere yet, so that there are conversions.
                seed=number if luck.random() < 0.3 else 0,
                gate="none",
                priority=luck.choice((0, 0, 0, 1)),
                owner=luck.choice(OWNERS),
                run_timeout_s=RUN_TIMEOUT_S,
            )
            run_id = soak.farm.submit(request).sweep_run_id
            with reading(soak.engine) as connection:
                query = select(func.count()).select_from(jobs).where(jobs.c.sweep_run_id == run_id)
                soak.submitted += connection.execute(query).scalar_one()
            if luck.random() < 0.05:
                time.sleep(luck.uniform(0, 5))
                with writing(soak.engine) as connection:
                    cancel_run(connection, run_id, who="eve", now=utc_now())
        except DBAPIError as error:
            if not passes(error):
                raise
            soak.refused["database away"] += 1
        except Exception as error:  # what a user is told; the soak shows it
            soak.refused[str(error)[:80]] += 1


def _settle(soak: Soak) -> float:
    """End every fault and wait until all is well, or nothing gets better any more. Returns seconds until then."""
    began = time.monotonic()
    soak.undo_due(all_of_them=True)
    while time.monotonic() < began + SETTLE_S:
        soak.keep_services()
        soak.keep_joined()
        left = open_jobs(soak.engine), HOSTS * DEVICES - _online(soak)
        if left == (0, 0):
            break
        if int(time.monotonic() - began) % 30 == 0:
            say(f"settling: {left[0]} jobs open, {left[1]} devices not back")
        time.sleep(1)
    return time.monotonic() - began


def _answer(soak: Soak, given: argparse.Namespace, tormented_s: float, settled_s: float) -> int:
    soak.seen |= set(idle_violations(soak.engine))
    soak.seen |= {f"{host.host}: a runner was left behind" for host in soak.hosts if host.runners()}
    soak.seen |= {f"{host.host}: {len(host.agents())} agents" for host in soak.hosts if len(host.agents()) != 1}
    with reading(soak.engine) as connection:
        states = dict(connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state)).all())
        tries = dict(connection.execute(select(attempts.c.state, func.count()).group_by(attempts.c.state)).all())
        stale = connection.execute(select(func.count()).select_from(results).where(results.c.stale)).scalar_one()
        failed = connection.execute(
            select(jobs.c.failure_code, func.count()).where(jobs.c.state == "failed").group_by(jobs.c.failure_code)
        ).all()
        requeues = connection.execute(
            select(func.count())
            .select_from(events)
            .where(events.c.entity == "job", events.c.before == "running", events.c.after == "queued")
        ).scalar_one()
    heals = {name: _heals(soak, *of) for name, of in _TROUBLES.items()}
    # Of the kind that heals worst: a device that blinks heals easily, and there are many of them.
    worst = min(heals.values(), key=lambda heal: heal["share"])
    figures = [
        counted("violations", len(soak.seen), 0, "violations"),
        counted("troubles of a kind that needed a person", round(1 - worst["share"], 4), 0.05, "share", **worst),
        counted("jobs left open", sum(states.get(state, 0) for state in OPEN_JOB), 0, "jobs"),
    ]
    document = {
        "benchmark": "soak",
        "minutes": round(tormented_s / 60, 1),
        "seed": given.seed,
        "database": given.database,
        "settled_s": round(settled_s, 1),
        "faults": sum(soak.faults.values()),
        "faults_by_kind": dict(soak.faults),
        "jobs": sum(states.values()),
        "jobs_by_state": states,
        "failures": {str(code): number for code, number in failed},
        "attempts_by_state": tries,
        "requeues": requeues,
        "stale_results": stale,
        "heals": heals,
        "healed_share": worst["share"],
        "violations": sorted(soak.seen)[:50],
        "submissions_refused": dict(soak.refused),
        "figures": figures,
    }
    print(json.dumps(document, allow_nan=False))
    return DONE if all(figure["met"] for figure in figures) else WORSE


#: What is counted as a trouble that may heal: entity of its events, and the states that are well.
_TROUBLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "hosts": ("host", ("online",)),
    "devices away": ("device", ("online",)),
    "devices quarantined": ("admin", ("enabled",)),
}


def _heals(soak: Soak, entity: str, well: tuple[str, ...]) -> dict[str, Any]:
    """How often something went wrong and came back by itself, from the event log, and how long it took."""
    since: dict[int, datetime] = {}
    took_s = []
    troubles = 0
    with reading(soak.engine) as connection:
        for row in connection.execute(select(events).where(events.c.entity == entity).order_by(events.c.id)):
            if row.after in well:
                if row.entity_id in since:
                    took_s.append((row.at - since.pop(row.entity_id)).total_seconds())
            elif row.entity_id not in since:
                troubles += 1
                since[row.entity_id] = row.at
    median_s = sorted(took_s)[len(took_s) // 2] if took_s else None
    share = len(took_s) / troubles if troubles else 1.0
    return {"troubles": troubles, "healed": len(took_s), "share": round(share, 4), "median_s": median_s}


def _online(soak: Soak) -> int:
    """Devices that take work, or will when they are cool."""
    try:
        with reading(soak.engine) as connection:
            query = select(func.count()).select_from(devices).join(hosts, hosts.c.id == devices.c.host_id)
            well = (devices.c.presence == "online", devices.c.admin == "enabled", hosts.c.presence == "online")
            return int(connection.execute(query.where(*well)).scalar_one())
    except DBAPIError:
        return 0


def _wait(what: Callable[[], Any], timeout_s: float, doing: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:.0f} s for {doing}")
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
