"""workers.android.snapshot: its scripts on a phone's shell and on this machine's, and any text that may come."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.android.mutations import MANY, mutated
from tests.unit.android.phone_shells import SHELLS
from tests.unit.android.snapshots import process_stat, sample, snapshot
from workers.android.phone import ROOT
from workers.android.snapshot import (
    FULL_EVERY,
    LIGHT_SCRIPT,
    OUTPUT_LIMIT,
    SNAPSHOT_SCRIPT,
    Snapshot,
    read_snapshot,
    script_for,
)


class Tree:
    """A phone's files below a folder, and its `dumpsys`."""

    def __init__(self, folder: Path, shell: str) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.shell = shutil.which(shell) or shell
        for name in ("grep", "head", "cat"):
            real = shutil.which("toybox" if shell == "mksh" else name)
            assert real is not None
            (self.bin / name).symlink_to(real)
        dumpsys = self.bin / "dumpsys"
        dumpsys.write_text(f'#!/bin/sh\ncat "{folder}/$1.txt" 2>/dev/null || echo "Can\'t find service: $1"\n')
        dumpsys.chmod(0o755)

    def put(self, path: str, text: str) -> None:
        """Write a file of the phone."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def look(self, script: str) -> Snapshot:
        """Run a script in the tree."""
        script = script.replace(ROOT, f"{self.folder}/root").replace(" /sys/", f" {self.folder}/sys/")
        done = subprocess.run(
            [self.shell, "-c", script],
            capture_output=True,
            text=True,
            timeout=30,
            env={"PATH": str(self.bin)},
            check=True,
        )
        assert done.stderr == ""
        return read_snapshot(done.stdout, 5.0)


@pytest.fixture(params=SHELLS)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    """A phone without anything, under each shell."""
    return Tree(tmp_path, request.param)


@pytest.fixture
def job(tree: Tree) -> Iterator[subprocess.Popen[bytes]]:
    """A job as it is on a phone: a leader of its own group, which waits for a tool that works."""
    tool = "i=0; while [ $i -lt 20000000 ]; do i=$((i+1)); done"
    process = subprocess.Popen(["/bin/sh", "-c", f"(:; :) ; sh -c '{tool}'; wait"], start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def started_ticks(pid: int) -> int:
    """When a process of this machine began."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_a_full_script_reads_everything_that_is_there(tree: Tree) -> None:
    tree.put("sys/class/power_supply/battery/current_now", "-410000\n")
    tree.put("sys/class/power_supply/battery/status", "Discharging\n")
    tree.put("sys/class/power_supply/usb/online", "0\n")
    tree.put("sys/devices/system/cpu/cpufreq/policy4/scaling_cur_freq", "2400000\n")
    tree.put("sys/class/thermal/thermal_zone0/type", "cpu-0\n")
    tree.put("sys/class/thermal/thermal_zone0/temp", "43000\n")
    tree.put("sys/class/thermal/thermal_zone10/type", "skin\n")
    tree.put("sys/class/thermal/thermal_zone10/temp", "31500\n")
    tree.put("sys/bus/iio/devices/iio:device0/energy_value", "t=5\nCH0(T=5)[S4M_VDD_CPUCL0], 77\n")
    tree.put("battery.txt", sample("battery_unplugged"))
    tree.put("thermalservice.txt", sample("thermal_not_ready"))
    tree.put("power.txt", "POWER MANAGER\n" + sample("screen"))
    seen = tree.look(SNAPSHOT_SCRIPT)
    assert seen.complete
    assert seen.full
    assert seen.unread == {}
    assert seen.supply.current_raw.value == -410_000
    assert seen.supply.online == {"usb": False}
    assert [policy.current_khz.value for policy in seen.clocks.policies] == [2_400_000]
    assert [rail.energy_uj for rail in seen.rails.rails] == [77]
    assert seen.battery is not None
    assert (seen.battery.level_percent.value, seen.battery.plugged) == (61, ())
    assert seen.thermal is not None
    assert seen.thermal.status == 3
    assert seen.skin_c == 31.5  # from the zone: this phone's HAL is not ready
    assert seen.screen is not None
    assert seen.screen.on is False
    assert seen.memory.available_bytes
    assert seen.cpu.busy_s
    assert seen.cpu.cores == os.cpu_count()
    assert seen.uptime_s
    assert seen.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_a_phone_that_has_nothing_says_so_of_everything(tree: Tree) -> None:
    seen = tree.look(SNAPSHOT_SCRIPT)
    assert seen.complete
    assert seen.zones is not None
    for missing in (seen.clocks.missing, seen.rails.missing, seen.zones.missing):
        assert missing is not None
        assert missing.quality == "unsupported"
    assert seen.supply.current_raw.quality == "unsupported"
    assert seen.battery is not None
    assert seen.battery.unread == ("Can't find service: battery",)
    assert seen.job == ()


def test_a_light_script_asks_no_service(tree: Tree) -> None:
    tree.put("battery.txt", sample("battery_unplugged"))
    seen = tree.look(LIGHT_SCRIPT)
    assert (seen.complete, seen.full, seen.thermal, seen.zones, seen.screen) == (True, False, None, None, None)
    assert [script_for(count) is SNAPSHOT_SCRIPT for count in range(FULL_EVERY + 1)] == [True, *[False] * 4, True]


@pytest.mark.parametrize("children", ["children", "no_such_list"])
def test_the_job_s_processes_are_found_with_and_without_the_kernel_s_list(
    tree: Tree, job: subprocess.Popen[bytes], children: str
) -> None:
    tree.put("root/job/pid", f"{job.pid} {started_ticks(job.pid)} boot\n")
    deadline = time.monotonic() + 20
    while True:
        seen = tree.look(LIGHT_SCRIPT.replace("/children", f"/{children}"))
        if sum(process.own_s for process in seen.job) > 0.02 or time.monotonic() > deadline:
            break
    assert [process.group for process in seen.job] == [job.pid] * len(seen.job)
    assert (seen.job[0].pid, len(seen.job)) == (job.pid, 2)
    assert sum(process.own_s for process in seen.job) > 0
    assert set(seen.memory.resident_bytes) == {process.pid for process in seen.job}


def test_a_number_that_another_process_has_now_is_not_the_job(tree: Tree, job: subprocess.Popen[bytes]) -> None:
    tree.put("root/job/pid", f"{job.pid} {started_ticks(job.pid) - 1} boot\n")
    assert tree.look(LIGHT_SCRIPT).job == ()


def test_an_endless_dump_is_cut(tree: Tree) -> None:
    tree.put("battery.txt", sample("battery_unplugged") + "\nx" * OUTPUT_LIMIT)
    seen = tree.look(SNAPSHOT_SCRIPT)
    assert len(seen.raw) == OUTPUT_LIMIT
    assert not seen.complete
    assert seen.battery is not None
    assert seen.battery.level_percent.value == 61


def test_ten_thousand_damaged_snapshots() -> None:
    rails = {"S4M_VDD_CPUCL0": 5}
    whole = snapshot(
        1.0,
        battery=sample("battery_usb"),
        thermal=sample("thermal_pixel"),
        zones=sample("zones_mixed"),
        rails_uj=rails,
        job=process_stat(1, "sh", 1, 1, 1),
    ).raw
    light = snapshot(1.0).raw
    for text in mutated([whole, light, light], MANY):
        seen = read_snapshot(text, 1.0)
        assert seen.raw == text
