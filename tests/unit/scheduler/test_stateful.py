"""Whatever happens in whatever order: nothing is lost, nothing runs twice at once, nothing is counted twice."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Literal

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from device_registry.capabilities import DeviceDescription
from device_registry.errors import UsageError
from scheduler.dispatcher import Dispatcher
from scheduler.executors.scripted import ScriptedHost, Succeed
from scheduler.leases import LeaseLostError
from scheduler.queue import artifacts
from scheduler.states import OPEN_JOB, jobs
from tests.unit.scheduler.builders import (
    BROKEN,
    CRASHED,
    ONNX,
    TORCH,
    UNSUPPORTED,
    Farm,
    check_counts,
    check_history,
    plan_of,
)
from tests.unit.scheduler.databases import Databases, SqliteDatabases

_ANY = st.integers(0, 1000)
_REPORTS = st.sampled_from([Succeed(), Succeed(p50_ms=2.0, verdict="throttled"), BROKEN, CRASHED, UNSUPPORTED])


class FarmMachine(RuleBasedStateMachine):
    """A farm of two hosts with a phone or two, on whose jobs, agents and dispatchers everything may befall."""

    databases: Databases

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.farm = Farm(Path(self._folder.name), self.databases, kind="phone", devices=2)
        self.farm.add_host("other", kind="phone")
        self._replaced: list[Dispatcher] = []
        #: All devices of hosts that may have fewer now.
        self._devices: dict[str, list[DeviceDescription]] = {}

    def host(self, which: int) -> ScriptedHost:
        """One of the hosts."""
        return self.farm.hosts[which % len(self.farm.hosts)]

    def running(self) -> list[tuple[ScriptedHost, int]]:
        """What runs on the hosts."""
        return [(host, attempt) for host in self.farm.hosts for attempt in sorted(host.running)]

    def taken(self) -> list[tuple[ScriptedHost, int]]:
        """What the hosts were ever given."""
        return [(host, attempt) for host in self.farm.hosts for attempt in sorted(host.orders)]

    @initialize(ready=st.booleans())
    def begin(self, ready: bool) -> None:
        """Start with work, half of the time with what is to be measured already made."""
        if ready:
            self.farm.run(plan_of(self.farm.devices()[:1], TORCH, ONNX, model="m0"))
        self.farm.play("silent")
        self.submit(0, 2)
        self.work(2)

    @rule(model=st.integers(0, 1), repeats=st.integers(1, 2), pinned=st.booleans())
    def submit(self, model: int, repeats: int, pinned: bool = True) -> None:
        """Ask for a model, on every device or on any: a resumed run, one that shares artifacts, or a new one."""
        devices = self.farm.devices() if pinned else self.farm.devices()[:1]
        plan = plan_of(devices, TORCH, ONNX, model=f"m{model}", repeats=repeats, pinned=pinned, salt=str(pinned))
        self.farm.submit(plan)

    @rule(rounds=st.integers(1, 4))
    def work(self, rounds: int) -> None:
        """A few rounds."""
        for _ in range(rounds):
            self.farm.tick()

    @rule(seconds=st.sampled_from([5, 30, 100]))
    def sleep(self, seconds: int) -> None:
        """Nobody does anything for a while, as when a laptop sleeps."""
        self.farm.clock.advance(seconds)

    @precondition(lambda self: self.running())
    @rule(which=_ANY, outcome=_REPORTS)
    def finish(self, which: int, outcome: Succeed) -> None:
        """An attempt that runs reports."""
        host, attempt = self.running()[which % len(self.running())]
        host.finish(attempt, outcome)

    @precondition(lambda self: self.taken())
    @rule(which=_ANY, outcome=_REPORTS)
    def report_late(self, which: int, outcome: Succeed) -> None:
        """An attempt that was taken at some time reports: perhaps again, perhaps after it was given up."""
        host, attempt = self.taken()[which % len(self.taken())]
        host.finish(attempt, outcome)

    @precondition(lambda self: self.running())
    @rule(which=_ANY)
    def report_under_a_false_token(self, which: int) -> None:
        """Somebody who holds no lease reports."""
        host, attempt = self.running()[which % len(self.running())]
        host.finish(attempt, Succeed(p50_ms=1e9), token="0" * 32)
        host.running.add(attempt)

    @precondition(lambda self: self.running())
    @rule(which=_ANY)
    def forget(self, which: int) -> None:
        """The agent knows nothing of an attempt any more."""
        host, attempt = self.running()[which % len(self.running())]
        host.running.discard(attempt)

    @rule(which=_ANY)
    def cancel(self, which: int) -> None:
        """The user wants a job no more."""
        known = self.farm.jobs()
        try:
            self.farm.cancel(known[which % len(known)].id)
        except UsageError:
            return  # it was over already

    @precondition(lambda self: self.farm.followed)
    @rule(which=_ANY)
    def leave(self, which: int) -> None:
        """The user interrupts a run."""
        followed = sorted(self.farm.followed)
        self.farm.leave(followed[which % len(followed)])

    @precondition(lambda self: self.farm.rows(artifacts))
    @rule(which=_ANY)
    def damage(self, which: int) -> None:
        """A stored file is damaged: an artifact or one of its companions."""
        stored = self.farm.rows(artifacts)
        row = stored[which % len(stored)]
        files = sorted({row.sha256, *row.companions.values()})
        sha256 = files[which % len(files)]
        if self.farm.store.has(sha256):
            self.farm.damage(sha256)

    @rule(which=_ANY, state=st.sampled_from(["silent", "lost", "dead"]))
    def lose_host(self, which: int, state: Literal["silent", "lost", "dead"]) -> None:
        """A host falls silent, is lost, or dies: what it ran dies with it then."""
        host = self.host(which)
        host.state = state
        if state == "dead":
            host.running.clear()

    @rule(which=_ANY)
    def find_host(self, which: int) -> None:
        """It answers again."""
        self.host(which).state = "answers"

    @rule(which=_ANY, deaf=st.booleans())
    def deafen(self, which: int, deaf: bool) -> None:
        """Orders get lost on their way to a host, or arrive again."""
        self.host(which).deaf = deaf

    @rule(which=_ANY)
    def replug(self, which: int) -> None:
        """A device is pulled out of its host, or plugged in again."""
        host = self.host(which)
        every = self._devices.setdefault(host.name, list(host.devices))
        host.plug(every[:-1] if len(host.devices) == len(every) else every)

    @rule(seconds=st.sampled_from([-7200, 7200]))
    def set_clock(self, seconds: int) -> None:
        """Somebody sets the wall clock."""
        self.farm.clock.jump(seconds)

    @rule(which=_ANY, agent=st.sampled_from(["restarts", "is new"]))
    def restart_agent(self, which: int, agent: str) -> None:
        """An agent dies, and another one begins."""
        if agent == "restarts":
            self.host(which).restart()
        else:
            self.farm.replace_host(which % len(self.farm.hosts))
            self.farm.dispatcher = self.farm.new_dispatcher()
            self.farm.play("silent")

    @rule(how=st.sampled_from(["stops", "leaves", "is killed", "is replaced"]))
    def restart_dispatcher(self, how: str) -> None:
        """The dispatcher ends, in order or killed, or is thought to be dead; another one begins."""
        if how == "stops":
            self.farm.dispatcher.stop()
        elif how == "leaves":
            self.farm.dispatcher.leave()
        elif how == "is replaced":
            self._replaced.append(self.farm.dispatcher)
        self.farm.dispatcher = self.farm.new_dispatcher()

    @precondition(lambda self: self._replaced)
    @rule()
    def wake_replaced(self) -> None:
        """A dispatcher that was frozen goes on, and hears that it is none any more."""
        with suppress(LeaseLostError):
            self._replaced.pop().tick()
            raise AssertionError("two dispatchers")

    @invariant()
    def invariants_hold(self) -> None:
        """At any moment."""
        check_counts(self.farm)
        check_history(self.farm)

    def teardown(self) -> None:
        """When everybody behaves again, every job that somebody waits for comes to an end."""
        try:
            self._behave()
        finally:
            self.farm.close()
            self._folder.cleanup()

    def _behave(self) -> None:
        self.farm.followed = {row.sweep_run_id for row in self.farm.jobs(jobs.c.state.in_(OPEN_JOB))}
        self.farm.play(Succeed())
        for host in self.farm.hosts:
            host.state, host.deaf = "answers", False
            if host.name in self._devices:
                host.plug(self._devices[host.name])
        for host, attempt in self.running():
            host.finish(attempt, Succeed())
        for _ in range(80):
            if not self.farm.jobs(jobs.c.state.in_(OPEN_JOB)):
                break
            self.farm.tick(seconds=5)
        self.invariants_hold()
        assert self.farm.jobs(jobs.c.state.in_(OPEN_JOB)) == []


def test_whatever_happens_no_job_is_lost_and_none_counts_twice(databases: Databases) -> None:
    class Machine(FarmMachine):
        pass

    Machine.databases = databases

    run_state_machine_as_test(
        Machine,
        # The same examples every time; not shrunk, which takes minutes with a database behind every step.
        settings=settings(
            # What differs on PostgreSQL are statements, and a few examples make them all.
            max_examples=12 if isinstance(databases, SqliteDatabases) else 4,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.generate,),
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
