"""A farm in a folder: a real database and store, a clock that tests turn, a scripted host, and plans to submit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row, Table, select

from device_registry.capabilities import DeviceDescription, HostDescription
from device_registry.database import reading, writing
from device_registry.registry import RegisteredDevice, list_devices
from scheduler import queue, runs
from scheduler.conversions import Variant, digest
from scheduler.dispatcher import Dispatcher
from scheduler.executors import scripted
from scheduler.executors.scripted import Outcome, ScriptedExecutor, ScriptedHost, Succeed
from scheduler.ingest import results
from scheduler.leases import DispatcherLease
from scheduler.plan import Plan, PlannedConversion, PlannedMeasurement, Request
from scheduler.points import points, series
from scheduler.queue import artifacts
from scheduler.runs import Submitted
from scheduler.schema import open_database
from scheduler.states import LIVE_ATTEMPT, OPEN_JOB, attempts, events, jobs
from scheduler.status import run_is_done
from tests.unit.scheduler.databases import Databases
from workers.artifacts import ArtifactStore
from workers.contract import ConvertTask, Failure, Measurement, MeasureTask, ModelRequest, Options, Order

#: What runs where: (runtime, format, recipe). Everything but the program is made from the program.
TORCH = ("torch", "pt2", "fp32")
ONNX = ("onnxruntime", "onnx", "fp32")
INT8 = ("onnxruntime", "onnx", "int8-static")

BROKEN = Failure(cause="infrastructure", code="disk_full", message="no space left")
CRASHED = Failure(cause="model", code="crashed", message="the runtime crashed the process (SIGSEGV)")
UNSUPPORTED = Failure(cause="model", code="unsupported", message="no kernel for this op")


class Clock:
    """Time that stands still until it is turned."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.passed_s = 1000.0

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return self.passed_s

    def advance(self, seconds: float) -> None:
        """Turn it on."""
        self.now += timedelta(seconds=seconds)
        self.passed_s += seconds

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock; no time passes."""
        self.now += timedelta(seconds=seconds)


class Farm:
    """Everything of a farm but its agents, which are scripted. The first device is called `d0`."""

    def __init__(self, folder: Path, databases: Databases, *, kind: str = "cpu", devices: int = 1) -> None:
        """Make a farm of one host in a folder, on a fresh database."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._databases, self.url = databases, databases.fresh(folder)
        self.engine = open_database(self.url)
        self.store = ArtifactStore(f"file://{folder / 'store'}", folder / "cache")
        self.clock = Clock()
        self._dispatchers: list[Dispatcher] = []
        self.host = self.new_host("here", kind=kind, devices=devices)
        self.hosts = [self.host]
        self.dispatcher = self.new_dispatcher()
        self.followed: set[int] = set()

    def close(self) -> None:
        """Give the database back."""
        for dispatcher in self._dispatchers:
            dispatcher.close()
        self.engine.dispose()
        self._databases.drop(self.url)

    def new_host(self, name: str, *, kind: str = "cpu", devices: int = 1) -> ScriptedHost:
        """Another host with devices of its own, or the same host with an agent that knows nothing."""
        prefix = "" if name == "here" else f"{name}-"
        found = [
            DeviceDescription(key=f"{name}:{number}", name=f"{prefix}d{number}", kind=kind, driver="scripted")
            for number in range(devices)
        ]
        host = HostDescription(
            key=name, name=name, system="s", architecture="a", cpu_model="c", cpu_count=2, memory_bytes=16 * 10**9
        )
        return ScriptedHost(self.store, self.folder, host, found)

    def add_host(self, name: str, *, kind: str = "cpu", devices: int = 1) -> ScriptedHost:
        """Another host, which the dispatcher reaches from now on."""
        self.hosts.append(self.new_host(name, kind=kind, devices=devices))
        self.dispatcher.leave()
        self.dispatcher = self.new_dispatcher()
        return self.hosts[-1]

    def replace_host(self, number: int = 0) -> None:
        """The agent of a host dies; its successor knows nothing of what it did."""
        before = self.hosts[number]
        fresh = self.new_host(before.name)
        fresh.devices = before.devices
        self.hosts[number] = fresh
        self.host = self.hosts[0]

    def new_dispatcher(self, *hosts: ScriptedHost) -> Dispatcher:
        """A dispatcher that took the lease and greeted its hosts; waits until a predecessor's lease runs out."""
        lease = DispatcherLease(self.clock.monotonic)
        with writing(self.engine) as connection:
            taken = lease.acquire(connection, self.clock())
        if not taken:
            self.clock.advance(60)
            with writing(self.engine) as connection:
                assert lease.acquire(connection, self.clock())
        executor = ScriptedExecutor(hosts or self.hosts)
        dispatcher = Dispatcher(self.engine, executor, lease, self.clock, self.clock.monotonic)
        for _ in range(2):  # greet, then take what they have to tell
            dispatcher.tick(may_claim=lambda connection: False)
        self._dispatchers.append(dispatcher)
        return dispatcher

    def play(self, script: Callable[[Order], Outcome] | Outcome) -> None:
        """What becomes of each order from now on."""
        for host in self.hosts:
            host.play = script if callable(script) else lambda order: script

    def devices(self) -> list[RegisteredDevice]:
        """Every registered device."""
        with reading(self.engine) as connection:
            return list_devices(connection)

    def submit(self, made: Plan, request: Request | None = None) -> Submitted:
        """Submit a plan; the run is followed from now on, until `leave`."""
        host_id = self.devices()[0].host_id
        request = request or Request(models=("net",))
        if request.kind != "measure":
            made.measurements = [replace(item, kind=request.kind) for item in made.measurements]
        with writing(self.engine) as connection:
            submitted = runs.submit(
                connection,
                made,
                request,
                self.store,
                owner="tester",
                this_host_id=host_id,
                now=self.clock(),
            )
        self.followed.add(submitted.sweep_run_id)
        return submitted

    def run(self, made: Plan) -> int:
        """Submit a plan and work until it is done; returns the run."""
        run_id = self.submit(made).sweep_run_id
        self.settle()
        return run_id

    def leave(self, run_id: int) -> None:
        """Nobody waits for a run any more."""
        self.followed.discard(run_id)
        with writing(self.engine) as connection:
            runs.abandon(connection, run_id, self.clock())

    def tick(self, seconds: float = 1.0) -> bool:
        """One round of followers and dispatcher, then let time pass."""
        with writing(self.engine) as connection:
            for run_id in sorted(self.followed):
                runs.follow(connection, run_id, self.clock())
        changed = self.dispatcher.tick()
        self.clock.advance(seconds)
        return changed

    def settle(self, rounds: int = 200) -> None:
        """Work until every followed run is done."""
        for _ in range(rounds):
            with reading(self.engine) as connection:
                if all(run_is_done(connection, run_id) for run_id in self.followed):
                    return
            self.tick()
        raise AssertionError(f"not done after {rounds} rounds: {self.states()}")

    def cancel(self, job_id: int) -> int | None:
        """Cancel a job as a user does."""
        with writing(self.engine) as connection:
            return queue.cancel_job(connection, job_id, who="tester", now=self.clock())

    def damage(self, sha256: str) -> None:
        """Change the bytes of a stored file behind the store's back."""
        (self.folder / "store" / sha256[:2] / sha256).write_bytes(b"damaged")

    def lose(self, sha256: str) -> None:
        """Delete a stored file."""
        (self.folder / "store" / sha256[:2] / sha256).unlink()

    def rows(self, table: Table, *where: Any) -> list[Row[Any]]:
        """Rows of a table by id."""
        with reading(self.engine) as connection:
            return list(connection.execute(select(table).where(*where).order_by(table.c.id)))

    def jobs(self, *where: Any) -> list[Row[Any]]:
        """Jobs by id: conversions of a plan come before its measurements."""
        return self.rows(jobs, *where)

    def job(self, kind: str, number: int = 0) -> Row[Any]:
        """The n-th job of a kind."""
        return self.jobs(jobs.c.kind == kind)[number]

    def attempts(self, *where: Any) -> list[Row[Any]]:
        """Attempts by id."""
        return self.rows(attempts, *where)

    def live(self) -> list[Row[Any]]:
        """Attempts that are leased or run."""
        return self.attempts(attempts.c.state.in_(LIVE_ATTEMPT))

    def results(self, *where: Any) -> list[Row[Any]]:
        """Results by id."""
        return self.rows(results, *where)

    def points(self) -> list[Row[Any]]:
        """Points by id."""
        return self.rows(points)

    def series(self) -> list[Row[Any]]:
        """Series by id."""
        return self.rows(series)

    def artifact(self, title: str = "onnx fp32") -> Row[Any]:
        """The artifact of a format and recipe."""
        [found] = [row for row in self.rows(artifacts) if f"{row.format} {row.recipe}" == title]
        return found

    def states(self, run_id: int | None = None) -> list[tuple[str, str]]:
        """(kind, state) of each job, of one run or of all."""
        where = () if run_id is None else (jobs.c.sweep_run_id == run_id,)
        return [(row.kind, row.state) for row in self.jobs(*where)]

    def started(self) -> list[str]:
        """What the host was given, in order: "convert pt2 fp32", "measure onnx fp32"."""
        return [describe(order) for order in self.host.orders.values()]

    def run_row(self, run_id: int) -> Row[Any]:
        """The row of a run."""
        return self.rows(queue.sweep_runs, queue.sweep_runs.c.id == run_id)[0]


