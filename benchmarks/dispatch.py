"""How many jobs a second go through the farm, and how soon an idle device begins its next one.

1,000 simulated devices on 4 agents, each an actor of one Ray; jobs of no length, and jobs of a second. Everything else
is real: the queue, the dispatcher, Ray, the agents, their reports, ingest. Beside it, in the same run, what the parts
do bare: claims of rows in SQLite, calls of Ray actors.

    python benchmarks/dispatch.py [--quick] [--postgres URL]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import secrets
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from common import counted, finish, say
from sqlalchemy import Engine, func, select

from device_registry.database import open_engine, reading, writing
from device_registry.registry import devices as known_devices
from device_registry.tables import utc_now
from scheduler import schema
from scheduler.dispatcher import ATTEMPT_LEASE_S, Dispatcher
from scheduler.executors.ray_calls import RayCalls
from scheduler.farm import Farm
from scheduler.home import Home
from scheduler.ingest import results
from scheduler.leases import DispatcherLease
from scheduler.request import Request
from scheduler.service import collect_seldom
from scheduler.states import jobs
from workers.contract import Options
from workers.ray_environment import NAMESPACE, make_token, set_ray_environment

SQLITE_BAR = 4000
POSTGRES_BAR = 2000
IDLE_BAR_MS = 100.0
AGENTS = 4
DEVICES = 1000
#: Jobs at either end of a run that are left out: devices fall idle, the queue is not full yet.
_EDGE = 0.05
_ONE_S = 1.0
#: A farm's devices do not all fall idle at one moment: a first job of another length for each group of them.
_PHASES = 10
#: What a server of our own is told: memory as a small one has, and no waiting for this machine's disk.
_POSTGRES = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=256MB")


@dataclass(frozen=True)
class Size:
    """How large a run is."""

    devices: int
    #: Cases of each device, and repeats of each: of jobs of no length, and of jobs of a second.
    short: tuple[int, int]
    long: tuple[int, int]


FULL = Size(devices=DEVICES, short=(8, 5), long=(4, 5))
QUICK = Size(devices=80, short=(2, 5), long=(1, 3))


class BenchExecutor(RayCalls):
    """Agents as actors of one local Ray, each with a home and devices of its own."""

    def __init__(self, ray: Any, folder: Path, store_url: str, devices: int, time_scale: float) -> None:
        super().__init__(ray, ATTEMPT_LEASE_S)
        from workers.ray_agent import RemoteAgent

        self._actors = []
        for number in range(AGENTS):
            name = f"bench-{number}"
            fleet = folder / f"{name}.json"
            group = {"count": devices // AGENTS // _PHASES, "thermal": None}
            groups = [group | {"model": f"Bench {phase}"} for phase in range(_PHASES)]
            fleet.write_text(json.dumps({"devices": groups, "time_scale": time_scale}), encoding="utf-8")
            environment = {
                "BENCHFARM_HOME": str(folder / name),
                "BENCHFARM_HOST_NAME": name,
                "BENCHFARM_DRIVERS": "sim",
                "BENCHFARM_SIM": str(fleet),
            }
            (folder / name).mkdir()
            actor = ray.remote(RemoteAgent).options(
                num_cpus=0, max_concurrency=8, runtime_env={"env_vars": environment}
            )
            self._actors.append(actor.remote(store_url, ATTEMPT_LEASE_S))
            self.greet(name, self._actors[-1])

    def close(self) -> None:
        """End the agents."""
        for actor in self._actors:
            self._ray.get(actor.close.remote(), timeout=30)
            self._ray.kill(actor)


@contextmanager
def local_ray() -> Iterator[Any]:
    """A Ray of this process's own, on loopback."""
    with tempfile.TemporaryDirectory(prefix="bf-") as folder:
        set_ray_environment(make_token(Path(folder)), loopback=True, session=secrets.token_hex(8))
        import ray

        ray.init(
            num_cpus=1,
            num_gpus=0,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=80 * 2**20,
            namespace=NAMESPACE,
            _temp_dir=str(Path(folder) / "ray"),
        )
        try:
            yield ray
        finally:
            ray.shutdown()


@dataclass(frozen=True)
class Run:
    """What came of a sweep."""

    #: device, started_at and finished_at (the agent's, epoch seconds), recorded_at.
    rows: list[Any]
    #: Processor time for each job: of the dispatcher's thread, and of its process, in which Ray has threads of its own.
    thread_us: float
    process_us: float


