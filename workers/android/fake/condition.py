"""A played phone's charge, heat and load, and the texts in which Android and the kernel tell of them.

Nothing ticks: the texts are written anew whenever a host opens a shell, for the time that passed since.
"""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workers.android.fake.description import VENDORS, Description

#: Marks every process that a phone runs; its value is the phone's folder.
PHONE_VARIABLE = "FAKE_PHONE"

#: Heat follows load so fast: a run of seconds is to show.
_HEATING_S = 5.0
_CAPACITY_UAH = 4_500_000
_TICKS_PER_S = 100
#: Skin temperatures at which the thermal status rises to light, moderate, severe, ...
_STATUS_AT_C = (39.0, 43.0, 46.0, 50.0, 55.0, 60.0)
_HANDLERS = "\tcallbacks: 1\n\tkilled: false\n\tbroadcasts count: -1\n"


@dataclass(kw_only=True)
class Condition:
    """What may change while a phone is in use. Temperatures move towards what load demands."""

    level: float = 60.0
    #: ac, usb, wireless; empty: no charger.
    charger: str = "usb"
    voltage_mv: int = 3950
    battery_c: float = 28.0
    #: Flowing out of the battery; with a charger none does.
    idle_ma: float = 120.0
    busy_ma: float = 900.0
    skin_c: float = 31.0
    idle_skin_c: float = 31.0
    busy_skin_c: float = 34.0
    #: Overrides what the skin's temperature makes of it.
    thermal_status: int | None = None
    #: Cores that something else than our job keeps busy.
    foreign_cores: float = 0.0
    #: Power of all rails together.
    idle_mw: float = 400.0
    busy_mw: float = 3500.0
    memory_mb: int = 8192


