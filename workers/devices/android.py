"""Android phones on this host's adb server as devices."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from device_registry.capabilities import DeviceDescription
from workers.android import recovery as ladder
from workers.android.attempt import PhoneAttempt, Route
from workers.android.energy import energy
from workers.android.foreign import foreign_load
from workers.android.gate import freshness, gate_checks
from workers.android.leftovers import clean
from workers.android.ownership import refuse_owned
from workers.android.phone import Phone, PhoneLostError
from workers.android.presence import Presence, remedy
from workers.android.rack import KnownPhone, Rack, Stranger
from workers.android.settings import Settings, load_settings
from workers.android.telemetry import idle_readings, readings
from workers.android.tools.tool import PhoneTool
from workers.clock import steady
from workers.contract import Measurement
from workers.devices.device import Carried, CarryingDriver, Errand
from workers.errors import AttemptError, Cause, UnsupportedError
from workers.host_monitor import FOREIGN_WINDOW_S, HostMonitor
from workers.report import GateReading, Reading
from workers.runtimes.phone_tools import PHONE_TOOLS

if TYPE_CHECKING:
    from workers.android.adb import AdbServer

log = logging.getLogger(__name__)

#: Phones are looked at once a second, and a look in which a job ended may say nothing: two good seconds lie in so many.
_LOOK_BACK_S = FOREIGN_WINDOW_S + 4.0
#: Idle power before a run is taken from so long before it.
_IDLE_S = 60.0
#: A phone says who it is within a second; one that hangs must not hold up the others.
_SETTLE_S = 3.0


class AndroidPhones(CarryingDriver):
    """The phones that this host's adb server sees.

    An adb server is started where this host has joined a farm, or has settings for phones; elsewhere one that runs is
    used, for a laptop that measures its own CPU need not have one.
    """

    recovery: ClassVar[tuple[str, ...]] = ("reconnect", "restart the adb server", "USB power", "reboot")

    def __init__(self) -> None:
        """Nothing is looked at before `discover`."""
        self._lock = threading.Lock()
        self._rack: Rack | None = None
        self._settings = Settings()
        self._changed: Callable[[], None] = lambda: None
        #: Phones that cannot be used, and that the log knows of.
        self._told: list[Stranger] = []
        #: Jobs that are waited for: the id of each phone's, which nobody may clear away meanwhile.
        self._jobs: dict[str, str] = {}
        #: Epoch seconds when the last attempt on each phone ended, and its work there with it.
        self._idle_from: dict[str, float] = {}

    def discover(self) -> list[DeviceDescription]:
        """See `DeviceDriver.discover`.

        Raises:
            UsageError: the settings cannot be read.
        """
        rack = self._started()
        if rack is None:
            return []
        if rack.failure is not None:
            raise RuntimeError("a thread that watches phones died") from rack.failure
        strangers = rack.strangers()
        for stranger in strangers:
            # No device, for nobody knows which phone it is; whoever owns the rack finds it in the agent's log.
            if stranger.remedy is not None and stranger not in self._told:
                log.warning("phone %s is %s: %s", stranger.listed.serial, stranger.presence, stranger.remedy)
        self._told = strangers
        # One that is gone may hang on another host by now; but not while it is waited for.
        gone = remedy(Presence.ABSENT)
        known = [phone for phone in rack.phones() if phone.remedy != gone or phone.key in self._jobs]
        return [self._description(phone) for phone in known]

    def watch(self, changed: Callable[[], None]) -> None:
        """See `DeviceDriver.watch`."""
        self._changed = changed

    def close(self) -> None:
        """See `DeviceDriver.close`. The adb server goes on: others use it, too."""
        if self._rack is not None:
            self._rack.close()

    def check(
        self, device: DeviceDescription, monitor: HostMonitor, since: float, until: float, own: Iterable[int]
    ) -> GateReading:
        """See `DeviceDriver.check`; of this host nothing is asked, for a phone does not mind it."""
        known = self._known(device)
        snapshots = known.history.between(since, until)
        if not (snapshots and snapshots[-1].job):  # else it is about a run: what came before it is not of it
            snapshots = known.history.between(min(since, until - _LOOK_BACK_S), until)
        load = foreign_load(snapshots, snapshots[0].at if snapshots else since, until)
        latest, full = known.history.latest(), known.history.latest(full=True)
        if load.share_of_core is None and latest is not None and latest.cpu.busy_s is None:
            load = replace(load, window_s=FOREIGN_WINDOW_S)  # it hides its CPU times: waiting shows no more
        checks = {"presence": "ok" if known.phone is not None else known.remedy or str(known.presence)}
        checks["snapshot"] = freshness(full, latest, until)
        checks |= gate_checks(full, load, self._settings.gate)
        passed = all(check in ("ok", "unknown") for check in checks.values())
        return GateReading(passed=passed, checks=checks, foreign_load=load)

    def compute_unit(self, device: DeviceDescription) -> str:
        """See `DeviceDriver.compute_unit`: the runtime's option says which delegate is asked for."""
        return "cpu"

    def environment(self, device: DeviceDescription) -> dict[str, str]:
        """See `DeviceDriver.environment`."""
        names = ("build", "os", "security_patch", "kernel", "soc")
        return {name: str(device.attributes[name]) for name in names if device.attributes.get(name) is not None}

    def readings(self, device: DeviceDescription, monitor: HostMonitor) -> Sequence[Reading]:
        """See `DeviceDriver.readings`: of what its heartbeat told; the phone is not asked for it."""
        history = self._known(device).history
        latest, full = history.latest(), history.latest(full=True)
        if latest is None or steady() - latest.at > _LOOK_BACK_S:
            return ()
        model = str(device.attributes.get("model") or "")
        return idle_readings(full, latest, model=model)

    def recover(self, device: DeviceDescription, rung: int) -> None:
        """See `DeviceDriver.recover`. Power of the port is the lab's to switch, where it said how."""
        if (rack := self._rack) is None:
            raise AttemptError(Cause.DEVICE, "no_adb", "this host has no adb server")
        if rung == 0:
            ladder.reconnect(rack, device.key)
        elif rung == 1:
            ladder.restart_server(rack, device.key, list(self._jobs))
        elif rung == 2:
            if not self._settings.usb_power:
                raise AttemptError(Cause.DEVICE, "no_usb_power", "android.toml names no command for USB power")
            ladder.cycle_usb_power(rack, device.key, self._settings.usb_power)
        else:
            ladder.reboot(rack, device.key)

    def carry(self, errand: Errand) -> Carried:
        """See `CarryingDriver.carry`."""
        order, key = errand.order, errand.device.key
        task = order.on_device
        assert task is not None  # conversions have no device
        if order.evaluate is not None:
            raise UnsupportedError("tools on phones time a program, and do not answer to a data set")
        known = self._known(errand.device)
        route = Route(
            reach=lambda: self._known(errand.device).phone,
            history=known.history,
            abis=tuple(str(abi) for abi in _texts(known.identity.attributes.get("abis"))),
            settings=self._settings,
        )
        attempt = PhoneAttempt(order, _tool(task.runtime), route, errand.folder, errand.ending)
        with self._lock:
            self._jobs[key] = attempt.job_id
            idle_from = self._idle_from.get(key, 0.0)
        try:
            if order.profile is not None:
                return Carried(result=attempt.result(profile=attempt.profile(errand.tell_started)))
            measured = attempt.measure(errand.tell_started)
        finally:
            with self._lock:
                self._jobs.pop(key, None)
            if not attempt.left_clean and (phone := route.reach()) is not None:
                # It was away when it was to be cleared up, and was met again while its job was spared.
                with suppress(AttemptError):
                    clean(phone, release=True)
            with self._lock:
                self._idle_from[key] = steady()
        result = attempt.result(measured)
        model = str(known.identity.attributes.get("model") or "")
        snapshots = known.history.between(measured.timed_from - _IDLE_S, measured.timed_to + _LOOK_BACK_S)
        idle = max(measured.timed_from - _IDLE_S, idle_from), result.started_at
        inferences = _inferences(measured, task.options.batch)
        spent = energy(snapshots, measured.timed_from, measured.timed_to, *idle, inferences, model=model)
        if spent.quality == "ok":
            why = "starting the tool and loading the model, once for each invocation, are in it"
            spent = replace(spent, quality="partial", why=why)
        told = readings(snapshots, measured.timed_from, measured.timed_to, model=model)
        return Carried(result=result, telemetry=told, energy=spent)

    # Below: the rack.

    def _started(self) -> Rack | None:
        if self._rack is None:
            settings = load_settings()
            try:
                from workers.android.adb import AdbServer  # the extra `android` may not be installed
            except ModuleNotFoundError:
                return None
            server = AdbServer(settings.adb.port, settings.adb.path)
            if server.adb is None or not (_may_start(settings) or _answers(server)):
                return None
            self._settings = settings
            self._rack = Rack(server, lambda: self._changed(), self._meet, addresses=settings.adb.addresses)
            self._rack.start()
            _settle(self._rack, server)
        return self._rack

    def _meet(self, key: str, phone: Phone) -> None:
        """A phone came: what others left on it is cleared away, but not the job that is waited for."""
        refuse_owned(phone)
        with self._lock:
            spare = self._jobs.get(key)
        clean(phone, spare, release=spare is None)

    def _known(self, device: DeviceDescription) -> KnownPhone:
        known = self._rack.phone(device.key) if self._rack is not None else None
        if known is None:
            raise PhoneLostError(f"{device.name} never was on this host", "no_such_device")
        return known

    def _description(self, known: KnownPhone) -> DeviceDescription:
        attributes = dict(known.identity.attributes)
        abis = _texts(attributes.get("abis"))
        attributes["runtimes"] = tuple(name for name in PHONE_TOOLS if self._settings.tool(name, abis) is not None)
        if known.identity.note is not None:
            attributes["note"] = known.identity.note
        if known.remedy is not None:
            attributes["remedy"] = known.remedy
        return DeviceDescription(
            key=known.key,
            name=f"{known.identity.name_part}-{known.key[-4:]}",
            kind="android",
            driver="android",
            attributes=attributes,
            presence="online" if known.presence == Presence.ONLINE else str(known.presence),
            recovery=self.recovery,
        )


def _inferences(measured: Measurement, batch: int) -> int:
    """All that ran between the beginning of the first invocation and the end of the last."""
    timings = measured.timings
    return (timings.iterations * timings.inner_iterations + measured.warm_up.runs) * batch


def _tool(runtime: str) -> PhoneTool:
    found = PHONE_TOOLS.get(runtime)
    if found is None:
        raise AttemptError(Cause.BUG, "no_tool", f"{runtime} is no tool of phones")
    return found


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(one) for one in value) if isinstance(value, list | tuple) else ()


def _may_start(settings: Settings) -> bool:
    return settings.path is not None or "BENCHFARM_HOST_NAME" in os.environ


def _settle(rack: Rack, server: AdbServer) -> None:
    """Wait until the phones that hang on the server have said who they are: who asks first is to see them all."""
    until = time.monotonic() + _SETTLE_S
    with suppress(AttemptError):
        if not _answers(server):
            server.start()
        there = sum(listed.presence is Presence.ONLINE for listed in server.devices())
        while time.monotonic() < until and sum(phone.phone is not None for phone in rack.phones()) < there:
            time.sleep(0.02)


def _answers(server: AdbServer) -> bool:
    with suppress(AttemptError):
        server.version()
        return True
    return False
