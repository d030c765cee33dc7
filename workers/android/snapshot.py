"""A phone's state in one shell call: the scripts that read it, and what they printed as data.

A script starts three short processes on the phone, and four more every fifth time; everything else is the shell's own.
The CPU time of all that is in the snapshot, so that looking is not taken for foreign load.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from workers.android.parsers.battery import Battery, read_battery
from workers.android.parsers.cpu_clocks import CpuClocks, read_cpu_clocks
from workers.android.parsers.cpu_times import CpuTimes, ProcessTimes, read_cpu_times, read_processes
from workers.android.parsers.memory import Memory, read_memory
from workers.android.parsers.power_supply import PowerSupply, read_power_supply
from workers.android.parsers.rails import Rails, read_rails
from workers.android.parsers.screen import Screen, read_screen
from workers.android.parsers.thermal_service import ThermalService, read_thermal_service
from workers.android.parsers.thermal_zones import ThermalZones, read_thermal_zones
from workers.android.parsers.value import integer, number, plain_lines
from workers.android.phone import ROOT

#: Of a phone's answer so much is read; dumps of vendors can be endless.
OUTPUT_LIMIT = 128 * 1024
#: A full snapshot asks Android's services as well, which costs the phone some 20 ms: one in so many.
FULL_EVERY = 5
_MARK = "@@benchfarm"

_KERNEL = """
echo "@@benchfarm kernel"
read -r up idle < /proc/uptime
read -r boot < /proc/sys/kernel/random/boot_id
echo "uptime $up"
echo "boot $boot"
"""
# The job's processes: the leader of its group, and what descends from it. Where the kernel keeps no list of children,
# those of its group are looked for among all.
_JOB = rf"""
pid= ticks= family=
read -r pid ticks boot < {ROOT}/job/pid
if [ -n "$pid" ] && [ -r "/proc/$pid/stat" ]; then
  family=$pid
  if [ -r "/proc/$pid/task/$pid/children" ]; then
    todo=$pid
    while [ -n "$todo" ]; do
      found=
      for one in $todo; do
        for list in /proc/$one/task/*/children; do
          some=
          read -r some < "$list"
          [ -z "$some" ] || found="$found $some"
        done
      done
      family="$family$found"
      todo=${{found# }}
    done
  else
    for one in $(grep -lE "\) [A-Z] [0-9]+ $pid " /proc/[0-9]*/stat); do
      one=${{one#/proc/}}
      one=${{one%/stat}}
      [ "$one" = "$pid" ] || family="$family $one"
    done
  fi
  echo "job $ticks"
  echo "@@benchfarm job"
  for one in $family; do
    line=
    read -r line < "/proc/$one/stat"
    echo "$line"
  done
fi
"""
_FILES = """
echo "@@benchfarm processes"
set -- /proc/stat /proc/meminfo
for one in $family; do set -- "$@" "/proc/$one/status"; done
grep -H -E '^(cpu|MemAvailable|VmRSS)' "$@" 2>&1
echo "@@benchfarm files"
set -- /sys/class/power_supply/*/online
for one in /sys/class/power_supply/battery /sys/class/power_supply/bms /sys/class/power_supply/*gauge*; do
  set -- "$@" "$one/status" "$one/current_now" "$one/voltage_now" "$one/charge_counter"
done
for one in /sys/devices/system/cpu/cpufreq/policy*; do
  set -- "$@" "$one/scaling_cur_freq" "$one/scaling_max_freq" "$one/cpuinfo_max_freq"
done
set -- "$@" /sys/bus/iio/devices/iio:device*/energy_value
"""
_ZONES = """
for one in /sys/class/thermal/thermal_zone*; do set -- "$@" "$one/type" "$one/temp"; done
"""
_READ = """
grep -H . "$@" 2>&1
"""
_SERVICES = """
echo "@@benchfarm battery"
dumpsys battery 2>&1
echo "@@benchfarm thermal"
dumpsys thermalservice 2>&1
echo "@@benchfarm screen"
dumpsys power 2>&1 | grep -E 'mWakefulness|Display Power: state|mLowPowerModeEnabled|mBatterySaverEnabled'
"""
# Last, so that what the script itself has used is nearly all there: this shell, and the daemon that carries it.
_END = """
echo "@@benchfarm watcher"
read -r line < /proc/self/stat
echo "$line"
read -r line < "/proc/$PPID/stat"
case $line in *"(adbd)"*) echo "$line";; esac
echo "@@benchfarm end"
"""


def _script(*parts: str) -> str:
    return "{" + "".join(parts) + f"}} 2>/dev/null | head -c {OUTPUT_LIMIT}\n"


#: Files of the kernel alone.
LIGHT_SCRIPT = _script(_KERNEL, _JOB, _FILES, _READ, _END)
#: All there is.
SNAPSHOT_SCRIPT = _script(_KERNEL, _JOB, _FILES, _ZONES, _READ, _SERVICES, _END)


def script_for(count: int) -> str:
    """The script of a phone's n-th snapshot, counted from 0: every fifth is full, so is the first."""
    return SNAPSHOT_SCRIPT if count % FULL_EVERY == 0 else LIGHT_SCRIPT


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a phone told at one moment. What a light script does not ask for is None."""

    #: Epoch seconds of the host that asked.
    at: float
    #: The script came to its end within the limit.
    complete: bool
    boot_id: str | None
    uptime_s: float | None
    cpu: CpuTimes
    #: Processes of our job, its leader first; empty where none runs.
    job: tuple[ProcessTimes, ...]
    #: This script's shell and the daemon that carries it.
    watchers: tuple[ProcessTimes, ...]
    memory: Memory
    supply: PowerSupply
    clocks: CpuClocks
    rails: Rails
    battery: Battery | None
    thermal: ThermalService | None
    zones: ThermalZones | None
    screen: Screen | None
    #: The text as it came, up to the limit.
    raw: str

    @property
    def full(self) -> bool:
        """Whether Android's services were asked."""
        return self.battery is not None

    @property
    def skin_c(self) -> float | None:
        """The hottest skin sensor: of the thermal service, else of the kernel's zones."""
        told = [sensor.celsius for sensor in self.thermal.temperatures if sensor.part == "skin"] if self.thermal else []
        if not any(value.value is not None for value in told) and self.zones is not None:
            told = [zone.celsius for zone in self.zones.zones if zone.part == "skin"]
        return max((value.value for value in told if value.value is not None), default=None)

    @property
    def unread(self) -> dict[str, tuple[str, ...]]:
        """Lines that a parser knew and could not read, by its section."""
        lines = {
            "cpu": self.cpu.unread,
            "memory": self.memory.unread,
            "power_supply": self.supply.unread,
            "clocks": self.clocks.unread,
            "rails": self.rails.unread,
            "battery": self.battery.unread if self.battery else (),
            "thermal": self.thermal.unread if self.thermal else (),
            "zones": self.zones.unread if self.zones else (),
        }
        return {section: unread for section, unread in lines.items() if unread}


def read_snapshot(text: str, at: float) -> Snapshot:
    """Read what a script printed; a total function.

    Args:
        text: anything; beyond the limit it is left alone.
        at: epoch seconds of the moment.
    """
    text = text[:OUTPUT_LIMIT]
    sections = _sections(text)
    kernel = dict(line.split(" ", 1) for line in plain_lines(sections.get("kernel", "")) if " " in line)
    files = _by_source(sections.get("files", ""))
    processes = sections.get("processes", "")
    full = "battery" in sections
    return Snapshot(
        at=at,
        complete="end" in sections,
        boot_id=kernel.get("boot", "").strip() or None,
        uptime_s=number(kernel.get("uptime", "")),
        cpu=read_cpu_times(processes),
        job=_job(sections.get("job", ""), kernel.get("job", "")),
        watchers=read_processes(sections.get("watcher", ""))[0],
        memory=read_memory(processes),
        supply=read_power_supply(files["power_supply"]),
        clocks=read_cpu_clocks(files["cpufreq"]),
        rails=read_rails(files["energy_value"]),
        battery=read_battery(sections["battery"]) if full else None,
        thermal=read_thermal_service(sections["thermal"]) if "thermal" in sections else None,
        zones=read_thermal_zones(files["thermal_zone"]) if full else None,
        screen=read_screen(sections["screen"]) if "screen" in sections else None,
        raw=text,
    )


def _job(text: str, started: str) -> tuple[ProcessTimes, ...]:
    """The job's processes; none where the number of its leader has gone to a process that began at another time."""
    processes = read_processes(text)[0]
    return processes if processes and processes[0].started_ticks == integer(started) else ()


def _sections(text: str) -> dict[str, str]:
    """Texts between marker lines; the last of each name."""
    parts = re.split(rf"^{_MARK} ([a-z]+)\r?$\n?", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _by_source(text: str) -> dict[str, str]:
    """Lines of many small files by the part of the path that says whose they are."""
    sources: dict[str, list[str]] = {"power_supply": [], "cpufreq": [], "energy_value": [], "thermal_zone": []}
    for line in plain_lines(text):
        for name, lines in sources.items():
            if name in line:
                lines.append(line)
                break
    return {name: "\n".join(lines) for name, lines in sources.items()}