def plan_of(
    devices: Sequence[RegisteredDevice],
    *cases: tuple[str, str, str],
    model: str = "net",
    repeats: int = 1,
    threads: Iterable[int] = (1,),
    unsupported: Sequence[dict[str, str]] = (),
    salt: str = "",
    pinned: bool = True,
) -> Plan:
    """A plan of cases on devices: the program, what is made of it, then the measurements by repeat.

    Args:
        devices: where to measure.
        cases: (runtime, format, recipe) of each; all but `pt2 fp32` are converted from the program.
        model: the model's name; plans of one model share artifacts.
        repeats: of each case.
        threads: of each case.
        unsupported: what the matrix contains and cannot be had.
        salt: makes it another request.
        pinned: whether each case is for its device, or for whichever is free.
    """
    cases = cases or (TORCH,)
    root = Variant("pt2", "fp32", digest([model, "pt2", "fp32"]), "test:Source", None, {})
    variants = {("pt2", "fp32"): root}
    for _, format_, recipe in cases:
        key = digest([model, format_, recipe])
        parent = None if recipe == "original" else root.key  # a user's file is made of nothing else
        variants.setdefault((format_, recipe), Variant(format_, recipe, key, "test:Converter", parent, {}))
    made = Plan(digest([[device.key for device in devices], cases, model, repeats, list(threads), salt]))
    made.unsupported = list(unsupported)
    for variant in variants.values():
        task = ConvertTask(entry=variant.entry, format=variant.format, recipe=variant.recipe, input_format="pt2")
        if variant.parent is None:
            task = replace(task, model=ModelRequest(name=model), input_format=None)
        made.conversions.append(PlannedConversion(variant, model, task, on_this_host=variant.parent is None))
    for repeat in range(repeats):
        for runtime, format_, recipe in cases:
            for device in devices:
                for count in threads:
                    task = MeasureTask(
                        runtime=runtime,
                        entry="test:Runtime",
                        format=format_,
                        recipe=recipe,
                        model=model,
                        weights="random",
                        compute_unit="cpu",
                        options=Options(threads=count),
                    )
                    case_key = digest([model, runtime, format_, recipe, count, device.key])
                    variant = variants[format_, recipe]
                    made.measurements.append(
                        PlannedMeasurement(variant, task, device if pinned else None, repeat, case_key)
                    )
    return made