def farm_run(
    ray: Any, url: str | None, devices: int, shape: tuple[int, int], *, seconds: float, in_phase: bool = True
) -> Run:
    """Run a sweep of so many cases and repeats, of so many seconds each, on each device.

    Out of phase, devices are at work when the sweep comes, and fall idle one after another within its seconds.
    """
    with tempfile.TemporaryDirectory(prefix="benchfarm-dispatch-") as name:
        folder = Path(name)
        database = url or f"sqlite:///{folder / 'benchfarm.db'}"
        farm = Farm(Home(folder / "home", database, f"file://{folder / 'store'}"))
        executor = BenchExecutor(ray, folder, f"file://{folder / 'store'}", devices, 1.0 if seconds else 0.0)
        lease = DispatcherLease()
        with writing(farm.engine) as connection:
            lease.acquire(connection, utc_now())
        dispatcher = Dispatcher(farm.engine, executor, lease)
        try:
            while _devices_known(farm.engine) < devices:
                dispatcher.tick()
            options = Options(min_seconds=seconds or 3.0)
            request = Request(models=("sim/tiny",), runtimes=("sim",), recipes=("fp32",), options=options)
            _work(farm, dispatcher, request)  # converts, and warms everything up
            cases, repeats = shape
            for phase in range(0 if in_phase else _PHASES):
                first = replace(options, min_seconds=seconds * (1 + (phase + 1) / _PHASES))
                farm.submit(replace(request, selector=f"model=Bench {phase}", options=first))
            began = time.thread_time(), time.process_time()
            run_id = _work(farm, dispatcher, replace(request, threads=tuple(range(1, cases + 1)), repeats=repeats))
            thread_s, process_s = time.thread_time() - began[0], time.process_time() - began[1]
            with reading(farm.engine) as connection:
                rows = [
                    (row.device_id, row.document["result"]["started_at"], row.document["result"]["finished_at"], row.at)
                    for row in connection.execute(
                        select(results.c.device_id, results.c.document, results.c.created_at.label("at"))
                        .where(results.c.sweep_run_id == run_id)
                        .order_by(results.c.id)
                    )
                ]
            return Run(rows, thread_s / len(rows) * 1e6, process_s / len(rows) * 1e6)
        finally:
            dispatcher.leave()
            executor.close()
            farm.engine.dispose()


def _devices_known(engine: Engine) -> int:
    with reading(engine) as connection:
        return int(connection.execute(select(func.count()).select_from(known_devices)).scalar_one())


def _work(farm: Farm, dispatcher: Dispatcher, request: Request) -> int:
    """Submit, and dispatch until nothing is open. Returns the run."""
    began = time.monotonic()
    run_id = farm.submit(request).sweep_run_id
    say(f"submitted in {time.monotonic() - began:.1f} s")
    looked = 0.0
    while True:
        dispatcher.tick()
        if time.monotonic() - looked > 0.5:
            looked = time.monotonic()
            with reading(farm.engine) as connection:
                still = (jobs.c.sweep_run_id == run_id, jobs.c.state.in_(("blocked", "queued", "running")))
                if connection.execute(select(jobs.c.id).where(*still).limit(1)).first() is None:
                    return run_id


def throughput(rows: list[Any]) -> float:
    """Jobs a second between the edges of a run."""
    times: list[datetime] = [recorded_at for *_, recorded_at in rows]
    low, high = int(len(times) * _EDGE), int(len(times) * (1 - _EDGE)) - 1
    return (high - low) / (times[high] - times[low]).total_seconds()


def idle_ms(rows: list[Any]) -> list[float]:
    """From the end of a device's attempt to the begin of its next, both by the agent's clock."""
    of_device: dict[int, list[tuple[float, float]]] = {}
    for device_id, started_at, finished_at, _ in rows:
        of_device.setdefault(device_id, []).append((started_at, finished_at))
    gaps = []
    for spans in of_device.values():
        spans.sort()
        gaps += [(after[0] - before[1]) * 1e3 for before, after in itertools.pairwise(spans)]
    return gaps


