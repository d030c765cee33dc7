"""One attempt of a host that runs in a child process: from its order to its report, in a thread of its own."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from device_registry.capabilities import DeviceDescription
from workers.artifacts import ArtifactCorruptError, ArtifactStore
from workers.child import cause_of_death, child_environment
from workers.clock import lead_s, steady
from workers.codec import ContractError, read_document, write_document
from workers.contract import Failure, Order, Result, StoredFile
from workers.devices.device import CarryingDriver, DeviceDriver, Errand
from workers.errors import AttemptError, Cause, classify, first_line
from workers.host_monitor import FOREIGN_WINDOW_S, HostMonitor
from workers.judge import judge, judge_evaluation, judge_profile
from workers.memory import beyond_memory
from workers.processes import end_group, end_marked, read_process, resident_bytes
from workers.progress import read_progress
from workers.readings import cleaned, thinned
from workers.report import Energy, GateReading, Reading, Report, moved
from workers.spool import ATTEMPT_VARIABLE, Spool
from workers.telemetry_block import write_block

log = logging.getLogger(__name__)

#: A log larger than this keeps its beginning and its end.
_LOG_LIMIT = 1 << 20
_GATE_STEP_S = 0.5
#: What a child says of itself is read so often, and what a bounded conversion holds is looked at.
_SAID_PERIOD_S = 1.0
_MEMORY_PERIOD_S = 0.2
#: A child is killed at once when its attempt shall end; storing what it printed may take a while longer.
_PREDECESSOR_S = 30.0
#: Beyond its gate and its deadline: fetching what it needs and storing what it made, gigabytes over a network.
_TRANSFERS_S = 900.0


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all attempts of a host share."""

    spool: Spool
    store: ArtifactStore
    #: Where runtimes keep what they compiled, from one attempt to the next.
    compiled: Path
    monitor: HostMonitor
    drivers: Mapping[str, DeviceDriver]
    #: The device of a key, if it is there now.
    device_at: Callable[[str], DeviceDescription | None]
    #: Processes that carry the agent.
    own_pids: tuple[int, ...]


