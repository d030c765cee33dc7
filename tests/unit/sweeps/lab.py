"""A farm of simulated phones on a scripted host: real plans, a real database, and results that a script makes up."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import select

from device_registry.capabilities import DeviceDescription, HostDescription
from device_registry.database import reading
from device_registry.registry import list_hosts
from scheduler.executors.scripted import ScriptedHost
from scheduler.farm import Fleet, Ground
from scheduler.states import jobs
from scheduler.sweeps.file import SweepFile, read_sweep
from scheduler.sweeps.resuming import Resumed, resume_sweep
from scheduler.sweeps.running import Prepared, SweepSubmitted, prepare, submit_sweep
from scheduler.sweeps.submission import Submission
from tests.unit.scheduler import builders
from tests.unit.scheduler.databases import Databases
from workers.host import describe_host

MODELS = ("Pixel 8", "Pixel 8", "Galaxy S24")
#: One case per phone.
TINY = "name: night\nmodels: [sim/tiny]\nrecipes: fp32\nrepeats: 2\n"


@cache
def _this_host() -> HostDescription:
    return describe_host()


class Lab(builders.Farm):
    """See the module."""

    def __init__(self, folder: Path, databases: Databases) -> None:
        """Make it."""
        super().__init__(folder, databases, kind="sim", devices=len(MODELS))

    def new_host(self, name: str, *, kind: str = "cpu", devices: int = 1) -> ScriptedHost:
        """A host that offers what this one does."""
        found = [
            DeviceDescription(
                key=f"sim:{name}:{number}",
                name=f"d{number}",
                kind=kind,
                driver="scripted",
                attributes={"simulated": True, "model": MODELS[number], "compute_unit": "sim"},
            )
            for number in range(devices)
        ]
        return ScriptedHost(self.store, self.folder, replace(_this_host(), key=name, name=name), found)

    def ground(self) -> Ground:
        """See `scheduler.farm.Farm`."""
        with reading(self.engine) as connection:
            hosts = list_hosts(connection)
        return Ground(Fleet(hosts, self.devices(), hosts[0].id), store=None, of_the_farm=True)

    def stands_on(self, ground: Ground, run_id: int) -> None:
        """See `scheduler.farm.Farm`."""

    def read(self, text: str = TINY) -> SweepFile:
        """A sweep in the lab's folder."""
        return read_sweep(text, self.folder, source="night.yaml")

    def prepare(self, text: str = TINY, **submission: Any) -> Prepared:
        """A sweep as it would be submitted now."""
        return prepare(self, self.read(text), Submission(**submission), self.clock())  # type: ignore[arg-type]

    def sweep(self, text: str = TINY, *, work: bool = True, **submission: Any) -> SweepSubmitted:
        """Submit a sweep, and work until it is done."""
        made = submit_sweep(self, self.read(text), Submission(**submission), follow=False, now=self.clock())  # type: ignore[arg-type]
        if work:
            self.work()
        return made

    def resume(self, run_id: int, **how: Any) -> Resumed:
        """Take a run up again."""
        return resume_sweep(self, run_id, who="tester", follow=False, now=self.clock(), **how)  # type: ignore[arg-type]

    def work(self, rounds: int = 200) -> None:
        """Work until nothing is open."""
        for _ in range(rounds):
            with reading(self.engine) as connection:
                waiting = connection.execute(
                    select(jobs.c.id).where(jobs.c.state.in_(("blocked", "queued", "running"))).limit(1)
                ).first()
            if waiting is None:
                return
            self.tick()
        raise AssertionError(f"not done after {rounds} rounds: {self.states()}")
