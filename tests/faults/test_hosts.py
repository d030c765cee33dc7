"""Faults at any moment on a farm as its users start it: nothing lost, nothing twice, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, select

from device_registry.database import open_engine, reading
from device_registry.registry import devices, hosts
from scheduler.states import attempts, events, jobs
from tests.faults.hosts import LEASE_S, Lab, LabHost, wait_until, why_not
from tests.faults.invariants import idle_violations, open_jobs, results
from tests.postgres import PostgresServer, binaries

_LACKING = why_not() or ("PostgreSQL's server is not installed" if binaries() is None else None)
pytestmark = [
    pytest.mark.skipif(_LACKING is not None and "CI" not in os.environ, reason=_LACKING or ""),
    pytest.mark.timeout(280),
]

MODELS = ("sim/mobilenet", "sim/tiny", "sim/detector", "sim/transformer")
#: Never warm, so that each attempt takes the same time: about 3 s.
FLEET = {"seed": 1, "time_scale": 0.6, "devices": [{"count": 3, "model": "Pixel 8", "thermal": None}]}
#: The dispatcher gives up what it has not heard of for so long, and no earlier.
EXPIRY_S = LEASE_S + 10


class Farm:
    """A farm of two hosts with three simulated devices each, on PostgreSQL."""

    def __init__(self) -> None:
        self.server = PostgresServer()
        self.lab = Lab(self.server.url())
        self.engine: Engine = open_engine(self.server.url())
        self._seed = 0
        fleet = self.lab.folder / "fleet.json"
        fleet.write_text(json.dumps(FLEET))
        self.options = ("--only", "sim", "--simulate", str(fleet), "--label", "rack=r1")
        self.a, self.b = self.lab.host("a"), self.lab.host("b")

    def begin(self) -> None:
        """Bring everything up."""
        self.lab.start_head()
        self.service = self.lab.up()
        for host in (self.a, self.b):
            host.join(*self.options)
        for host in (self.a, self.b):
            wait_until(host.has_joined, 90, doing=f"{host.host} joined")
        self.all_online()

    def close(self) -> None:
        self.engine.dispose()
        self.lab.close()
        self.server.remove()

    def online(self) -> set[str]:
        return {host["name"] for host in self.lab.document("hosts", "list") if host["presence"] == "online"}

    def all_online(self) -> None:
        wait_until(lambda: self.online() == {"a", "b"}, 60, doing="both hosts online")

    def submit(self, repeats: int = 2, *models: str, fresh: bool = False) -> int:
        """A measurement of each model on each device and repeat; with conversions where they are to be fresh ones."""
        self._seed += fresh
        words = ("--runtime", "sim", "--recipe", "fp32", "--no-gate", "--seed", str(self._seed if fresh else 0))
        return int(self.lab.document("submit", *(models or MODELS[:1]), *words, "--repeats", str(repeats))["run"])

    def submit_and_hold(self) -> tuple[int, LabHost, LabHost]:
        """A run whose conversion a runner is at, and stays at; the host where, and the other."""
        with ThreadPoolExecutor(1) as pool:
            submitting = pool.submit(self.submit, 1, fresh=True)
            wait_until(lambda: [*self.a.runners(), *self.b.runners()], 60, doing="a conversion runs")
            here, other = (self.a, self.b) if self.a.runners() else (self.b, self.a)
            here.signal(signal.SIGSTOP, here.runners())
            assert len(here.runners()) == 1
            return submitting.result(), here, other

    def running(self, run: int) -> int:
        """Measurements that run now."""
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(attempts.c.id)
                .join(jobs, jobs.c.id == attempts.c.job_id)
                .where(jobs.c.sweep_run_id == run, jobs.c.kind == "measure", attempts.c.state == "running")
            )
            return len(rows.all())

    def submit_and_run(self, repeats: int = 2) -> int:
        """A run of which every device measures the first repeat."""
        run = self.submit(repeats)
        wait_until(lambda: self.running(run) == 6, 60, doing="six measurements at a time")
        return run

    def done(self, run: int, timeout_s: float = 120) -> list[int]:
        """Wait until all is done, see that what must hold does; returns how many attempts each job of a run took."""
        wait_until(lambda: open_jobs(self.engine) == 0, timeout_s, doing="every job done")
        assert idle_violations(self.engine) == []
        with reading(self.engine) as connection:
            rows = connection.execute(select(jobs).where(jobs.c.sweep_run_id == run)).all()
        assert {row.state for row in rows} == {"succeeded"}, [(row.title, row.failure_message) for row in rows]
        for host in (self.a, self.b):
            wait_until(lambda host=host: not host.runners(), 60, doing="no runner left")
        return [row.attempts for row in rows if row.kind == "measure"]

    def tries(self, run: int) -> int:
        """Attempts that the one conversion of a run took."""
        with reading(self.engine) as connection:
            query = select(jobs.c.attempts).where(jobs.c.sweep_run_id == run, jobs.c.kind == "convert")
            return int(connection.execute(query).scalar_one())

    def measured(self, run: int) -> Counter[tuple[str, bool | None]]:
        """How many attempts at measurements ended in a state, with a result that is stale or not, or with none."""
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(attempts.c.state, results.c.stale)
                .join(jobs, jobs.c.id == attempts.c.job_id)
                .outerjoin(results, results.c.attempt_id == attempts.c.id)
                .where(jobs.c.sweep_run_id == run, jobs.c.kind == "measure")
            )
            return Counter((row.state, row.stale) for row in rows)

    def presence_of(self, host: str) -> list[str]:
        """What a host was, one after the other."""
        with reading(self.engine) as connection:
            came = select(events.c.after).join(hosts, hosts.c.id == events.c.entity_id)
            rows = connection.execute(came.where(hosts.c.name == host, events.c.entity == "host").order_by(events.c.id))
            return list(rows.scalars())

    def given_up(self, run: int, since: float, host: str = "") -> list[float]:
        """Seconds from a moment to each time that a job of a run was queued again, on devices of one host or of all."""
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(events.c.at)
                .join(jobs, jobs.c.id == events.c.entity_id)
                .join(devices, devices.c.id == jobs.c.device_id)
                .where(events.c.entity == "job", events.c.before == "running", events.c.after == "queued")
                .where(jobs.c.sweep_run_id == run, devices.c.name.startswith(host))
            )
            return sorted(row.at.timestamp() - since for row in rows)


@pytest.fixture(scope="module")
def farm() -> Iterator[Farm]:
    assert _LACKING is None, _LACKING
    made = Farm()
    try:
        made.begin()
        yield made
    finally:
        made.close()


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[str, Any], None]:
    """Says what was measured, for whoever runs with -s."""

    def say(what: str, value: Any) -> None:
        record_property(what, value)
        print(f"\n{what}: {value}")

    return say


def test_a_dispatcher_that_is_killed_or_ended_is_replaced_and_no_job_notices(farm: Farm) -> None:
    run = farm.submit_and_run(4)
    second = farm.lab.up("second.out")
    wait_until(lambda: "standing by" in farm.lab.said("second.out"), 60, doing="the second stands by")
    farm.service.kill()
    wait_until(lambda: "dispatching" in farm.lab.said("second.out"), 60, doing="the second takes over")
    third = farm.lab.up("third.out")
    wait_until(lambda: "standing by" in farm.lab.said("third.out"), 60, doing="the third stands by")
    second.send_signal(signal.SIGTERM)
    assert second.wait(timeout=60) == 0
    assert "hosts go on with what they run" in farm.lab.said("second.out")
    farm.service = third
    assert set(farm.done(run)) == {1}


def test_a_short_absence_disturbs_nothing(farm: Farm) -> None:
    run = farm.submit_and_run(3)
    farm.a.pull_cable()
    farm.b.raylet().suspend()
    time.sleep(LEASE_S / 2)
    farm.a.plug_cable()
    time.sleep(LEASE_S)
    farm.b.raylet().resume()
    assert set(farm.done(run)) == {1}


def test_the_database_server_may_be_killed(farm: Farm) -> None:
    run = farm.submit_and_run()
    farm.server.kill()
    time.sleep(1.5)
    farm.server.start()
    assert set(farm.done(run)) == {1}
    assert "the database is back" in farm.lab.said("third.out")


def test_a_killed_agent_is_replaced(farm: Farm) -> None:
    run = farm.submit_and_run()
    farm.a.signal(signal.SIGKILL, farm.a.agents())
    assert sorted(farm.done(run)) == [1] * 9 + [2] * 3


def test_a_killed_runner_is_tried_again(farm: Farm) -> None:
    run, here, _ = farm.submit_and_hold()
    here.signal(signal.SIGKILL, here.runners())
    farm.done(run)
    assert farm.tries(run) == 2


def test_a_killed_raylet_and_a_host_of_which_only_a_runner_outlives(
    farm: Farm, report: Callable[[str, Any], None]
) -> None:
    converting, dead, other = farm.submit_and_hold()
    run = farm.submit_and_run()
    agents, orphans = other.agents(), dead.runners()
    killed = time.time()
    other.raylet().kill()
    dead.signal(signal.SIGKILL, [process for process in dead.processes() if process not in orphans])
    # Sooner than Ray would end it.
    wait_until(lambda: not any(agent.is_running() for agent in agents), 15, doing="the agent ends itself")
    agent_s = time.time() - killed
    wait_until(lambda: len(farm.given_up(run, killed)) == 6, 60, doing="jobs queued again")
    requeued = {host.host: farm.given_up(run, killed, host.host) for host in (other, dead)}
    report("killed raylet, dead host: agent of the first gone, jobs queued again after s", (agent_s, requeued))
    # Workers outlive a killed raylet by minutes.
    assert max(requeued[other.host][-1], requeued[dead.host][-1]) < 3 * EXPIRY_S
    assert dead.processes() == orphans  # nobody is there to end it
    dead.join(*farm.options)
    assert sorted(farm.done(run)) == [1] * 6 + [2] * 6
    assert farm.tries(converting) == 2
    farm.all_online()


def test_a_frozen_host_and_a_pulled_cable_outlast_the_lease(farm: Farm, report: Callable[[str, Any], None]) -> None:
    converting, frozen, cut_off = farm.submit_and_hold()
    run = farm.submit_and_run()
    began = time.time()
    frozen.signal(signal.SIGSTOP)
    cut_off.pull_cable()
    wait_until(lambda: len(farm.given_up(run, began)) == 6, EXPIRY_S + 45, doing="jobs queued again")
    frozen.signal(signal.SIGCONT)
    cut_off.plug_cable()
    attempts_each = farm.done(run, 90)
    requeued_s = farm.given_up(run, began)
    report("frozen, and cut off: jobs queued again after s", requeued_s)
    assert requeued_s[0] > LEASE_S + 5
    assert requeued_s[5] < LEASE_S + 15
    assert sorted(attempts_each) == [1] * 6 + [2] * 6
    assert farm.tries(converting) == 2
    # What was cut off went on to its end: its results came late, are kept, and count for nothing.
    ended = farm.measured(run)
    assert ended["finished", False] == 12
    assert ended["stale", True] >= 3
    assert ended["stale", True] + ended["stale", None] == 6
    assert ended.total() == 18
    farm.all_online()


def test_a_full_disk_fails_what_needs_it_and_the_other_host_does_it(farm: Farm) -> None:
    def failed_there() -> bool:
        full = select(attempts.c.id).join(hosts, hosts.c.id == attempts.c.host_id).where(hosts.c.name == "a")
        with reading(farm.engine) as connection:
            return connection.execute(full.where(attempts.c.message.like("no space left%"))).first() is not None

    farm.a.on_disk(f"dd if=/dev/zero of={farm.a.home}/filler bs=1M status=none || true")
    assert not failed_there()
    farm.done(farm.submit(1, *MODELS, fresh=True))  # more conversions than the other host takes at a time
    assert failed_there()
    farm.a.on_disk(f"rm {farm.a.home}/filler")
    farm.all_online()


def test_hosts_that_cannot_join_are_told_why(farm: Farm) -> None:
    stranger = farm.lab.folder / "other-token"
    stranger.write_text("0" * 64)
    stranger.chmod(0o600)
    second, wrong, lost = (farm.lab.host(name) for name in ("c", "d", "e"))
    second.join("--name", "a", *farm.options)
    wrong.join("--token-file", str(stranger), *farm.options)
    lost.join(*farm.options, head="10.77.0.99:6379")
    for host, code, sentence in (
        (second, 2, f"a host named a is in the farm already, at {farm.a.address}"),
        (wrong, 2, "does not accept the token"),
        (lost, 1, "nothing answers at 10.77.0.99:6379"),
    ):
        assert host.joined is not None
        assert host.joined.wait(timeout=60) == code
        assert sentence in host.said()
        assert len(host.said().strip().splitlines()) == 1
        assert host.processes() == []


def test_leaving_leaves_nothing_behind(farm: Farm) -> None:
    run = farm.submit_and_run(3)  # so many that none of its devices can run out of work before it has gone
    assert farm.b.joined is not None
    left = time.time()
    farm.b.joined.send_signal(signal.SIGTERM)
    assert farm.b.joined.wait(timeout=60) == 0
    assert farm.b.processes() == []
    assert "left the farm" in farm.b.said()
    wait_until(lambda: farm.presence_of("b")[-1] == "left", 60, doing="b known to have left")
    # All that it had was handed back, for it said goodbye: none waited for a lease that ran out.
    assert len(farm.given_up(run, left, "b")) == 3
    assert max(farm.given_up(run, left, "b")) < EXPIRY_S
    farm.b.join(*farm.options)
    assert set(farm.done(run)) == {1}  # going was no fault of theirs