class Texts:
    """Writes what a phone tells of its condition into the files that it is read from."""

    def __init__(self, described: Description, folder: Path) -> None:
        """`folder` gets `sys`, `fake` and `proc`; all files stand when this returns."""
        self._described, self._vendor, self._folder = described, VENDORS[described.vendor], folder
        self.condition = Condition(**described.condition)
        self._written: dict[str, str] = {}
        self._at = self._booted = time.monotonic()
        self._rails_uj = [0.0] * len(self._vendor.rails)
        self._cores = sum(count for _, count, _, _ in self._vendor.clocks)
        self._busy_ticks = self._idle_ticks = 0.0
        (folder / "fake" / "busy").mkdir(parents=True)
        (folder / "fake" / "settings" / "global").mkdir(parents=True)
        self._write("fake/settings/global/airplane_mode_on", "0\n")
        properties = described.all_properties()
        self._write("fake/properties", "".join(f"{key}={value}\n" for key, value in properties.items()))
        self._write("fake/delegates", "".join(f"{name} {share}\n" for name, share in described.delegates.items()))
        for wanted, name in (
            (not described.has_fixed_performance, "no_fixed_performance"),
            (described.can_suspend_input, "can_suspend_input"),
        ):
            if wanted:
                self._write(f"fake/{name}", "")
        help_lines = "  suspend_input\n" if described.can_suspend_input else ""
        self._write("fake/battery_help", f"Battery service (battery) commands:\n  help\n  set ...\n{help_lines}")
        self._write_still()
        self.restart()

    def restart(self) -> None:
        """What a start of the phone sets back."""
        self._booted = self._at = time.monotonic()
        self._began = time.time()
        self._busy_ticks = self._idle_ticks = 0.0
        self._rails_uj = [0.0] * len(self._vendor.rails)
        for busy in (self._folder / "fake" / "busy").iterdir():
            busy.unlink()
        for name in ("battery_faked", "input_suspended"):
            (self._folder / "fake" / name).unlink(missing_ok=True)
        for name, text in (("wakefulness", "Awake\n"), ("stay_on", "false\n"), ("fixed_performance", "false\n")):
            (self._folder / "fake" / name).write_text(text)
        self._write("proc/sys/kernel/random/boot_id", f"{uuid.uuid4()}\n")
        self.refresh()

    def refresh(self) -> None:
        """Let the time pass that has passed."""
        now = time.monotonic()
        seconds, self._at = now - self._at, now
        is_busy = self._is_busy()
        self._live(seconds, is_busy)
        self._write_battery(is_busy)
        self._write_heat()
        self._write_clocks(is_busy)
        self._write_proc()
        if self._vendor.rails:
            millis = int((now - self._booted) * 1000)
            lines = [
                f"CH{index}(T={millis})[{name}], {int(used)}"
                for index, (name, used) in enumerate(zip(self._vendor.rails, self._rails_uj, strict=True))
            ]
            self._write("sys/bus/iio/devices/iio:device0/energy_value", "\n".join([f"t={millis}", *lines]) + "\n")

    def _is_busy(self) -> bool:
        """Whether a tool that says when it computes is alive."""
        is_busy = False
        for entry in (self._folder / "fake" / "busy").iterdir():
            if self._is_ours(entry.name):
                is_busy = True
            else:
                entry.unlink(missing_ok=True)
        return is_busy

    def _is_ours(self, pid: str) -> bool:
        """Whether that process runs on this phone: a pid may be somebody else's by now."""
        try:
            variables = Path("/proc", pid, "environ").read_bytes().split(b"\0")
        except OSError:
            return False
        return f"{PHONE_VARIABLE}={self._folder}".encode() in variables

    def _live(self, seconds: float, is_busy: bool) -> None:
        condition = self.condition
        if not self._charger():
            drained = self._drain_ma(is_busy) * 1000 * seconds / 3600 / _CAPACITY_UAH * 100
            condition.level = max(0.0, condition.level - drained)
        wanted = condition.busy_skin_c if is_busy else condition.idle_skin_c
        condition.skin_c += (wanted - condition.skin_c) * (1 - math.exp(-seconds / _HEATING_S))
        for index in range(len(self._rails_uj)):
            milliwatts = condition.busy_mw if is_busy else condition.idle_mw
            self._rails_uj[index] += milliwatts / len(self._rails_uj) * seconds * 1000
        ticks = seconds * _TICKS_PER_S
        self._busy_ticks += ticks * condition.foreign_cores
        self._idle_ticks += ticks * (self._cores - condition.foreign_cores)

    def _charger(self) -> str:
        suspended = (self._folder / "fake" / "input_suspended").exists()
        return "" if suspended else self.condition.charger

    def _drain_ma(self, is_busy: bool) -> float:
        return self.condition.busy_ma if is_busy else self.condition.idle_ma

    def _write_battery(self, is_busy: bool) -> None:
        condition, vendor, charger = self.condition, self._vendor, self._charger()
        microampere = 0.0 if charger else vendor.discharge_sign * self._drain_ma(is_busy) * 1000
        current = int(microampere / vendor.current_unit_ua)
        charge = int(condition.level / 100 * _CAPACITY_UAH / vendor.charge_unit_uah)
        powered = {name: str(charger == name.lower()).lower() for name in ("AC", "USB", "Wireless")}
        text = (
            "Current Battery Service state:\n"
            + "".join(f"  {name} powered: {answer}\n" for name, answer in powered.items())
            + f"  Max charging current: {500_000 if charger else 0}\n"
            + f"  Max charging voltage: {5_000_000 if charger else 0}\n"
            + f"  Charge counter: {charge}\n"
            + f"  status: {2 if charger else 3}\n  health: 2\n  present: true\n"
            + f"  level: {int(condition.level)}\n  scale: 100\n  voltage: {condition.voltage_mv}\n"
            + f"  temperature: {round(condition.battery_c * 10)}\n  technology: Li-ion\n"
            + vendor.battery_lines.format(current=current, charge=charge)
        )
        self._write("fake/dumpsys/battery", text)
        supply = {
            "type": "Battery",
            "status": "Charging" if charger else "Discharging",
            "capacity": int(condition.level),
            "voltage_now": condition.voltage_mv * 1000,
            "current_now": current,
            "charge_counter": charge,
            "temp": round(condition.battery_c * 10),
        }
        for name, value in supply.items():
            self._write(f"sys/class/power_supply/battery/{name}", f"{value}\n")
        self._write("sys/class/power_supply/usb/online", f"{int(charger == 'usb')}\n")

    def _write_heat(self) -> None:
        for number, (name, unit) in enumerate(self._vendor.zones):
            self._write(f"sys/class/thermal/thermal_zone{number}/temp", f"{round(self._degrees(name) * unit)}\n")
        status = self._status()
        self._write("fake/dumpsys/thermalservice", self._thermal_service(status))

    def _degrees(self, sensor: str) -> float:
        condition, name = self.condition, sensor.lower()
        if name == "absent":
            return -99.9
        if "batt" in name:
            return condition.battery_c
        return condition.skin_c if "skin" in name else condition.skin_c + 8

    def _status(self) -> int:
        if self.condition.thermal_status is not None:
            return self.condition.thermal_status
        return sum(self.condition.skin_c >= limit for limit in _STATUS_AT_C)

    def _thermal_service(self, status: int) -> str:
        hal = self._vendor.hal

        def listed(shift_c: float) -> str:
            lines = []
            for kind, name in hal:
                value = 12.0 if kind == 6 else self._degrees(name) + shift_c
                own = status if kind in (3, 4) else 0
                lines.append(f"\tTemperature{{mValue={value:.1f}, mType={kind}, mName={name}, mStatus={own}}}\n")
            return "".join(lines)

        never = ", ".join(["NaN"] * 7)
        thresholds = "".join(
            f"\tTemperatureThreshold{{mType={kind}, mName={name}, mHotThrottlingThresholds=[NaN, 39.0, 43.0, 46.0, "
            f"50.0, 55.0, 60.0], mColdThrottlingThresholds=[{never}]}}\n"
            for kind, name in hal
        )
        return (
            f"IsStatusOverride: {str(self.condition.thermal_status is not None).lower()}\n"
            f"ThermalEventListeners:\n{_HANDLERS}ThermalStatusListeners:\n{_HANDLERS}"
            f"Thermal Status: {status}\n"
            # The cache is old on purpose: whoever reads it is wrong.
            f"Cached temperatures:\n{listed(21.0)}"
            f"HAL Ready: {str(bool(hal)).lower()}\n"
            + (
                f"HAL connection:\n\tThermalHAL AIDL 2  connected: yes\nCurrent temperatures from HAL:\n{listed(0.0)}"
                "Current cooling devices from HAL:\n"
                f"\tCoolingDevice{{mValue={status}, mType=2, mName=thermal-cpufreq-0}}\n"
                f"Temperature static thresholds from HAL:\n{thresholds}"
                if hal
                else ""
            )
        )

    def _write_clocks(self, is_busy: bool) -> None:
        is_throttled = self._status() >= 2
        for first, _, lowest, highest in self._vendor.clocks:
            most = highest * 6 // 10 if is_throttled else highest
            policy = f"sys/devices/system/cpu/cpufreq/policy{first}"
            self._write(f"{policy}/scaling_max_freq", f"{most}\n")
            self._write(f"{policy}/scaling_cur_freq", f"{most if is_busy else lowest}\n")

    def _write_proc(self) -> None:
        rest = "0 0 0 0 0 0"
        fields = f"{int(self._busy_ticks)} 0 0 {int(self._idle_ticks)} {rest}"
        each = f"{int(self._busy_ticks / self._cores)} 0 0 {int(self._idle_ticks / self._cores)} {rest}"
        cores = "".join(f"cpu{core} {each}\n" for core in range(self._cores))
        self._write("proc/stat", f"cpu  {fields}\n{cores}intr 0\nctxt 0\nbtime {int(self._began)}\n")

    def _write_still(self) -> None:
        """What never changes."""
        vendor = self._vendor
        for number, (name, _) in enumerate(vendor.zones):
            self._write(f"sys/class/thermal/thermal_zone{number}/type", f"{name}\n")
        for first, count, lowest, highest in vendor.clocks:
            policy = f"sys/devices/system/cpu/cpufreq/policy{first}"
            cpus = " ".join(str(first + index) for index in range(count))
            still: Mapping[str, object] = {
                "related_cpus": cpus,
                "affected_cpus": cpus,
                "cpuinfo_min_freq": lowest,
                "cpuinfo_max_freq": highest,
                "scaling_min_freq": lowest,
                "scaling_governor": "schedutil",
            }
            for name, value in still.items():
                self._write(f"{policy}/{name}", f"{value}\n")
        for name in ("present", "possible", "online"):
            self._write(f"sys/devices/system/cpu/{name}", f"0-{self._cores - 1}\n")
        if vendor.rails:
            self._write("sys/bus/iio/devices/iio:device0/name", "s2mpg14-odpm\n")
            self._write("sys/bus/iio/devices/iio:device0/enabled_rails", "".join(f"{name}\n" for name in vendor.rails))
        total_kb = self.condition.memory_mb * 1024
        free = f"MemFree: {total_kb // 4} kB\nMemAvailable: {total_kb // 2} kB\nBuffers: 1000 kB\nCached: 900000 kB\n"
        self._write("proc/meminfo", f"MemTotal: {total_kb} kB\n{free}SwapTotal: 0 kB\nSwapFree: 0 kB\n")
        self._write("proc/loadavg", "0.10 0.20 0.30 1/900 12345\n")
        for path, text in self._described.files.items():
            self._write(path.lstrip("/"), text or "")
            if text is None:
                (self._folder / path.lstrip("/")).chmod(0)

    def _write(self, path: str, text: str) -> None:
        """In place, for a file of /proc is mounted by its inode; never empty, for disks write at once what was."""
        if (before := self._written.get(path)) == text:
            return
        self._written[path] = text
        file = self._folder / path
        if before is None:
            file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            data = text.encode()
            os.write(descriptor, data)
            os.ftruncate(descriptor, len(data))
        finally:
            os.close(descriptor)
