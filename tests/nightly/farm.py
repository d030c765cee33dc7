"""Drives a made-up lab through its nights: each one's sweep is submitted, dispatched, and looked at by chores."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, Row, Table, exists, select, update

from device_registry.database import reading, writing
from device_registry.registry import RegisteredDevice, list_devices
from scheduler import runs
from scheduler.conversions import Variant, digest
from scheduler.dispatcher import Dispatcher
from scheduler.leases import DispatcherLease
from scheduler.plan import Plan, PlannedConversion, PlannedMeasurement
from scheduler.queue import sweep_runs
from scheduler.request import Request
from scheduler.states import OPEN_JOB, jobs
from tests.nightly.lab import PROCESS_S, Lab, LabExecutor
from tests.nightly.world import World
from workers.contract import ConvertTask, MeasureTask, ModelRequest

#: The sweep's name, and how long a job waits for its device: not until the next night.
SWEEP, _WAIT_S = "nightly", 2 * 3600.0
#: Between rounds in which nothing happens; and after so long the next night comes, whatever is still open.
_IDLE_S, _LONGEST = 50.0, timedelta(hours=3)
#: Rounds between looks at what is due, while jobs are open.
_CHORES_EVERY = 4
#: A chore of the farm: does what is due, and returns something true if there was anything.
Chore = Callable[[Any, datetime], Any]


def watching() -> tuple[Chore, ...]:
    """What the farm does about points: trials step by step, and the watch."""
    from scheduler.regressions.watch import watch_step
    from scheduler.trials import step_trials

    return step_trials, watch_step


class NightlyFarm:
    """A farm of one lab on a real database, in virtual time.

    Everything goes its real way but the planning (cases are made here, for there are hundreds of models) and the lab.
    """

    def __init__(
        self,
        engine: Engine,
        world: World,
        models: Sequence[str],
        *,
        recipes: Sequence[str] = ("fp32",),
        repeats: int = 5,
        rebuilt: Callable[[str], bool] = lambda model: True,
        chores: Sequence[Chore] | None = None,
    ) -> None:
        """Make a farm.

        Args:
            engine: of a database with the schema and no rows.
            world: what is true.
            models: what is swept.
            recipes: of each.
            repeats: processes of each case and night.
            rebuilt: whether a model has a new artifact each night, or the same one for ever.
            chores: what is done between rounds; default: `watching`.
        """
        self.engine, self.world, self.models = engine, world, list(models)
        self._recipes, self._repeats, self._rebuilt = list(recipes), repeats, rebuilt
        self._chores = tuple(watching() if chores is None else chores)
        self.now = world.start
        self._passed_s = 1000.0
        self.night = 0
        self.lab = Lab(world, lambda: self.now)
        #: Seconds of this machine, by what they went to.
        self.spent_s: defaultdict[str, float] = defaultdict(float)
        self.dispatcher = self.new_dispatcher()
        self._devices: dict[str, RegisteredDevice] = {}
        self._tasks: dict[tuple[str, str], MeasureTask] = {}

    def close(self) -> None:
        """Give the role back."""
        self.dispatcher.leave()

    def new_dispatcher(self) -> Dispatcher:
        """One that took the lease and greeted the lab."""
        lease = DispatcherLease(lambda: self._passed_s)
        with writing(self.engine) as connection:
            assert lease.acquire(connection, self.now)
        dispatcher = Dispatcher(self.engine, LabExecutor(self.lab), lease, lambda: self.now, lambda: self._passed_s)
        for _ in range(2):
            dispatcher.tick(may_claim=lambda connection: False)
        return dispatcher

    def pass_night(self, **run: Any) -> int:
        """The next night: its sweep is run and looked at, whatever that takes. Returns the run.

        Args:
            run: columns of its row; its revision is "r" and the night's number, if it is not told.
        """
        self.now = self.world.start + timedelta(days=self.night)
        self._passed_s = 1000.0 + 86400 * self.night
        self.lab.look()
        for _ in range(3):
            self._round()
        run_id = self.submit(**run)
        self.settle()
        self.night += 1
        return run_id

    def submit(self, **run: Any) -> int:
        """Submit the sweep of this night."""
        began = time.perf_counter()
        with reading(self.engine) as connection:
            known = list_devices(connection)
        request = Request(models=tuple(self.models), repeats=self._repeats, queue_timeout_s=_WAIT_S)
        columns = {"sweep": SWEEP, "watched": True, "revision": f"r{self.night}", **run}
        with writing(self.engine) as connection:
            made = self._plan([device for device in known if device.presence == "online"])
            given: dict[str, Any] = {"owner": SWEEP, "this_host_id": None, "now": self.now, "follow": False}
            run_id = runs.submit(connection, made, request, None, **given).sweep_run_id
            connection.execute(update(sweep_runs).where(sweep_runs.c.id == run_id).values(**columns))
        self.spent_s["submit"] += time.perf_counter() - began
        return run_id

    def settle(self) -> None:
        """Work until nothing is left to do: no job is open, and no chore does anything; or until the day is over."""
        over, step_s, rounds = self.now + _LONGEST, PROCESS_S, 0
        while self.now < over:
            busy, rounds = self._round(step_s), rounds + 1
            if not busy and self._is_done():
                if not self._keep_chores() and self._is_done():  # a trial that goes on is no news of a chore
                    return
                busy = True
            elif rounds % _CHORES_EVERY == 0 and not self._is_open_of_sweep():
                busy |= self._keep_chores()
            step_s = PROCESS_S if busy else _IDLE_S

    def rows(self, table: Table, *where: Any) -> list[Row[Any]]:
        """Rows of a table by id."""
        with reading(self.engine) as connection:
            return list(connection.execute(select(table).where(*where).order_by(table.c.id)))

    def _round(self, step_s: float = PROCESS_S) -> bool:
        began = time.perf_counter()
        self.now += timedelta(seconds=step_s)
        self._passed_s += step_s
        changed = self.dispatcher.tick()
        self.spent_s["dispatch"] += time.perf_counter() - began
        return changed

    def _keep_chores(self) -> bool:
        done = False
        for chore in self._chores:
            began = time.perf_counter()
            with writing(self.engine) as connection:
                done |= bool(chore(connection, self.now))
            self.spent_s[getattr(chore, "__name__", "chore")] += time.perf_counter() - began
        return done

    def _is_done(self) -> bool:
        with reading(self.engine) as connection:
            return not connection.execute(select(exists().where(jobs.c.state.in_(OPEN_JOB)))).scalar_one()

    def _is_open_of_sweep(self) -> bool:
        mine = exists().where(sweep_runs.c.id == jobs.c.sweep_run_id, sweep_runs.c.watched)
        with reading(self.engine) as connection:
            return bool(connection.execute(select(exists().where(jobs.c.state.in_(OPEN_JOB), mine))).scalar_one())

    def _plan(self, devices: Sequence[RegisteredDevice]) -> Plan:
        made = Plan(digest([self.night, sorted(device.key for device in devices)]))
        for model in self.models:
            night = self.night if self._rebuilt(model) else 0
            for recipe in self._recipes:
                key = digest([model, recipe, night])
                variant = Variant("sim", recipe, key, "lab:Source", None, {})
                request = ModelRequest(name=model, seed=night)
                task = ConvertTask(entry=variant.entry, format="sim", recipe=recipe, model=request)
                made.conversions.append(PlannedConversion(variant, model, task, on_this_host=False))
                measure = self._tasks.setdefault(
                    (model, recipe),
                    MeasureTask(
                        runtime="sim",
                        entry="lab:Runtime",
                        format="sim",
                        recipe=recipe,
                        model=model,
                        weights="random",
                        compute_unit="sim",
                    ),
                )
                made.measurements += [
                    PlannedMeasurement(variant, measure, device, repeat, digest([model, recipe, device.key]))
                    for device in devices
                    for repeat in range(self._repeats)
                ]
        made.measurements.sort(key=lambda one: (one.repeat_no, digest([made.digest, one.case_key])))
        return made
