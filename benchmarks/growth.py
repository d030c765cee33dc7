"""What a job costs when the queue is long: a million queued rows must cost a tick what ten thousand do.

The dispatcher with agents that answer at once, in this process: everything of a job but Ray and the device. Beside it,
how long it takes to submit 100,000 jobs in one sweep, and to match 10,000 free devices with 100,000 queued jobs.

    python benchmarks/growth.py [--quick]
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import counted, finish, say
from sqlalchemy import Engine, func, insert, literal, select

from device_registry.capabilities import DeviceDescription
from device_registry.database import one_of, reading, writing
from device_registry.registry import devices
from device_registry.selectors import parse_selector
from device_registry.tables import utc_now
from scheduler.dispatcher import Dispatcher
from scheduler.executors.executor import Lost
from scheduler.farm import Farm
from scheduler.fleet import Fleet, Place, Requirement
from scheduler.home import Home
from scheduler.leases import DispatcherLease
from scheduler.placement import History, Wanted, match
from scheduler.request import Request
from scheduler.states import jobs
from workers.agent import AGENT_VERSION
from workers.codec import to_dict
from workers.host import describe_host
from workers.report import as_sent

COST_BAR = 1.3
SUBMIT_BAR_S = 10.0
MATCH_BAR_S = 1.0
_DEVICES = 1000
#: Jobs done for one sample of the cost, and samples.
_JOBS, _SAMPLES = 2_000, 9
#: Copies of a job are apart by so many positions.
_TURN = 10_000


class Echo:
    """Agents of one host that report every order done in the moment they get it."""

    def __init__(self, count: int) -> None:
        self._found = [
            DeviceDescription(
                key=f"echo:{number}",
                name=f"echo-{number}",
                kind="sim",
                driver="sim",
                attributes={"simulated": True, "model": f"m{number % 20}", "compute_unit": "sim"},
            )
            for number in range(count)
        ]
        self._told = False
        self._events: deque[dict[str, Any]] = deque()
        self._sequence = 0
        self.done = 0

    def arrivals(self) -> dict[str, dict[str, Any]]:
        if self._told:
            return {}
        self._told = True
        host = to_dict(replace(describe_host("echo"), cpu_count=1))
        found = [to_dict(device) for device in self._found]
        hello = {"version": AGENT_VERSION, "session": "1", "host": host, "devices": found, "running": [], "store": None}
        return {"echo": hello}

    def start(self, host: str, orders: Sequence[dict[str, Any]]) -> None:
        now = time.time()
        for order in orders:
            names = {"attempt_id": order["attempt_id"], "token": order["token"]}
            result: dict[str, Any] = {**names, "started_at": now, "finished_at": now}
            if order["convert"] is not None:
                result["conversion"] = {
                    "artifact": {"sha256": "0" * 64, "bytes": 1},
                    "companions": {},
                    "format": order["convert"]["format"],
                    "recipe": order["convert"]["recipe"],
                    "seconds": 0.0,
                    "imports_ms": 0.0,
                    "versions": {},
                    "facts": {},
                }
            else:
                result["measurement"] = MEASUREMENT
            report = {**names, "result": result, "judgement": {"verdict": "valid"}, "wall_s": 0.0, "telemetry": ()}
            self._sequence += 1
            self._events.append({"sequence": self._sequence, "kind": "finished", **names, **as_sent(report)})
        self.done += len(orders)

    def cancel(self, host: str, attempt_ids: Sequence[int], why: str) -> None:
        """Nothing runs for longer than a moment."""

    def poll(self, cursors: Mapping[str, int], wait_s: float) -> dict[str, dict[str, Any] | Lost]:
        for cursor in cursors.values():
            while self._events and self._events[0]["sequence"] <= cursor:
                self._events.popleft()
        return {name: {"session": "1", "events": list(self._events), "running": []} for name in cursors}

    def log(self, host: str, attempt_id: int, token: str) -> str:
        return ""

    def recover(self, host: str, device: str, rung: int) -> None:
        """Nothing breaks."""

    def close(self) -> None:
        """Nothing to end."""


MEASUREMENT: dict[str, Any] = {
    "runtime": {
        "name": "sim",
        "version": "1",
        "options": {},
        "precision": "fp32",
        "compute_unit": "sim",
        "evidence": "",
    },
    **dict.fromkeys(("imports_ms", "load_cold_ms", "load_warm_ms", "first_inference_ms", "throughput_per_s"), 1.0),
    **dict.fromkeys(("compile_ms", "rss_after_imports_bytes", "peak_rss_bytes", "fidelity", "raw")),
    "warm_up": {"runs": 1, "seconds": 0.0, "stable": True},
    "timings": {
        "iterations": 64,
        "inner_iterations": 1,
        "elapsed_s": 1.0,
        "converged": True,
        **dict.fromkeys(("p50_ms", "mean_ms", "min_ms", "max_ms", "mad_ms", "iqr_over_median"), 1.0),
        **dict.fromkeys(("p50_within_ci_ms", "p90_ms", "p95_ms", "p99_ms", "drift_ratio", "drift_p")),
        "outliers_mild": 0,
        "outliers_extreme": 0,
    },
    "inputs": {},
    "timed_from": 0.0,
    "timed_to": 1.0,
}


def request(**changed: Any) -> Request:
    """One case on every device."""
    return Request(**{"models": ("sim/tiny",), "runtimes": ("sim",), "recipes": ("fp32",), **changed})


def begin(folder: Path, count: int) -> tuple[Farm, Echo, Dispatcher]:
    """A farm that has done one job on each device, so that everything is warm and converted."""
    farm = Farm(Home(folder / "home", f"sqlite:///{folder / 'benchfarm.db'}", f"file://{folder / 'store'}"))
    echo = Echo(count)
    lease = DispatcherLease()
    with writing(farm.engine) as connection:
        lease.acquire(connection, utc_now())
    dispatcher = Dispatcher(farm.engine, echo, lease)
    while not _known(farm.engine):
        dispatcher.tick()
    run_id = farm.submit(request()).sweep_run_id
    while _open(farm.engine, run_id):
        dispatcher.tick()
    return farm, echo, dispatcher


def _known(engine: Engine) -> int:
    with reading(engine) as connection:
        return int(connection.execute(select(func.count()).select_from(devices)).scalar_one())


def _open(engine: Engine, run_id: int) -> bool:
    with reading(engine) as connection:
        still = (jobs.c.sweep_run_id == run_id, jobs.c.state.in_(("blocked", "queued", "running")))
        return connection.execute(select(jobs.c.id).where(*still).limit(1)).first() is not None


def fill(engine: Engine, upto: int) -> None:
    """Queue copies of jobs until so many are queued, as many for each device."""
    with writing(engine) as connection:
        last = connection.execute(select(func.max(jobs.c.sweep_run_id))).scalar_one()
        queued = connection.execute(select(func.count()).select_from(jobs).where(jobs.c.state == "queued")).scalar_one()
        names = [column.name for column in jobs.c if column.name != "id"]
        original = (jobs.c.sweep_run_id == last, jobs.c.kind == "measure", jobs.c.position < _TURN)
        ids = connection.execute(select(jobs.c.id).where(*original)).scalars().all()
        source = select(jobs).where(one_of(jobs.c.id, ids)).subquery()
        first = connection.execute(select(func.max(jobs.c.position))).scalar_one() // _TURN + 1
        fresh: dict[str, Any] = {"state": literal("queued"), "attempts": literal(0)}
        for turn in range(max(0, round((upto - queued) / len(ids)))):
            columns = {**fresh, "position": source.c.position + _TURN * (first + turn)}
            connection.execute(
                insert(jobs).from_select(names, select(*(columns.get(name, source.c[name]) for name in names)))
            )


def cost_us(echo: Echo, dispatcher: Dispatcher, count: int) -> float:
    """Processor time for each of the next `count` jobs."""
    before, began = echo.done, time.process_time()
    while echo.done - before < count:
        dispatcher.tick()
    return (time.process_time() - began) / (echo.done - before) * 1e6


def growth(folder: Path, few: int, many: int, samples: int) -> dict[str, Any]:
    """Cost of a job with few and with many queued."""
    farm, echo, dispatcher = begin(folder, _DEVICES)
    try:
        fill(farm.engine, few)
        cost_us(echo, dispatcher, _JOBS)
        with_few = []
        for _ in range(samples):
            fill(farm.engine, few)
            with_few.append(cost_us(echo, dispatcher, _JOBS))
        began = time.monotonic()
        fill(farm.engine, many)
        say(f"{many} queued in {time.monotonic() - began:.0f} s")
        cost_us(echo, dispatcher, _JOBS)
        with_many = [cost_us(echo, dispatcher, _JOBS) for _ in range(samples)]
    finally:
        dispatcher.leave()
        farm.engine.dispose()
    before, after = statistics.median(with_few), statistics.median(with_many)
    return counted(
        f"cost per job, {many} queued over {few}", after / before, COST_BAR, "ratio", few_us=before, many_us=after
    )


def submitting(folder: Path, count: int) -> dict[str, Any]:
    """How long one sweep of `count` jobs takes to submit."""
    farm, _, dispatcher = begin(folder, _DEVICES)
    dispatcher.leave()
    began = time.monotonic()
    farm.submit(request(repeats=count // _DEVICES))
    took_s = time.monotonic() - began
    farm.engine.dispose()
    return counted(f"submitting {count} jobs in one sweep", took_s, SUBMIT_BAR_S, "s")


def matching(places: int, queued: int) -> dict[str, Any]:
    """How long `match` takes for a fleet that is all free."""
    luck = random.Random(1)
    fleet = Fleet(
        Place(
            key=f"d{number}",
            host_id=number % 100,
            kind="device",
            device_id=number,
            attributes={"model": f"m{number % 200}", "os": number % 5 + 10},
        )
        for number in range(places)
    )
    wants = [
        Requirement(id=number, kind="device", selector=parse_selector(f"model=m{number % 200},os>={10 + number % 3}"))
        for number in range(500)
    ]
    wanted = [
        Wanted(
            job_id=number,
            kind="measure",
            requirement_id=number % len(wants),
            owner=f"owner-{number % 20}",
            run_id=number % 50,
            position=number,
            created_at=float(number % 1000),
            expected_s=luck.uniform(1, 100),
        )
        for number in range(queued)
    ]
    requirements = {one.id: one for one in wants}
    spans = []
    for _ in range(5):
        began = time.perf_counter()
        match(wanted, fleet, requirements, {}, frozenset(fleet.places), History(), 2000.0)
        spans.append(time.perf_counter() - began)
    return counted(f"match of {places} devices and {queued} jobs", statistics.median(spans), MATCH_BAR_S, "s")


def main() -> int:
    """Measure; returns the exit code of docs/measurement.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short queues: shows that it works, no more")
    quick = parser.parse_args().quick
    figures = [matching(1_000, 10_000) if quick else matching(10_000, 100_000)]
    with tempfile.TemporaryDirectory(prefix="benchfarm-growth-") as name:
        (folder := Path(name) / "submit").mkdir()
        figures.append(submitting(folder, 2_000 if quick else 100_000))
        (folder := Path(name) / "growth").mkdir()
        figures.append(
            growth(folder, 4_000 if quick else 10_000, 20_000 if quick else 1_000_000, 2 if quick else _SAMPLES)
        )
    return finish("growth", quick, figures, devices=_DEVICES)


if __name__ == "__main__":
    sys.exit(main())
