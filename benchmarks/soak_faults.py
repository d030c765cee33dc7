"""What goes wrong in a soak, from outside: processes, machines, cables, disks, the database. Each undoes itself."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil
from sqlalchemy import Engine

from scheduler.farm import Farm
from tests.faults.hosts import Lab, LabHost
from tests.postgres import PostgresServer

#: Short, so that faults outlast it often: agents end their work then, 10 s later it is given up.
LEASE_S = 10.0


@dataclass
class Soak:
    """The farm, what is done to it, and what was seen."""

    lab: Lab
    farm: Farm
    server: PostgresServer | None
    luck: random.Random
    hosts: list[LabHost] = field(default_factory=list)
    services: list[Any] = field(default_factory=list)
    #: Hosts that a fault has just now.
    hurt: set[str] = field(default_factory=set)
    #: What undoes the faults of now, with the time it is due.
    undo: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    submitted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)

    @property
    def engine(self) -> Engine:
        """Of the farm's database."""
        return self.farm.engine

    def log_of_service(self, number: int) -> str:
        """Where a service's lines go."""
        return f"up-{number}.out"

    def keep_services(self) -> None:
        """Two of them, one standing by: what systemd does with `Restart=always`."""
        self.services = [service for service in self.services if service.poll() is None]
        while len(self.services) < 2:
            self.services.append(self.lab.up(self.log_of_service(len(self.lab.head.started))))

    def keep_joined(self) -> None:
        """The same for hosts that are not dead just now."""
        for host in self.hosts:
            if host.host not in self.hurt and (host.joined is None or host.joined.poll() is not None):
                self.join(host)

    def join(self, host: LabHost) -> None:
        """Start a host's `benchfarm join`."""
        fleet = self.lab.folder / "fleet.json"
        host.join("--only", "sim", "--simulate", str(fleet), "--label", f"rack=r{len(host.host) % 2}")

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Undo a fault after so long."""
        self.undo.append((time.monotonic() + seconds, act))

    def undo_due(self, *, all_of_them: bool = False) -> None:
        """Undo the faults whose time is over."""
        now = time.monotonic()
        due = [act for at, act in self.undo if all_of_them or at <= now]
        self.undo = [] if all_of_them else [(at, act) for at, act in self.undo if at > now]
        for act in due:
            act()


def kill_dispatcher(soak: Soak) -> None:
    """The service that dispatches, or the one that stands by."""
    _children(soak.luck.choice(soak.services).pid, signal.SIGKILL)


def freeze_dispatcher(soak: Soak) -> None:
    """Both may think for a moment that they have the role; the lease row says who has."""
    service = soak.luck.choice(soak.services)
    _children(service.pid, signal.SIGSTOP)
    soak.later(soak.luck.uniform(5, 40), lambda: _children(service.pid, signal.SIGCONT))


def kill_agent(soak: Soak, host: LabHost) -> None:
    """The agent's process: the cluster starts another."""
    host.signal(signal.SIGKILL, host.agents())


def kill_raylet(soak: Soak, host: LabHost) -> None:
    """The host's raylet: its agent ends itself, and `join` starts another node."""
    host.signal(signal.SIGKILL, [process for process in host.processes() if process.name() == "raylet"])


def kill_host(soak: Soak, host: LabHost) -> None:
    """All of a machine at once; it boots a while later."""
    host.signal(signal.SIGKILL)
    _hurt_for(soak, host, soak.luck.uniform(3, 30), lambda: None)


def freeze_raylet(soak: Soak, host: LabHost) -> None:
    """A raylet that hangs, for less or more than the lease."""
    frozen = [process for process in host.processes() if process.name() == "raylet"]
    host.signal(signal.SIGSTOP, frozen)
    _hurt_for(soak, host, _around_lease(soak), lambda: host.signal(signal.SIGCONT, frozen))


def freeze_host(soak: Soak, host: LabHost) -> None:
    """A whole machine that sleeps, for less or more than the lease."""
    host.signal(signal.SIGSTOP)
    _hurt_for(soak, host, _around_lease(soak), lambda: host.signal(signal.SIGCONT))


def pull_cable(soak: Soak, host: LabHost) -> None:
    """A host that goes on without a network."""
    host.pull_cable()
    _hurt_for(soak, host, _around_lease(soak), host.plug_cable)


def fill_disk(soak: Soak, host: LabHost) -> None:
    """No space left in a host's data directory."""
    host.on_disk(f"dd if=/dev/zero of={host.home}/filler bs=1M status=none || true")

    def clear() -> None:
        if host.find("benchfarm join"):
            host.on_disk(f"rm -f {host.home}/filler")

    _hurt_for(soak, host, soak.luck.uniform(5, 20), clear)


def kill_runner(soak: Soak, host: LabHost) -> None:
    """A conversion's child, where one runs."""
    host.signal(signal.SIGKILL, host.runners())


def kill_database(soak: Soak) -> None:
    """The server, killed; it starts again a moment later."""
    if soak.server is not None:
        soak.server.kill()
        time.sleep(soak.luck.uniform(0.5, 5))
        soak.server.start()


#: With their weights.
OF_HOSTS = {
    kill_agent: 3,
    kill_raylet: 2,
    kill_host: 2,
    freeze_raylet: 2,
    freeze_host: 3,
    pull_cable: 3,
    fill_disk: 2,
    kill_runner: 1,
}
OF_THE_FARM = {kill_dispatcher: 3, freeze_dispatcher: 2, kill_database: 2}


def _around_lease(soak: Soak) -> float:
    """Half of the time shorter than the lease, half of the time long enough to be given up."""
    longest_s = LEASE_S + 10
    return soak.luck.choice((soak.luck.uniform(1, LEASE_S * 0.7), soak.luck.uniform(longest_s, 2 * longest_s)))


def _hurt_for(soak: Soak, host: LabHost, seconds: float, undo: Callable[[], None]) -> None:
    soak.hurt.add(host.host)

    def heal() -> None:
        undo()
        soak.hurt.discard(host.host)

    soak.later(seconds, heal)


def _children(pid: int, number: signal.Signals) -> None:
    """Signal a process and all below it: `ip netns exec` becomes the command, but may have helpers."""
    try:
        found = psutil.Process(pid)
        for process in [*found.children(recursive=True), found]:
            process.send_signal(number)
    except psutil.NoSuchProcess:
        return
