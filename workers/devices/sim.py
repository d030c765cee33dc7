"""Simulated devices, for demonstrations and scale: they come and go through the real agent, and are always marked.

One thread per agent ends all attempts when their time has come; a child or a thread for each would cost far more than
what is simulated.
"""

from __future__ import annotations

import heapq
import os
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from device_registry.capabilities import DeviceDescription
from device_registry.errors import UsageError
from workers.clock import steady
from workers.contract import Failure
from workers.devices.device import InProcessDriver, Teller
from workers.devices.sim_fleet import FLEET_VARIABLE, FleetFile, read_fleet
from workers.devices.sim_reports import failure_report, gate_reading, idle_readings, success_report, unit_environment
from workers.devices.sim_unit import Outcome, SimUnit
from workers.errors import AttemptError, Cause, first_line
from workers.host_monitor import HostMonitor
from workers.report import GateReading, Reading

#: The rungs of its ladder.
_RECONNECT, _REBOOT = range(2)
#: Unplugged between order and attempt.
_GONE = Outcome(
    seconds=0.0,
    failure=Failure(cause=Cause.INFRASTRUCTURE, code="device_gone", message="the device was gone from its host"),
)


@dataclass(frozen=True, slots=True)
class _Running:
    order: dict[str, Any]
    unit: SimUnit | None
    outcome: Outcome
    #: Epoch seconds; and monotonic ones, from which its end is counted: no clock that is set bends what it tells.
    started_at: float
    began: float

    def ended_at(self) -> float:
        return self.started_at + time.monotonic() - self.began