def describe(order: Order) -> str:
    """An order in three words."""
    tasks = {"convert": order.convert, "measure": order.measure, "profile": order.profile, "evaluate": order.evaluate}
    [(kind, task)] = [(kind, task) for kind, task in tasks.items() if task is not None]
    return f"{kind} {task.format} {task.recipe}"


def in_turn(*outcomes: Outcome, then: Outcome | None = None) -> Callable[[Order], Outcome]:
    """A script for measurements, one outcome after the other; conversions succeed."""
    left = list(outcomes)

    def play(order: Order) -> Outcome:
        if order.convert is not None:
            return Succeed()
        return left.pop(0) if left else (then or Succeed())

    return play


def only(kind: str, outcome: Outcome) -> Callable[[Order], Outcome]:
    """A script that plays an outcome for every order described so ("convert onnx fp32"); all others succeed."""
    return lambda order: outcome if describe(order).startswith(kind) else Succeed()


def of_invocations_in_turn(monkeypatch: pytest.MonkeyPatch, *statistics: str) -> None:
    """Measurements are of tools that print these statistics, one after the other."""
    measured, left = scripted._measurement, list(statistics)

    def measure(*about: Any) -> Measurement:
        made = measured(*about)
        return replace(made, timings=replace(made.timings, of_invocations=left.pop(0)))  # type: ignore[arg-type]

    monkeypatch.setattr(scripted, "_measurement", measure)


def check_history(farm: Farm) -> None:
    """Every change of state left an event: replaying them gives each job's and attempt's state."""
    with reading(farm.engine) as connection:
        for entity, table in (("job", jobs), ("attempt", attempts)):
            states = {row.id: row.state for row in connection.execute(select(table.c.id, table.c.state))}
            replayed: dict[int, str] = {}
            for event in connection.execute(select(events).where(events.c.entity == entity).order_by(events.c.id)):
                assert event.before == replayed.get(event.entity_id), (entity, event)
                assert event.who
                replayed[event.entity_id] = event.after
            assert replayed == states


def check_counts(farm: Farm) -> None:
    """What always holds: one live attempt at most per place and job, results that count once, points that add up."""
    live = farm.live()
    for name in ("place", "job_id"):
        taken = [getattr(row, name) for row in live]
        assert len(taken) == len(set(taken))
    assert sorted(row.job_id for row in live) == sorted(row.id for row in farm.jobs(jobs.c.state == "running"))
    attempt_states = {row.id: row.state for row in farm.attempts()}
    counted: dict[int, int] = {}
    for row in farm.results():
        assert attempt_states[row.attempt_id] == ("stale" if row.stale else "finished")
        if not row.stale:
            counted[row.job_id] = counted.get(row.job_id, 0) + 1
    succeeded = {row.id for row in farm.jobs(jobs.c.kind == "measure", jobs.c.state == "succeeded")}
    assert counted == dict.fromkeys(succeeded, 1)
    assert sum(row.repeats for row in farm.points()) <= len(counted)
    known = {row.key for row in farm.rows(artifacts)}
    makers = {row.makes_key for row in farm.jobs(jobs.c.state.in_(OPEN_JOB)) if row.makes_key is not None}
    for row in farm.jobs(jobs.c.state.in_(("blocked", "queued")), jobs.c.needs_key.is_not(None)):
        if row.state == "queued":
            assert row.needs_key in known, f"{row.title} is queued without its artifact"
        else:
            assert row.needs_key in makers, f"{row.title} waits for what nobody makes"
