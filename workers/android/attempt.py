"""One attempt on one phone, from a clean phone to a clean phone.

Clean, bring tool and program, prepare, start, watch, bring home, undo. Where the connection breaks, the job goes on
there by itself, and is watched again when the phone is back; nobody waits longer than its grace and its deadline.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workers.android import cache, job, ownership, preparation
from workers.android.gate import power_facts
from workers.android.history import PhoneHistory
from workers.android.job import Invocation, JobState
from workers.android.job_loop import JOB, JobSpec, job_id
from workers.android.leftovers import clean
from workers.android.phone import Phone, PhoneLostError
from workers.android.proof import printable, tidy
from workers.android.provision import Provisioned, chosen_delegate, chosen_tool, ensure_tool
from workers.android.settings import Settings
from workers.android.shell import words
from workers.android.snapshot import Snapshot
from workers.android.summary import LEAST_INVOCATIONS, Sample, enough, measurement, seconds_each
from workers.android.tools.tool import PhoneTool, asked_delegate, environment, least_proven, requires_full
from workers.clock import steady
from workers.contract import Measurement, Op, Order, Profile, Result
from workers.errors import AttemptError, Cause
from workers.examples import load_examples
from workers.measure import longest_s

#: A phone that went is waited for so long before its attempt is given up; cables and hubs come back within seconds.
GRACE_S = 60.0
#: Artifacts kept on a phone.
CACHE_BYTES = 4 << 30
#: Looking costs the phone's CPU: first when the job may be over, then soon, then ever more seldom up to once a second.
_FIRST_LOOK_S, _LONGEST_LOOK_S, _LOOK_GROWTH = 0.1, 1.0, 1.4
#: What the phone's heartbeat tells is looked at so often.
_STEP_S = 0.25
#: Invocations for the time without the profiler that a profile is told beside.
_UNPROFILED = 3
#: What the invocations of one attempt may print together: the log and the agent's memory are not the phone's to fill.
_MOST_PRINTED = 64 << 20
#: Invocations whose files are fetched at once.
_FETCHED_AT_ONCE = 100
#: From here on Android itself throttles hard: "severe".
_TOO_HOT_STATUS = 3


@dataclass(frozen=True, kw_only=True)
class Route:
    """How a phone is reached and what is known of it."""

    #: The phone, if it can be reached now.
    reach: Callable[[], Phone | None]
    history: PhoneHistory
    abis: tuple[str, ...]
    settings: Settings


class PhoneAttempt:
    """Everything of one attempt. Used once."""

    def __init__(self, order: Order, tool: PhoneTool, route: Route, folder: Path, ending: threading.Event) -> None:
        """Nothing is done before `measure` or `profile`.

        Args:
            order: with paths of this host.
            tool: what runs there.
            route: to the phone.
            folder: of the attempt; what happened is told in its log.txt.
            ending: set when it shall end.
        """
        task = order.on_device
        assert task is not None  # conversions have no device
        self._order, self._task, self._tool, self._route = order, task, tool, route
        self._ending = ending
        self._log = folder / "log.txt"
        self._began, self._deadline = steady(), time.monotonic() + order.limits.deadline_s
        #: What belongs to the environment fingerprint.
        self.environment: dict[str, str] = {}
        #: Nothing of it is on the phone, proven.
        self.left_clean = True
        self._printed = 0

    @property
    def job_id(self) -> str:
        """What the phone knows its job by."""
        return job_id(self._order.attempt_id, self._order.token)

    def result(self, measurement: Measurement | None = None, profile: Profile | None = None) -> Result:
        """The document of what came of it."""
        return Result(
            attempt_id=self._order.attempt_id,
            token=self._order.token,
            started_at=self._began,
            finished_at=steady(),
            measurement=measurement,
            profile=profile,
            environment=self.environment,
        )

    def measure(self, tell_started: Callable[[], None]) -> Measurement:
        """Measure.

        Raises:
            AttemptError: there is no result, and why.
        """
        with self._ready() as provisioned:
            samples = self._run(provisioned, self._spec(provisioned, profile=False), tell_started)
            self._refuse_unproven(samples)
            facts = self._tool.facts([sample.output for sample in samples], self._task, provisioned.tool.label)
            return measurement(samples, facts, self._task, self._inputs())

    def profile(self, tell_started: Callable[[], None]) -> Profile:
        """Find what each operation costs. Raises as `measure`."""
        with self._ready() as provisioned:
            spec = self._spec(provisioned, profile=False, times=_UNPROFILED)
            plain = self._run(provisioned, spec, tell_started)
            job.discard(self._reached(), spec)  # the preparations stay
            profiled = self._run(provisioned, self._spec(provisioned, profile=True, times=1), lambda: None)
            self._refuse_unproven([*plain, *profiled])
            seen = profiled[0].output
            if not seen.ops:
                raise AttemptError(Cause.MODEL, "no_profile", f"{self._tool.binary} printed no times of operations")
            unprofiled = sorted(sample.output.value_ms or 0.0 for sample in plain)
            return Profile(
                runtime=self._tool.facts([seen], self._task, provisioned.tool.label),
                method=f"{self._tool.binary}'s own profiler; mean over its runs",
                ops=tuple(_readable(op) for op in seen.ops),
                runs=seen.runs or 1,
                run_ms=seen.value_ms or 0.0,
                unprofiled_ms=unprofiled[len(unprofiled) // 2],
                inputs=self._inputs(),
            )

    # Below: the stations.

    @contextmanager
    def _ready(self) -> Iterator[Provisioned]:
        """A clean phone with all that is needed, prepared; clean again afterwards, whatever happened."""
        route, order = self._route, self._order
        tool = chosen_tool(route.settings, self._tool.binary, route.abis)
        delegate = chosen_delegate(route.settings, asked_delegate(self._task))
        phone = self._reached()
        ownership.take(phone)
        if left := clean(phone):
            self._say(f"found on the phone and cleared away: {left}")
        self.left_clean = False
        provisioned = ensure_tool(phone, tool, delegate)
        artifact = Path(order.paths["artifact"])
        wanted = cache.Wanted(sha256=order.inputs["artifact"], local=artifact, bytes=artifact.stat().st_size)
        self._model = wanted.remote
        pushed = cache.ensure(phone, [wanted], CACHE_BYTES)
        self._say(f"{tool.name} {tool.label}; pushed {pushed} bytes of the program")
        self._files = provisioned.files(wanted.remote, JOB, delegate)
        try:
            prepared = preparation.prepare(phone, preparation.steps(route.settings.prepare))
            self._say(f"prepared: {prepared}")
            self.environment = {
                "tool": tool.label,
                **power_facts(route.history.latest(full=True)),
                **{f"prepared_{name}": "yes" for name in prepared.done},
                **{f"prepared_{name}": "unsupported" for name in prepared.unsupported},
            }
            yield provisioned
        finally:
            self._leave()

    def _leave(self) -> None:
        """End and undo everything; where the phone is away now, whoever meets it next does so."""
        if (phone := self._route.reach()) is None:
            self._say("the phone is away: it is cleared up on the next contact")
            return
        try:
            clean(phone, release=True)
            self.left_clean = True
        except AttemptError as error:
            self._say(f"clearing up: {error.message}")
            if not isinstance(error, PhoneLostError):
                raise

    def _spec(self, provisioned: Provisioned, *, profile: bool, times: int | None = None) -> JobSpec:
        options = self._task.options
        each_s = seconds_each(self._task)
        command = self._tool.command(self._task, self._files, each_s, profile=profile)
        self._say(f"$ {words(*command)}")
        return JobSpec(
            attempt_id=self._order.attempt_id,
            token=self._order.token,
            command=tuple(command),
            environment=environment(self._files),
            least=times or LEAST_INVOCATIONS,
            most=times or 10_000,
            seconds=0.0 if times else max(longest_s(options), 1.0),
            deadline_s=self._order.limits.deadline_s,
            keep=self._tool.keep,
            affinity=options.affinity,
        )

    def _run(self, provisioned: Provisioned, spec: JobSpec, tell_started: Callable[[], None]) -> list[Sample]:
        """Start the job, watch it until it has told enough, and take what it says of itself in the end."""
        phone = self._reached()
        job.start(phone, spec)
        tell_started()
        began = time.monotonic()
        samples: list[Sample] = []
        texts: list[str] = []
        pause_s, stopping = _FIRST_LOOK_S, False
        sustained = self._task.options.mode == "sustained"
        self._pause(0.0 if sustained else seconds_each(self._task) * spec.least * 0.9)
        while True:
            if self._ending.is_set():
                raise AttemptError(Cause.INFRASTRUCTURE, "ended", "told to end")
            if time.monotonic() > self._deadline:
                limit_s = self._order.limits.deadline_s
                raise AttemptError(Cause.MODEL, "hung", f"no result after {limit_s:.0f} s; the tool was ended")
            try:
                seen = job.progress(phone, spec, len(samples))
            except PhoneLostError as error:
                phone = self._come_back(error, spec)
                continue
            samples += [self._sample(one, began) for one in seen.invocations]
            texts += [one.output for one in seen.invocations if spec.keep]
            if seen.more:
                continue
            if seen.state == JobState.DONE:
                return self._with_files(phone, spec, samples, texts) if seen.kept else samples
            if seen.state == JobState.DEAD:
                raise self._died(seen.why)
            if not stopping and not sustained and self._is_enough(samples):
                stopping, pause_s = True, _FIRST_LOOK_S
                with suppress(PhoneLostError):  # it is told again, or ends by itself
                    job.stop(phone, spec)
            self._pause(pause_s)
            pause_s = min(pause_s * _LOOK_GROWTH, _LONGEST_LOOK_S)

    def _is_enough(self, samples: list[Sample]) -> bool:
        busy_s = sum(sample.ended - sample.began for sample in samples)
        return len(samples) >= LEAST_INVOCATIONS and busy_s >= self._task.options.min_seconds and enough(samples)

    def _come_back(self, error: PhoneLostError, spec: JobSpec) -> Phone:
        """The phone, once it is back with the job; the job itself never noticed.

        Raises:
            PhoneLostError: it stays away.
            AttemptError: it is back without the job.
        """
        self._say(f"{error.message}; waiting for the phone")
        until = min(time.monotonic() + GRACE_S, self._deadline)
        while time.monotonic() < until and not self._ending.is_set():
            phone = self._route.reach()
            if phone is not None:
                try:
                    state = job.attached(phone, spec.attempt_id, spec.token)
                except PhoneLostError:
                    state = None
                else:
                    if state is None:
                        raise self._died("the phone came back without it")
                    self._say("the phone is back, and the job is there")
                    return phone
            self._ending.wait(0.2)
        raise error

    def _sample(self, one: Invocation, began: float) -> Sample:
        """What an invocation said; its output goes to the log as it came."""
        self._say(f"-- invocation {one.number}, exit code {one.exit_code}\n{one.output}")
        self._printed += len(one.output)
        if one.cut_short or self._printed > _MOST_PRINTED:
            message = f"{self._tool.binary} printed more in invocation {one.number} than is read of it"
            raise AttemptError(Cause.MODEL, "too_much_output", message)
        output = self._tool.read(printable(one.output), {}, asked_delegate(self._task))
        if one.exit_code != 0:
            # A tool that was told to take no partial delegation fails by itself: its log says of what.
            refused = output.delegate.refuse(require_full=requires_full(self._task))
            raise refused if refused and output.delegate.evidence else self._failed(one, output.errors)
        offset = self._boot_time()
        now = steady()
        if offset is None or one.began_s is None or one.ended_s is None:  # a phone that hides its uptime
            return Sample(output=output, began=now - (time.monotonic() - began), ended=now)
        return Sample(output=output, began=offset + one.began_s, ended=offset + one.ended_s)

    def _with_files(self, phone: Phone, spec: JobSpec, samples: list[Sample], texts: list[str]) -> list[Sample]:
        """Read each invocation again with the files that it wrote, a limited number at once."""
        asked = asked_delegate(self._task)
        read = []
        for first in range(0, len(samples), _FETCHED_AT_ONCE):
            several = range(first, min(first + _FETCHED_AT_ONCE, len(samples)))
            names = [f"{name}.{at + 1}" for at in several for name in spec.keep]
            fetched = job.fetch(phone, spec, self._log.parent / "fetched", names, too_large=self._say)
            for at in several:
                found = {name: fetched[f"{name}.{at + 1}"] for name in spec.keep if f"{name}.{at + 1}" in fetched}
                extra = {name: path.read_bytes().decode("latin-1") for name, path in found.items()}
                read.append(replace(samples[at], output=self._tool.read(printable(texts[at]), extra, asked)))
        return read

    # Below: what is no result.

    def _refuse_unproven(self, samples: list[Sample]) -> None:
        proof = least_proven([sample.output for sample in samples])
        if (refused := proof.refuse(require_full=requires_full(self._task))) is not None:
            raise refused

    def _refuse_heat(self) -> None:
        latest = self._route.history.latest(full=True)
        status = latest.thermal.status if latest is not None and latest.thermal is not None else None
        if status is not None and status >= _TOO_HOT_STATUS:
            raise AttemptError(Cause.DEVICE, "too_hot", f"thermal status {status} during the run: it was ended")

    def _failed(self, one: Invocation, errors: tuple[str, ...]) -> AttemptError:
        said = tidy(errors[-1] if errors else next(iter(one.output.strip().splitlines()[-1:]), "it printed nothing"))
        if one.exit_code > 128:
            message = f"{self._tool.binary} was killed by signal {one.exit_code - 128}: {said}"
            return AttemptError(Cause.MODEL, "crashed", message)
        return AttemptError(Cause.MODEL, "tool_failed", f"{self._tool.binary} exited {one.exit_code}: {said}")

    def _died(self, why: str) -> AttemptError:
        return AttemptError(
            Cause.DEVICE, "job_died", f"the job on the phone ended by force: {why or 'nobody knows why'}"
        )

    # Below: helpers.

    def _reached(self) -> Phone:
        if (phone := self._route.reach()) is None:
            raise PhoneLostError("the phone is not connected")
        return phone

    def _boot_time(self) -> float | None:
        """Epoch seconds of the phone's boot, by this host's clock."""
        latest: Snapshot | None = self._route.history.latest()
        return latest.at - latest.uptime_s if latest is not None and latest.uptime_s is not None else None

    def _inputs(self) -> dict[str, tuple[Any, ...]]:
        path = self._order.paths.get("examples")
        return load_examples(Path(path)).shapes() if path is not None else {}

    def _pause(self, seconds: float) -> None:
        """Leave the phone in peace for a while; its heartbeat goes on, and what that tells ends the pause."""
        until = min(time.monotonic() + seconds, self._deadline)
        while (left_s := until - time.monotonic()) > 0 and not self._ending.wait(min(left_s, _STEP_S)):
            self._refuse_heat()
            if self._route.reach() is None:
                return

    def _say(self, text: str) -> None:
        with self._log.open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")


def _readable(op: Op) -> Op:
    return replace(op, name=printable(op.name), type=printable(op.type))
