"""The host agent: the only path to a host's devices. A plain object; Ray carries calls to it (`workers.ray_agent`).

Its calls are short. Each attempt has a thread that gates the device, starts the runner as a child process group,
watches it, and reports. What the agent knows is on disk (`workers.spool`), so its successor can clean up after it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from device_registry.capabilities import DeviceDescription
from workers.artifacts import ArtifactCorruptError, ArtifactStore
from workers.child import cause_of_death, child_environment
from workers.codec import ContractError, from_dict, read_document, to_dict, write_document
from workers.contract import Failure, Order, Result, StoredFile
from workers.devices.device import DeviceDriver
from workers.errors import AttemptError, Cause, classify
from workers.host import describe_host, load_drivers, load_sensors
from workers.host_monitor import FOREIGN_WINDOW_S, HostMonitor
from workers.judge import judge, judge_profile
from workers.processes import end_group, end_marked, read_process
from workers.report import GateReading, Report
from workers.spool import ATTEMPT_VARIABLE, Spool

#: Dispatcher and agent must be of one version: checked at hello.
AGENT_VERSION = "2"
#: A log larger than this keeps its beginning and its end.
_LOG_LIMIT = 1 << 20
_GATE_STEP_S = 0.5


@dataclass
class _Running:
    order: Order
    thread: threading.Thread | None = None
    process: subprocess.Popen[bytes] | None = None
    #: Why it was ended by us; None while it was not.
    ended: Failure | None = None
    ending: threading.Event = field(default_factory=threading.Event)


class HostAgent:
    """One per host, by lock file. Everything that goes in or out of its methods is plain JSON data."""

    def __init__(self, home: Path, store_url: str, lease_s: float = 60.0, own_pids: tuple[int, ...] = ()) -> None:
        """Take the host: end what a predecessor left, then look at sensors and devices.

        Args:
            home: data directory on this host (spool, caches).
            store_url: where artifacts live.
            lease_s: without a poll for so long, the agent ends its work.
            own_pids: processes that carry the agent (a raylet): with their descendants they are no foreign load.
        """
        self._spool = Spool(home / "spool")
        self._store = ArtifactStore(store_url, home / "cache")
        self._compiled = home / "compiled"
        self._lease_s = lease_s
        self._own_pids = own_pids
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._events: list[dict[str, Any]] = []
        self._sequence = 0
        self._running: dict[int, _Running] = {}
        self._last_poll = _boot_clock()
        self._closed = threading.Event()
        for left in self._spool.sweep():
            kind = "lost" if left.report is None else "finished"
            report = None if left.report is None else to_dict(left.report)
            self._emit(kind, left.attempt_id, left.token, report=report)
        self._monitor = HostMonitor(load_sensors())
        self._drivers = load_drivers()
        self._devices = {device.key: device for driver in self._drivers.values() for device in driver.discover()}
        self._lease_thread = threading.Thread(target=self._watch_lease, name="lease", daemon=True)
        self._lease_thread.start()

    def hello(self) -> dict[str, Any]:
        """Who we are: version, host, devices, and which attempts run here."""
        with self._lock:
            running = sorted(self._running)
            self._last_poll = _boot_clock()
        return {
            "version": AGENT_VERSION,
            "host": to_dict(describe_host()),
            "devices": [to_dict(device) for device in self._devices.values()],
            "running": running,
            "pid": os.getpid(),
        }

    def start(self, order_data: dict[str, Any]) -> None:
        """Begin an attempt; returns at once. Starting one that is known already changes nothing.

        Raises:
            ContractError: the order cannot be read.
        """
        order = from_dict(Order, order_data)
        with self._lock:
            known = order.attempt_id in self._running or any(e["attempt_id"] == order.attempt_id for e in self._events)
            if known or self._closed.is_set():
                return
            running = _Running(order)
            running.thread = threading.Thread(
                target=self._attempt, args=(running,), name=f"attempt-{order.attempt_id}", daemon=True
            )
            self._running[order.attempt_id] = running
        running.thread.start()

    def poll(self, since: int, wait_s: float) -> dict[str, Any]:
        """Events after `since`, waiting up to `wait_s` for one; renews the lease.

        Everything up to `since` counts as taken: its spool is freed.
        """
        with self._changed:
            self._last_poll = _boot_clock()
            taken = [event for event in self._events if event["sequence"] <= since]
            self._events = [event for event in self._events if event["sequence"] > since]
        for event in taken:
            if event["kind"] in ("finished", "lost"):
                self._spool.forget(event["attempt_id"], event["token"])
        with self._changed:
            if not self._events and wait_s > 0:
                self._changed.wait(min(wait_s, 1.0))
            self._last_poll = _boot_clock()
            if self._monitor.failure is not None:
                raise RuntimeError("the host monitor died") from self._monitor.failure
            return {"events": list(self._events), "running": sorted(self._running)}

    def cancel(self, attempt_id: int, why: str) -> None:
        """End an attempt; its report says cancelled."""
        self._end(attempt_id, Failure(cause=Cause.USER, code="cancelled", message=why))

    def log(self, attempt_id: int, token: str) -> str:
        """What a running attempt has printed so far."""
        try:
            return (self._spool.folder(attempt_id, token) / "log.txt").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def close(self) -> None:
        """End every attempt and give the host back."""
        self._closed.set()
        for attempt_id in list(self._running):
            self._end(
                attempt_id, Failure(cause=Cause.INFRASTRUCTURE, code="agent_closed", message="the agent was closed")
            )
        for running in list(self._running.values()):
            if running.thread is not None:
                running.thread.join(timeout=10)
        self._lease_thread.join(timeout=5)
        self._monitor.close()
        self._spool.close()

    # Below: threads of the agent.

    def _attempt(self, running: _Running) -> None:
        """One attempt from order to report. Runs in a thread of its own; never raises."""
        order = running.order
        began = time.monotonic()
        folder: Path | None = None
        try:
            folder = self._spool.open_attempt(order)
            if order.on_device is not None:
                report = self._on_device(running, folder)
            else:
                report = Report(attempt_id=order.attempt_id, token=order.token, result=self._run_child(running, folder))
            report = self._store_files(order, report, folder)
        except ArtifactCorruptError as error:
            report = _failed(
                order, Failure(cause=error.cause, code=error.code, message=error.message, artifact_sha256=error.sha256)
            )
        except Exception as error:  # the border of the thread: the dispatcher must hear of everything
            failure = classify(error, "preparing the attempt")
            cause = failure.cause if isinstance(error, AttemptError) else Cause.BUG
            cause = Cause.INFRASTRUCTURE if isinstance(error, OSError) else cause
            report = _failed(order, Failure(cause=cause, code=failure.code, message=failure.message))
        report = replace(report, wall_s=time.monotonic() - began, artifact_sha256=order.inputs.get("artifact"))
        try:
            if folder is not None:
                report = replace(report, log_sha256=self._store_log(folder))
                self._spool.finish(folder, report)
        except Exception as error:  # a store that fails must not leave the attempt running for ever
            failure = classify(error, "writing the report")
            report = _failed(order, Failure(cause=Cause.INFRASTRUCTURE, code=failure.code, message=failure.message))
        with self._changed:
            self._running.pop(order.attempt_id, None)
            self._emit("finished", order.attempt_id, order.token, report=to_dict(report))
            self._changed.notify_all()

    def _on_device(self, running: _Running, folder: Path) -> Report:
        order = running.order
        device = self._devices.get(order.place)
        if device is None:
            raise AttemptError(Cause.INFRASTRUCTURE, "no_such_device", f"this host has no device {order.place}")
        driver = self._drivers[device.driver]
        own = [*order.own_pids, *self._own_pids]
        before = self._gate(running, driver, device, own)
        idle_until = started = self._monitor.look_now()
        idle_since = idle_until - FOREIGN_WINDOW_S - 0.5
        result = self._run_child(running, folder)
        ended = self._monitor.look_now()
        environment = {**driver.environment(device), **result.environment}
        report = Report(
            attempt_id=order.attempt_id, token=order.token, result=result, gate_before=before, environment=environment
        )
        if result.failure is not None:
            return report
        after = driver.check(device, self._monitor, started, ended, own)
        if (seen := result.measurement) is None:
            return replace(report, gate_after=after, judgement=judge_profile(before, after))
        energy = self._monitor.energy(seen.timed_from, seen.timed_to, idle_since, idle_until)
        if energy.energy_mj is not None and energy.window_s:
            per_second = seen.throughput_per_s
            energy = replace(energy, energy_per_inference_mj=energy.energy_mj / energy.window_s / per_second)
        telemetry = tuple(self._monitor.telemetry(started, ended))
        return replace(
            report,
            judgement=judge(seen, before, after, telemetry, energy),
            gate_after=after,
            energy=energy,
            telemetry=telemetry,
        )

    def _gate(self, running: _Running, driver: DeviceDriver, device: DeviceDescription, own: list[int]) -> GateReading:
        """Wait until the device is ready, as the order's policy says.

        Raises:
            AttemptError: not ready in time, and the policy is strict.
        """
        order = running.order
        began = time.monotonic()
        while True:
            until = self._monitor.look_now()
            reading = driver.check(device, self._monitor, until - FOREIGN_WINDOW_S - 0.5, until, own)
            waited_s = time.monotonic() - began
            short = reading.foreign_load.window_s < FOREIGN_WINDOW_S - 0.2  # an agent that has only just begun to look
            timed_out = waited_s >= order.gate_timeout_s
            if (reading.passed and not short) or order.gate == "none" or timed_out or running.ending.is_set():
                break
            running.ending.wait(_GATE_STEP_S)
        if not reading.passed and order.gate == "strict":
            wrong = "; ".join(
                f"{name}: {text}" for name, text in reading.checks.items() if text not in ("ok", "unknown")
            )
            raise AttemptError(
                Cause.DEVICE, "gate_timeout", f"{device.name} was not ready after {waited_s:.0f} s: {wrong}"
            )
        return replace(reading, waited_s=waited_s)

    def _run_child(self, running: _Running, folder: Path) -> Result:
        """Start the runner in a process group of its own, wait for it, read what it wrote."""
        order = replace(
            running.order, paths={role: str(self._store.fetch(sha)) for role, sha in running.order.inputs.items()}
        )
        write_document(order, folder / "order.json")
        if running.ending.is_set():
            return _failed(order, running.ended).result
        with (folder / "log.txt").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "workers.runner", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=child_environment(order, folder, self._compiled),
                start_new_session=True,
            )
        running.process = process
        self._spool.record_process(folder, process.pid)
        identity = read_process(process.pid)
        self._monitor.watch(process.pid)
        with self._changed:
            self._emit("started", order.attempt_id, order.token)
            self._changed.notify_all()
        try:
            self._wait(running, process)
        finally:
            self._monitor.unwatch(process.pid)
            # Whatever the runner started must not outlive it: its group, and what left the group.
            end_group(process.pid, identity.started if identity is not None else -1.0)
            process.wait()
            end_marked(ATTEMPT_VARIABLE, folder.name)
        if running.ended is not None:
            return _failed(order, running.ended).result
        try:
            return read_document(Result, folder / "result.json")
        except OSError:
            return _failed(order, cause_of_death(process.returncode, folder / "log.txt")).result
        except ContractError as error:
            return _failed(order, Failure(cause=Cause.BUG, code="bad_result", message=str(error))).result

    def _wait(self, running: _Running, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + running.order.limits.deadline_s
        while True:
            try:
                process.wait(timeout=0.05)
                return
            except subprocess.TimeoutExpired:
                pass
            if running.ending.is_set():
                return
            if time.monotonic() > deadline:
                running.ended = Failure(
                    cause=Cause.MODEL,
                    code="hung",
                    message=f"no result after {running.order.limits.deadline_s:.0f} s; the runner was ended",
                )
                return

    def _store_files(self, order: Order, report: Report, folder: Path) -> Report:
        """Move what the child made into the store; paths of this host go no further."""
        result = report.result
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
            stored = StoredFile(sha256=self._store.put_bytes(packed, folder), bytes=len(packed))
            result = replace(result, measurement=replace(result.measurement, raw=stored))
        return replace(report, result=result, child_s=result.finished_at - result.started_at)

    def _put(self, file: StoredFile, folder: Path) -> StoredFile:
        self._store.put(folder / str(file.path), file.sha256)
        return replace(file, path=None)

    def _store_log(self, folder: Path) -> str | None:
        path = folder / "log.txt"
        if not path.exists():
            return None
        data = path.read_bytes()
        if len(data) > _LOG_LIMIT:
            half = _LOG_LIMIT // 2
            data = data[:half] + b"\n[...]\n" + data[-half:]
        return self._store.put_bytes(zlib.compress(data), folder)

    def _watch_lease(self) -> None:
        """End everything when nobody has polled for a lease: the dispatcher may have given our work to others."""
        while not self._closed.wait(1.0):
            if _boot_clock() - self._last_poll > self._lease_s:
                for attempt_id in list(self._running):
                    self._end(
                        attempt_id,
                        Failure(
                            cause=Cause.INFRASTRUCTURE, code="lease_lost", message="nobody polled the agent for a lease"
                        ),
                    )

    def _end(self, attempt_id: int, failure: Failure) -> None:
        with self._lock:
            running = self._running.get(attempt_id)
        if running is not None:
            running.ended = running.ended or failure
            running.ending.set()

    def _emit(self, kind: str, attempt_id: int, token: str, **details: Any) -> None:
        self._sequence += 1
        self._events.append(
            {"sequence": self._sequence, "kind": kind, "attempt_id": attempt_id, "token": token, **details}
        )


def _failed(order: Order, failure: Failure | None) -> Report:
    now = time.time()
    failure = failure or Failure(cause=Cause.BUG, code="unknown", message="ended for no recorded reason")
    result = Result(attempt_id=order.attempt_id, token=order.token, started_at=now, finished_at=now, failure=failure)
    return Report(attempt_id=order.attempt_id, token=order.token, result=result)


def _boot_clock() -> float:
    """Seconds since boot, suspended time included where the system counts it: a lease runs on while a laptop sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.monotonic()
