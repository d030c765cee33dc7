"""Whatever happens in whatever order: nothing is lost, nothing runs twice at once, nothing is counted twice."""

from __future__ import annotations

import tempfile
from pathlib import Path

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

from device_registry.errors import UsageError
from scheduler.executors.executor import HostLostError
from scheduler.executors.scripted import Outcome, Succeed
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

_ANY = st.integers(0, 1000)
_REPORTS = st.sampled_from([Succeed(), Succeed(p50_ms=2.0, verdict="throttled"), BROKEN, CRASHED, UNSUPPORTED])


class FarmMachine(RuleBasedStateMachine):
    """A farm of two phones, on whose jobs, agents and dispatchers everything may befall."""

    database: Path

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.farm = Farm(Path(self._folder.name), self.database, kind="phone", devices=2)

    @initialize(ready=st.booleans())
    def begin(self, ready: bool) -> None:
        """Start with work, half of the time with what is to be measured already made."""
        if ready:
            self.farm.run(plan_of(self.farm.devices()[:1], TORCH, ONNX, model="m0"))
        self.farm.play("silent")
        self.submit(0, 2)
        self.work(2)

    @rule(model=st.integers(0, 1), repeats=st.integers(1, 2))
    def submit(self, model: int, repeats: int) -> None:
        """Ask for a model: a resumed run, one that shares artifacts, or a new one."""
        self.farm.submit(plan_of(self.farm.devices(), TORCH, ONNX, model=f"m{model}", repeats=repeats))

    @rule(rounds=st.integers(1, 4))
    def work(self, rounds: int) -> None:
        """A few rounds."""
        for _ in range(rounds):
            self.farm.tick()

    @rule(seconds=st.sampled_from([5, 30, 100]))
    def sleep(self, seconds: int) -> None:
        """Nobody does anything for a while, as when a laptop sleeps."""
        self.farm.clock.advance(seconds)

    @precondition(lambda self: self.farm.executor.running)
    @rule(which=_ANY, outcome=_REPORTS)
    def finish(self, which: int, outcome: Succeed) -> None:
        """An attempt that runs reports."""
        running = sorted(self.farm.executor.running)
        self.farm.executor.finish(running[which % len(running)], outcome)

    @precondition(lambda self: self.farm.executor.orders)
    @rule(which=_ANY, outcome=_REPORTS)
    def report_late(self, which: int, outcome: Succeed) -> None:
        """An attempt that was taken at some time reports: perhaps again, perhaps after it was given up."""
        known = sorted(self.farm.executor.orders)
        self.farm.executor.finish(known[which % len(known)], outcome)

    @precondition(lambda self: self.farm.executor.running)
    @rule(which=_ANY)
    def report_under_a_false_token(self, which: int) -> None:
        """Somebody who holds no lease reports."""
        running = sorted(self.farm.executor.running)
        attempt = running[which % len(running)]
        self.farm.executor.finish(attempt, Succeed(p50_ms=1e9), token="0" * 32)
        self.farm.executor.running.add(attempt)

    @precondition(lambda self: self.farm.executor.running)
    @rule(which=_ANY)
    def forget(self, which: int) -> None:
        """The agent knows nothing of an attempt any more."""
        running = sorted(self.farm.executor.running)
        self.farm.executor.running.discard(running[which % len(running)])

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

    @rule()
    def lose_host(self) -> None:
        """The host does not answer the next order; the command ends, and another one begins."""

        def lose(order: object) -> Outcome:
            raise HostLostError

        self.farm.play(lose)
        try:
            self.farm.tick()
        except HostLostError:
            self.farm.dispatcher.stop()
            self.farm.dispatcher = self.farm.new_dispatcher()
        self.farm.play("silent")

    @rule(stopped=st.booleans(), agent=st.sampled_from(["lives", "restarts", "is new"]))
    def restart(self, stopped: bool, agent: str) -> None:
        """The dispatcher ends, in order or killed, and another one begins; its agent may have died too."""
        if stopped:
            self.farm.dispatcher.stop()
        if agent == "restarts":
            self.farm.executor.restart()
        elif agent == "is new":
            self.farm.executor = self.farm.new_executor("here", kind="phone", devices=2)
            self.farm.play("silent")
        self.farm.dispatcher = self.farm.new_dispatcher()

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
        for attempt in sorted(self.farm.executor.running):
            self.farm.executor.finish(attempt, Succeed())
        for _ in range(60):
            if not self.farm.jobs(jobs.c.state.in_(OPEN_JOB)):
                break
            self.farm.tick(seconds=5)
        self.invariants_hold()
        assert self.farm.jobs(jobs.c.state.in_(OPEN_JOB)) == []


def test_whatever_happens_no_job_is_lost_and_none_counts_twice(empty_database: Path) -> None:
    class Machine(FarmMachine):
        database = empty_database

    run_state_machine_as_test(
        Machine,
        # The same examples every time; not shrunk, which takes minutes with a database behind every step.
        settings=settings(
            max_examples=20,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.generate,),
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