def raw_sqlite(folder: Path, count: int) -> float:
    """Claims a second of a bare table, one transaction each."""
    connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("CREATE TABLE job (id INTEGER PRIMARY KEY, class INTEGER, priority INTEGER, state TEXT)")
    connection.execute("CREATE INDEX by_order ON job (class, priority, id) WHERE state = 'queued'")
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO job (class, priority, state) VALUES (?, 0, 'queued')", [(n % 10,) for n in range(count)]
    )
    connection.execute("COMMIT")
    claim = (
        "UPDATE job SET state = 'running' WHERE id = (SELECT id FROM job WHERE state = 'queued' AND class = ? "
        "ORDER BY priority, id LIMIT 1) RETURNING id"
    )
    began = time.perf_counter()
    for number in range(count):
        connection.execute(claim, (number % 10,)).fetchall()
    took_s = time.perf_counter() - began
    connection.close()
    return count / took_s


def raw_ray(ray: Any, count: int) -> float:
    """Calls a second of actors that do nothing, spread over as many as there are agents."""

    class Idle:
        def call(self, number: int) -> int:
            return number

    actors = [ray.remote(Idle).options(num_cpus=0).remote() for _ in range(AGENTS)]
    ray.get([actor.call.remote(0) for actor in actors])
    began = time.perf_counter()
    ray.get([actors[number % AGENTS].call.remote(number) for number in range(count)])
    took_s = time.perf_counter() - began
    for actor in actors:
        ray.kill(actor)
    return count / took_s


@contextmanager
def postgres(url: str | None) -> Iterator[str | None]:
    """The database to use: the one named, else a server of our own where its binaries are, else none."""
    if url is not None:
        _migrate(url)
        yield url
        return
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests.postgres import PostgresServer, binaries

    if binaries() is None:
        yield None
        return
    server = PostgresServer(settings=_POSTGRES)
    try:
        server.execute("CREATE DATABASE dispatch")
        _migrate(server.url("dispatch"))
        yield server.url("dispatch")
    finally:
        server.remove()


def _migrate(url: str) -> None:
    engine = open_engine(url)
    schema.upgrade(engine)
    engine.dispose()


def main() -> int:
    """Measure; returns the exit code of docs/measurement.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small farm: shows that it works, no more")
    parser.add_argument("--postgres", metavar="URL", default=None, help="an empty database to use as well")
    parser.add_argument("--only", choices=("sqlite", "postgresql", "idle"), default=None)
    given = parser.parse_args()
    size = QUICK if given.quick else FULL
    figures = []
    context: dict[str, Any] = {"agents": AGENTS, "devices": size.devices, "cpus": os.cpu_count()}
    with local_ray() as ray, tempfile.TemporaryDirectory() as folder:
        context["raw_ray_calls_per_s"] = round(raw_ray(ray, 1000 if given.quick else 20_000))
        context["raw_sqlite_claims_per_s"] = round(raw_sqlite(Path(folder), 1000 if given.quick else 50_000))
        say(str(context))
        collect_seldom()  # as the service does
        if given.only in (None, "sqlite"):
            run = farm_run(ray, None, size.devices, size.short, seconds=0.0)
            figures.append(_jobs("sqlite", run, SQLITE_BAR))
        if given.only in (None, "idle"):
            for name, in_phase in (("idle to next start", False), ("idle to next start, all released at once", True)):
                run = farm_run(ray, None, size.devices, size.long, seconds=_ONE_S, in_phase=in_phase)
                gaps = sorted(idle_ms(run.rows))
                seen = {"p50_ms": gaps[len(gaps) // 2], "gaps": len(gaps), "thread_us": run.thread_us}
                figures.append(counted(f"{name}, p99", gaps[int(len(gaps) * 0.99)], IDLE_BAR_MS, "ms", **seen))
        if given.only in (None, "postgresql"):
            with postgres(given.postgres) as url:
                if url is None:
                    say("no PostgreSQL: give --postgres URL")
                else:
                    run = farm_run(ray, url, size.devices, size.short, seconds=0.0)
                    figures.append(_jobs("postgresql", run, POSTGRES_BAR))
    return finish("dispatch", given.quick, figures, **context)


def _jobs(database: str, run: Run, bar: float) -> dict[str, Any]:
    per_s = throughput(run.rows)
    met = per_s >= bar
    say(f"{database}: {per_s:.0f} jobs/s, target >= {bar:g}: {'met' if met else 'MISSED'}; {run.thread_us:.0f} us each")
    return {
        "name": f"jobs through the farm, {database}",
        "effect": per_s,
        "interval_95": None,
        "unit": "jobs/s",
        "target": f">= {bar:g}",
        "resolved": True,
        "met": met,
        "jobs": len(run.rows),
        "dispatcher_thread_us_per_job": run.thread_us,
        "dispatcher_process_us_per_job": run.process_us,
    }


if __name__ == "__main__":
    sys.exit(main())