class SimDevices(InProcessDriver):
    """The devices that the fleet file of `BENCHFARM_SIM` lists; none where it names no file."""

    recovery: ClassVar[tuple[str, ...]] = ("reconnect", "reboot")

    def __init__(self) -> None:
        """Nothing is read before `discover`."""
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._began = time.monotonic()
        #: Modification time and content of the fleet file, as last read.
        self._read: tuple[int, FleetFile] | None = None
        self._units: dict[str, SimUnit] = {}
        self._running: dict[int, _Running] = {}
        #: When attempts are over (monotonic seconds), the next first.
        self._due: list[tuple[float, int]] = []
        self._tell: Teller | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def discover(self) -> list[DeviceDescription]:
        """See `DeviceDriver.discover`. A changed fleet file is read again: units are plugged in and out.

        Raises:
            UsageError: the file cannot be read, and never could.
        """
        path = os.environ.get(FLEET_VARIABLE)
        if not path:
            return []
        self._read_again(Path(path))
        now = time.monotonic()
        with self._lock:
            return [_description(unit, self.recovery) for unit in self._units.values() if unit.is_here(now)]

    def check(
        self, device: DeviceDescription, monitor: HostMonitor, since: float, until: float, own: Iterable[int]
    ) -> GateReading:
        """See `DeviceDriver.check`."""
        with self._lock:
            return gate_reading(self._units[device.key])

    def compute_unit(self, device: DeviceDescription) -> str:
        """See `DeviceDriver.compute_unit`."""
        return "sim"

    def environment(self, device: DeviceDescription) -> dict[str, str]:
        """See `DeviceDriver.environment`."""
        with self._lock:
            return unit_environment(self._units[device.key])

    def readings(self, device: DeviceDescription, monitor: HostMonitor) -> Sequence[Reading]:
        """See `DeviceDriver.readings`: by its thermal model, simulated as all of it."""
        with self._lock:
            unit = self._units.get(device.key)
            return idle_readings(unit, time.monotonic(), steady()) if unit is not None else ()

    def recover(self, device: DeviceDescription, rung: int) -> None:
        """See `DeviceDriver.recover`: reconnecting brings back what vanished, a reboot heals what is sick too."""
        now = time.monotonic()
        with self._lock:
            unit = self._units.get(device.key)
            if unit is None:
                raise AttemptError(Cause.DEVICE, "unplugged", f"{device.name} is not in the fleet file any more")
            if rung == _REBOOT:
                unit.reboot(now)
            elif not unit.reconnect(now):
                raise AttemptError(Cause.DEVICE, "unwell", f"{device.name} is there and refuses to work (simulated)")

    def open(self, tell: Teller) -> None:
        """See `InProcessDriver.open`."""
        self._tell = tell
        self._thread = threading.Thread(target=self._end_due, name="sim", daemon=True)
        self._thread.start()

    def begin(self, orders: Sequence[dict[str, Any]]) -> None:
        """See `InProcessDriver.begin`."""
        now, started_at = time.monotonic(), time.time()
        due: list[tuple[float, int]] = []
        started: list[tuple[int, str]] = []
        with self._lock:
            for order in orders:
                unit = self._units.get(order["place"])
                outcome = _GONE if unit is None else _outcome(unit, order, now)
                scale = unit.time_scale if unit is not None and not outcome.on_wall else 1.0
                length_s = outcome.seconds * scale
                self._running[order["attempt_id"]] = _Running(order, unit, outcome, started_at, now)
                due.append((now + length_s, order["attempt_id"]))
                if length_s > 0:
                    started.append((order["attempt_id"], order["token"]))
        assert self._tell is not None  # open comes first
        if started:  # of one that is over at once, its end says that it began
            self._tell(started=started)
        with self._wake:
            for item in due:
                heapq.heappush(self._due, item)
            self._wake.notify()

    def end(self, attempt_ids: Iterable[int], failure: Failure) -> None:
        """See `InProcessDriver.end`."""
        with self._lock:
            ended = [run for attempt_id in attempt_ids if (run := self._running.pop(attempt_id, None)) is not None]
        if ended and self._tell is not None:
            self._tell(finished=[failure_report(run.order, failure, run.started_at, run.ended_at()) for run in ended])

    def close(self) -> None:
        """See `InProcessDriver.close`."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _end_due(self) -> None:
        """The driver's thread: report what is over, many at a time."""
        while (over := self._wait_for_due()) is not None:
            reports = [_report(run) for run in over]
            if reports and self._tell is not None:
                self._tell(finished=reports)

    def _wait_for_due(self) -> list[_Running] | None:
        """Attempts whose time has come; None once the driver is closed."""
        with self._wake:
            while not self._closed:
                now = time.monotonic()
                over: list[_Running] = []
                while self._due and self._due[0][0] <= now:
                    run = self._running.pop(heapq.heappop(self._due)[1], None)
                    if run is not None:  # else it was ended before its time
                        over.append(run)
                if over:
                    return over
                self._wake.wait(self._due[0][0] - now if self._due else None)
        return None

    def _read_again(self, path: Path) -> None:
        """Read the fleet file if it is new; a file that is being written is read once it can be."""
        try:
            changed = path.stat().st_mtime_ns
            if self._read is not None and self._read[0] == changed:
                return
            fleet = read_fleet(path)
        except (OSError, UsageError) as error:
            if self._read is None:
                raise UsageError(f"{FLEET_VARIABLE}: {error}") from error
            print(f"the fleet stays as it was: {error}", file=sys.stderr, flush=True)
            return
        with self._lock:
            wanted = self._make_units(fleet)
            # A unit that is in both files is the same one, warm or sick as it is.
            for key, unit in wanted.items():
                if (known := self._units.get(key)) is not None:
                    known.become(unit.group)
            self._units = {key: self._units.get(key, unit) for key, unit in wanted.items()}
        self._read = (changed, fleet)

    def _make_units(self, fleet: FleetFile) -> dict[str, SimUnit]:
        counts: dict[str, int] = {}
        totals: dict[str, int] = {}
        for group in fleet.devices:
            totals[group.slug] = totals.get(group.slug, 0) + group.count
        units = {}
        for group in fleet.devices:
            width = max(2, len(str(totals[group.slug])))
            for number in range(1, group.count + 1):
                index = counts[group.slug] = counts.get(group.slug, 0) + 1
                key = f"sim:{self.host_name}:{group.slug}:{index}"
                units[key] = SimUnit(
                    key=key,
                    name=f"{self.host_name}-{group.slug}-{index:0{width}d}",
                    group=group,
                    number=number,
                    time_scale=fleet.time_scale,
                    seed=fleet.seed,
                    began=self._began,
                )
        return units


def _description(unit: SimUnit, recovery: tuple[str, ...]) -> DeviceDescription:
    group = unit.group
    return DeviceDescription(
        key=unit.key,
        name=unit.name,
        kind="sim",
        driver="sim",
        attributes={
            **group.attributes,
            "simulated": True,
            "model": group.model,
            "soc": group.soc,
            "os": group.os,
            "compute_unit": "sim",
        },
        recovery=recovery,
    )


def _outcome(unit: SimUnit, order: dict[str, Any], now: float) -> Outcome:
    """An order comes as plain data, for reading it strictly would cost as much as all the rest."""
    try:
        return unit.begin(order, now)
    except (KeyError, TypeError, ValueError) as error:
        return Outcome(seconds=0.0, failure=_bug("bad_order", error))


def _report(run: _Running) -> dict[str, Any]:
    failure = run.outcome.failure
    if run.outcome.run is not None and run.unit is not None:
        try:
            return success_report(run.order, run.unit, run.outcome.run, run.started_at, run.ended_at())
        except Exception as error:  # the driver's one thread must outlive it
            failure = _bug("bad_report", error)
    assert failure is not None  # an outcome is the one or the other
    return failure_report(run.order, failure, run.started_at, run.ended_at())


def _bug(code: str, error: Exception) -> Failure:
    return Failure(cause=Cause.BUG, code=code, message=f"{type(error).__name__} while simulating: {first_line(error)}")
