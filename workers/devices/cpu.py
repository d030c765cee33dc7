"""This host's CPU as a device."""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
import uuid
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import psutil

from device_registry.capabilities import Attribute, DeviceDescription
from workers.devices.device import DeviceDriver
from workers.host_monitor import HostMonitor
from workers.judge import FOREIGN_LOAD_LIMIT
from workers.report import GateReading, Reading

#: Instruction sets that decide how fast a model runs.
_FEATURES = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_int8",
    "asimddp",
    "asimdhp",
    "bf16",
    "sve",
)
#: A CPU warmer than this at start would throttle early.
_START_LIMIT_C = 75.0


class HostCpu(DeviceDriver):
    """All cores of the host, one device."""

    def discover(self) -> list[DeviceDescription]:
        """See `DeviceDriver.discover`."""
        key = machine_key()  # of the machine, whatever the farm calls its host
        attributes: dict[str, Attribute] = {
            "model": cpu_model(),
            "architecture": platform.machine(),
            "cores": psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
            "threads": psutil.cpu_count() or 1,
            "memory_bytes": psutil.virtual_memory().total,
            "os": platform.system(),
            "os_version": _os_version(),
            "virtual": _is_virtual(),
            "features": " ".join(feature for feature in _FEATURES if feature in cpu_features()),
        }
        name = f"{self.host_name}-cpu"
        return [DeviceDescription(key=f"cpu:{key}", name=name, kind="cpu", driver="cpu", attributes=attributes)]

    def check(
        self, device: DeviceDescription, monitor: HostMonitor, since: float, until: float, own: Iterable[int]
    ) -> GateReading:
        """See `DeviceDriver.check`."""
        load = monitor.foreign_load(since, until, own)
        if load.share_of_core is None:
            busy = "unknown"
        elif load.share_of_core > FOREIGN_LOAD_LIMIT:
            busy = f"{load.share_of_core:.0%} of a core goes to {', '.join(load.culprits) or 'short-lived processes'}"
        else:
            busy = "ok"
        checks = {"foreign_load": busy, "temperature": _temperature(monitor, since, until), "power": _power()}
        passed = all(check in ("ok", "unknown") for check in checks.values())
        return GateReading(passed=passed, checks=checks, foreign_load=load)

    def readings(self, device: DeviceDescription, monitor: HostMonitor) -> Sequence[Reading]:
        """See `DeviceDriver.readings`: what was seen last; nothing is looked at for it."""
        return monitor.latest()

    def compute_unit(self, device: DeviceDescription) -> str:
        """See `DeviceDriver.compute_unit`."""
        return "cpu"

    def environment(self, device: DeviceDescription) -> dict[str, str]:
        """See `DeviceDriver.environment`."""
        return {
            "os": _os_version(),
            "kernel": platform.release(),
            "cpu": cpu_model(),
            "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            "turbo_off": _read("/sys/devices/system/cpu/intel_pstate/no_turbo"),
            "virtual": str(_is_virtual()),
        }


@cache
def machine_key() -> str:
    """A stable identity of this machine; hashed, for machine ids are meant to stay on the machine."""
    for file in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        if (text := _read(file)) not in ("unknown", ""):
            return _digest(text)
    if sys.platform == "darwin":
        command = ["/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice"]
        text = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
        if "IOPlatformUUID" in text:
            return _digest(text.partition("IOPlatformUUID")[2].split('"')[2])
    return _digest(f"{platform.node()}{uuid.getnode():x}")


@cache
def cpu_model() -> str:
    """The processor's name."""
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    return platform.processor() or platform.machine()


@cache
def cpu_features() -> frozenset[str]:
    """Instruction-set flags, as the kernel names them."""
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def _os_version() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return f"{platform.system()} {platform.release()}"


def _is_virtual() -> bool:
    return "hypervisor" in cpu_features()


def _temperature(monitor: HostMonitor, since: float, until: float) -> str:
    celsius = [r.value for r in monitor.telemetry(since, until) if r.quantity == "temperature" and r.value is not None]
    if not celsius:
        return "unknown"
    return (
        "ok"
        if max(celsius) <= _START_LIMIT_C
        else f"{max(celsius):.0f} C, above the start limit of {_START_LIMIT_C:.0f} C"
    )


def _power() -> str:
    battery = psutil.sensors_battery()
    if battery is None:
        return "unknown"
    return "ok" if battery.power_plugged else "on battery: clocks are not those of mains"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "unknown"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
