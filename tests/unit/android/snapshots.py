"""Texts of snapshots as a phone prints them, with the facts that a test is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from workers.android.snapshot import Snapshot, read_snapshot

SAMPLES = Path(__file__).parent / "samples"


def sample(name: str) -> str:
    """A dump of `samples`."""
    return (SAMPLES / f"{name}.txt").read_text(encoding="utf-8")


def samples(*beginnings: str) -> list[str]:
    """All dumps whose names begin so."""
    return [path.read_text(encoding="utf-8") for path in sorted(SAMPLES.iterdir()) if path.name.startswith(beginnings)]


def process_stat(pid: int, name: str, parent: int, group: int, ticks: int, *, of_children: int = 0) -> str:
    """A line of /proc/PID/stat of a process that began at tick 1000."""
    return f"{pid} ({name}) S {parent} {group} {group} 0 -1 0 0 0 0 0 {ticks} 0 {of_children} 0 20 0 1 0 1000 0 0\n"


def snapshot(
    at: float,
    *,
    uptime_s: float | None = None,
    boot: str = "boot-1",
    busy_ticks: int = 0,
    job: str = "",
    watchers: str = "",
    battery: str | None = None,
    thermal: str = "Thermal Status: 0\nHAL Ready: true\n",
    status: str = "",
    current: int | str | None = None,
    voltage_uv: int | None = 3_900_000,
    chargers: Mapping[str, int] | None = None,
    limits_khz: Sequence[int] = (2_000_000,),
    rails_uj: Mapping[str, int] | None = None,
    zones: str = "",
    screen: str = "",
) -> Snapshot:
    """A snapshot, full where `battery` (the dump) is given."""
    files = [f"/sys/class/power_supply/{name}/online:{on}\n" for name, on in (chargers or {}).items()]
    supply = {"status": status or None, "current_now": current, "voltage_now": voltage_uv}
    for name, value in supply.items():
        if value == "denied":
            files.append(f"grep: /sys/class/power_supply/battery/{name}: Permission denied\n")
        elif value is not None:
            files.append(f"/sys/class/power_supply/battery/{name}:{value}\n")
    for number, limit_khz in enumerate(limits_khz):
        folder = f"/sys/devices/system/cpu/cpufreq/policy{number}"
        files.append(f"{folder}/scaling_cur_freq:1500000\n{folder}/scaling_max_freq:{limit_khz}\n")
        files.append(f"{folder}/cpuinfo_max_freq:2800000\n")
    for number, (rail, energy_uj) in enumerate((rails_uj or {}).items()):
        folder = "/sys/bus/iio/devices/iio:device0"
        files.append(f"{folder}/energy_value:CH{number}(T=1)[{rail}], {energy_uj}\n")
    services = "" if battery is None else f"@@benchfarm battery\n{battery}@@benchfarm thermal\n{thermal}"
    services += f"@@benchfarm screen\n{screen}" if battery is not None else ""
    text = (
        f"@@benchfarm kernel\nuptime {at if uptime_s is None else uptime_s}\nboot {boot}\n"
        + (f"job 1000\n@@benchfarm job\n{job}" if job else "")
        + f"@@benchfarm processes\n/proc/stat:cpu  {busy_ticks} 0 0 5000 0 0 0 0 0 0\n"
        + "/proc/meminfo:MemAvailable: 1000 kB\n"
        + f"@@benchfarm files\n{''.join(files)}{zones}{services}@@benchfarm watcher\n{watchers}@@benchfarm end\n"
    )
    return read_snapshot(text, at)