class Attempt:
    """Gates the device, starts the runner as a child process group, watches it, reports."""

    def __init__(
        self, order: Order, bench: Bench, *, after: Attempt | None, tell_started: Callable[[Order], None]
    ) -> None:
        """Nothing begins before `run`.

        Args:
            order: what to do.
            bench: what the host has for it.
            after: an older attempt at the same place, which was told to end; it must be over first.
            tell_started: called once the child runs.
        """
        self.order = order
        self._bench, self._after, self._tell_started = bench, after, tell_started
        #: Why it was ended by us; None while it was not.
        self._ended: Failure | None = None
        self._ending = threading.Event()
        self._over = threading.Event()
        self.thread: threading.Thread | None = None
        self._made_at = time.monotonic()
        #: How far its child says it is; None: it has not said.
        self.said: str | None = None

    def end(self, failure: Failure) -> None:
        """End it soon, for this reason; the first reason counts."""
        self._ended = self._ended or failure
        self._ending.set()

    def is_stuck(self) -> bool:
        """Whether it has run for longer than all its limits together: its thread waits for what never answers."""
        limit_s = _PREDECESSOR_S + self.order.gate_timeout_s + self.order.limits.deadline_s + _TRANSFERS_S
        return time.monotonic() - self._made_at > limit_s

    def run(self) -> Report:
        """All of it. Never raises."""
        order = self.order
        began, began_at, ahead_s = time.monotonic(), steady(), lead_s()
        folder: Path | None = None
        try:
            if self._after is not None and not self._after._over.wait(_PREDECESSOR_S):
                raise AttemptError(Cause.INFRASTRUCTURE, "place_taken", f"another attempt at {order.place} did not end")
            folder = self._bench.spool.open_attempt(order)
            if order.on_device is not None:
                report = self._on_device(folder)
            else:
                report = Report(attempt_id=order.attempt_id, token=order.token, result=self._run_child(folder))
            report = self._store_files(report, folder)
        except ArtifactCorruptError as error:
            report = failed(
                order, Failure(cause=error.cause, code=error.code, message=error.message, artifact_sha256=error.sha256)
            )
        except Exception as error:  # the border of the thread: the dispatcher must hear of everything
            failure = classify(error, "preparing the attempt")
            cause = failure.cause if isinstance(error, AttemptError) else Cause.BUG
            cause = Cause.INFRASTRUCTURE if isinstance(error, OSError) else cause
            report = failed(order, Failure(cause=cause, code=failure.code, message=failure.message))
        report = replace(report, wall_s=time.monotonic() - began, artifact_sha256=order.inputs.get("artifact"))
        # Once for the whole attempt: a wall clock that is set meanwhile bends none of its series.
        report = moved(report, ahead_s)
        try:
            if folder is not None:
                report = self._with_block(report, folder, began_at + ahead_s)
                report = replace(report, log_sha256=self._store_log(folder))
                self._bench.spool.finish(folder, report)
        except Exception as error:  # a store that fails must not leave the attempt running for ever
            failure = classify(error, "writing the report")
            why = Failure(cause=Cause.INFRASTRUCTURE, code=failure.code, message=failure.message)
            report = moved(failed(order, why), ahead_s)
        self._over.set()
        return report

    def _on_device(self, folder: Path) -> Report:
        order, monitor = self.order, self._bench.monitor
        device = self._bench.device_at(order.place)
        if device is None:
            raise AttemptError(Cause.INFRASTRUCTURE, "no_such_device", f"this host has no device {order.place}")
        driver = self._bench.drivers[device.driver]
        own = [*order.own_pids, *self._bench.own_pids]
        before = self._gate(driver, device, own)
        if isinstance(driver, CarryingDriver):
            return self._carried(driver, device, folder, before, own)
        idle_until = started = monitor.look_now()
        idle_since = idle_until - FOREIGN_WINDOW_S - 0.5
        result = self._run_child(folder)
        ended = monitor.look_now()
        environment = {**driver.environment(device), **result.environment}
        report = Report(
            attempt_id=order.attempt_id, token=order.token, result=result, gate_before=before, environment=environment
        )
        telemetry = tuple(monitor.telemetry(started, ended))
        if result.failure is not None:
            return replace(report, telemetry=telemetry)
        after = driver.check(device, monitor, started, ended, own)
        if result.evaluation is not None:
            judgement = judge_evaluation(result.evaluation)
            return replace(report, gate_after=after, judgement=judgement, telemetry=telemetry)
        if (seen := result.measurement) is None:
            return replace(report, gate_after=after, judgement=judge_profile(before, after), telemetry=telemetry)
        energy = monitor.energy(seen.timed_from, seen.timed_to, idle_since, idle_until)
        if energy.energy_mj is not None and energy.window_s:
            per_second = seen.throughput_per_s
            energy = replace(energy, energy_per_inference_mj=energy.energy_mj / energy.window_s / per_second)
        return _judged(report, after, telemetry, energy)

    def _carried(
        self, driver: CarryingDriver, device: DeviceDescription, folder: Path, before: GateReading, own: list[int]
    ) -> Report:
        """What a driver that carries the attempt to its device brings back."""
        order = self._with_paths()
        started = steady()
        tell = partial(self._tell_started, order)
        errand = Errand(order=order, device=device, folder=folder, ending=self._ending, tell_started=tell)
        try:
            if self._ending.is_set():
                return failed(order, self._ended)
            brought = driver.carry(errand)
        except AttemptError as error:
            if self._ended is not None:  # that is why
                return replace(failed(order, self._ended), gate_before=before)
            failure = Failure(cause=error.cause, code=error.code, message=error.message)
            return replace(failed(order, failure), gate_before=before)
        if self._ended is not None:
            return replace(failed(order, self._ended), gate_before=before)
        result = brought.result
        report = Report(
            attempt_id=order.attempt_id,
            token=order.token,
            result=result,
            gate_before=before,
            environment={**driver.environment(device), **result.environment},
        )
        if result.failure is not None:
            return replace(report, telemetry=brought.telemetry)
        # Pushing, settings and clearing up are ours: of a measurement, the timed part is judged.
        seen = result.measurement
        window = (seen.timed_from, seen.timed_to) if seen is not None else (started, steady())
        after = driver.check(device, self._bench.monitor, *window, own)
        if seen is None:
            return replace(report, gate_after=after, judgement=judge_profile(before, after))
        energy = brought.energy or Energy(quality="unsupported", why="the device does not tell")
        return _judged(report, after, brought.telemetry, energy)

    def _gate(self, driver: DeviceDriver, device: DeviceDescription, own: list[int]) -> GateReading:
        """Wait until the device is ready, as the order's policy says.

        Raises:
            AttemptError: not ready in time, and the policy is strict.
        """
        order, monitor = self.order, self._bench.monitor
        began = time.monotonic()
        # How right answers are does not depend on how quiet it is.
        policy = "none" if order.evaluate is not None else order.gate
        here = not isinstance(driver, CarryingDriver)  # what is elsewhere is not seen from here
        while True:
            until = monitor.look_now() if here else steady()
            reading = driver.check(device, monitor, until - FOREIGN_WINDOW_S - 0.5, until, own)
            waited_s = time.monotonic() - began
            short = reading.foreign_load.window_s < FOREIGN_WINDOW_S - 0.2  # an agent that has only just begun to look
            timed_out = waited_s >= order.gate_timeout_s
            if (reading.passed and not short) or policy == "none" or timed_out or self._ending.is_set():
                break
            self._ending.wait(_GATE_STEP_S)
        if not reading.passed and policy == "strict" and not self._ending.is_set():
            wrong = "; ".join(
                f"{name}: {text}" for name, text in reading.checks.items() if text not in ("ok", "unknown")
            )
            raise AttemptError(
                Cause.DEVICE, "gate_timeout", f"{device.name} was not ready after {waited_s:.0f} s: {wrong}"
            )
        return replace(reading, waited_s=waited_s)

    def _run_child(self, folder: Path) -> Result:
        """Start the runner in a process group of its own, wait for it, read what it wrote."""
        monitor = self._bench.monitor
        order = self._with_paths()
        write_document(order, folder / "order.json")
        if self._ending.is_set():
            return failed(order, self._ended).result
        with (folder / "log.txt").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "workers.runner", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=child_environment(order, folder, self._bench.compiled),
                start_new_session=True,
            )
        identity = read_process(process.pid)
        try:
            self._bench.spool.record_process(folder, process.pid)
            monitor.watch(process.pid)
            self._tell_started(order)
            self._wait(process, folder)
        finally:
            monitor.unwatch(process.pid)
            # Whatever the runner started must not outlive it: its group, and what left the group.
            end_group(process.pid, identity.started if identity is not None else -1.0)
            process.wait()
            end_marked(ATTEMPT_VARIABLE, folder.name)
        if self._ended is not None:
            return failed(order, self._ended).result
        try:
            return read_document(Result, folder / "result.json")
        except OSError:
            return failed(order, cause_of_death(process.returncode, folder / "log.txt", order)).result
        except ContractError as error:
            return failed(order, Failure(cause=Cause.BUG, code="bad_result", message=str(error))).result

    def _with_paths(self) -> Order:
        """The order with its inputs on this host."""
        store = self._bench.store
        return replace(self.order, paths={role: str(store.fetch(sha)) for role, sha in self.order.inputs.items()})

    def _wait(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        limit_s = self.order.limits.deadline_s
        deadline = time.monotonic() + limit_s
        read_at = look_at = time.monotonic() + _SAID_PERIOD_S
        while True:
            try:
                process.wait(timeout=0.05)
                return
            except subprocess.TimeoutExpired:
                pass
            if self._ending.is_set():
                return
            if time.monotonic() > deadline:
                self._ended = hung(limit_s)
                return
            if time.monotonic() > look_at:
                if self._is_beyond_memory(process.pid):
                    return
                look_at = time.monotonic() + _MEMORY_PERIOD_S
            if time.monotonic() > read_at:
                self.said = read_progress(folder)
                read_at = time.monotonic() + _SAID_PERIOD_S

    def _is_beyond_memory(self, pid: int) -> bool:
        """Whether a conversion holds more than it was allowed; then it is ended, and why is noted."""
        task, limits = self.order.convert, self.order.limits
        if task is None or limits.resident_bytes is None or resident_bytes(pid) <= limits.resident_bytes:
            return False
        message = beyond_memory(task, limits)
        self._ended = Failure(cause=Cause.MODEL, code="out_of_memory", message=message)
        return True

    def _store_files(self, report: Report, folder: Path) -> Report:
        """Move what the child made into the store; paths of this host go no further."""
        result, store = report.result, self._bench.store
        if result.conversion is not None:
            made = result.conversion
            result = replace(
                result,
                conversion=replace(
                    made,
                    artifact=self._put(made.artifact, folder),
                    companions={role: self._put(file, folder) for role, file in made.companions.items()},
                ),
            )
        elif result.measurement is not None and result.measurement.raw is not None:
            raw = result.measurement.raw
            packed = zlib.compress((folder / str(raw.path)).read_bytes(), 6)
            stored = StoredFile(sha256=store.put_bytes(packed, folder), bytes=len(packed))
            result = replace(result, measurement=replace(result.measurement, raw=stored))
        return replace(report, result=result, child_s=result.finished_at - result.started_at)

    def _with_block(self, report: Report, folder: Path, began_at: float) -> Report:
        """The full series goes to the store as one block; what is told is thinned. Judged was what is not thinned."""
        readings = cleaned(report.telemetry)
        if not readings:
            return report
        block = None
        try:
            data = write_block(readings, began_at)
            block = StoredFile(sha256=self._bench.store.put_bytes(data, folder), bytes=len(data))
        except Exception as error:  # of whatever store; what was measured stands without it
            log.warning("attempt %d: no full-rate telemetry: %s", self.order.attempt_id, first_line(error))
        return replace(report, telemetry=thinned(readings), telemetry_block=block)

    def _put(self, file: StoredFile, folder: Path) -> StoredFile:
        self._bench.store.put(folder / str(file.path), file.sha256)
        return replace(file, path=None)

    def _store_log(self, folder: Path) -> str | None:
        path = folder / "log.txt"
        if not path.exists():
            return None
        data = path.read_bytes()
        if len(data) > _LOG_LIMIT:
            half = _LOG_LIMIT // 2
            data = data[:half] + b"\n[...]\n" + data[-half:]
        return self._bench.store.put_bytes(zlib.compress(data), folder)


def _judged(report: Report, after: GateReading, telemetry: tuple[Reading, ...], energy: Energy) -> Report:
    """A report of a measurement with its verdict."""
    assert report.result.measurement is not None
    assert report.gate_before is not None
    judgement = judge(report.result.measurement, report.gate_before, after, telemetry, energy)
    return replace(report, judgement=judgement, gate_after=after, energy=energy, telemetry=telemetry)


def hung(limit_s: float) -> Failure:
    """Why an attempt was ended at its deadline."""
    return Failure(cause=Cause.MODEL, code="hung", message=f"no result after {limit_s:.0f} s; the runner was ended")


def failed(order: Order, failure: Failure | None) -> Report:
    """The report of an attempt that has nothing else to tell."""
    now = steady()
    failure = failure or Failure(cause=Cause.BUG, code="unknown", message="ended for no recorded reason")
    result = Result(attempt_id=order.attempt_id, token=order.token, started_at=now, finished_at=now, failure=failure)
    return Report(attempt_id=order.attempt_id, token=order.token, result=result)
