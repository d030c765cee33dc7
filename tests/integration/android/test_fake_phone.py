"""The played phones under adb itself: whatever adb sees of a phone, it sees of these.

What is asked here of both versions of adb is what workers.android must live with; the rest of its tests rely on it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.android import AdbUnderTest, play, wait_until
from workers.android.fake.handle import FakeRack, FakeRackError, PlayedPhone
from workers.processes import with_environment

#: A phone for each test that breaks or changes one, and more to make ten.
PHONES: tuple[dict[str, Any], ...] = (
    *({"name": name} for name in ("plain", "unplugged", "cut", "failing", "mute", "slow", "told")),
    {"name": "old", "features": ["cmd"]},
    {"name": "full", "storage_mb": 8},
    {"name": "restarted", "restart_s": 0.2},
    {"name": "warm", "vendor": "pixel", "files": {"/sys/class/secret": None}},
)
FOLDER = "/data/local/tmp"
MIB = 1 << 20


@pytest.fixture(scope="module")
def rack(adb: AdbUnderTest) -> Iterator[FakeRack]:
    """The phones of this file's tests, each as its name says."""
    with play(adb, *PHONES) as played:
        yield played


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three packets and a bit."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3 * MIB + 17))
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shell(adb: AdbUnderTest, phone: PlayedPhone, script: str) -> subprocess.CompletedProcess[str]:
    return adb("-s", phone.emulator, "shell", script)


def test_a_rack_keeps_every_byte(adb: AdbUnderTest, rack: FakeRack, file: Path, tmp_path: Path) -> None:
    phones = [phone for phone in rack.phones.values() if phone.name != "full"]

    def there_and_back(phone: PlayedPhone) -> str:
        back = tmp_path / phone.name
        remote = f"{FOLDER}/a name with ünicode & $signs"
        assert adb("-s", phone.emulator, "push", str(file), remote).returncode == 0
        said = shell(adb, phone, f"sha256sum '{remote}'; getprop ro.serialno").stdout.split()
        assert (said[0], said[-1]) == (digest(file), f"FAKE{phone.name.upper()}")
        assert adb("-s", phone.emulator, "pull", remote, str(back)).returncode == 0
        return digest(back)

    assert len(phones) == 10
    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(there_and_back, phones)) == {digest(file)}


def test_a_shell_tells_exit_status_and_streams_apart(adb: AdbUnderTest, rack: FakeRack) -> None:
    phone = rack["plain"]
    done = shell(adb, phone, "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert shell(adb, phone, "kill -9 $$").returncode == 137
    assert adb("-s", phone.emulator, "shell", "cat; echo end", stdin="typed\n").stdout == "typed\nend\n"
    assert shell(adb, phone, "python3").returncode == 127, "a phone has toybox, and nothing else"


def test_a_phone_of_old_has_no_exit_status(adb: AdbUnderTest, rack: FakeRack) -> None:
    phone = rack["old"]
    done = shell(adb, phone, "echo out; echo err >&2; exit 3")
    assert done.returncode == 0
    assert sorted(done.stdout.split()) == ["err", "out"]


def test_files_and_folders_of_a_phone(adb: AdbUnderTest, rack: FakeRack, file: Path, tmp_path: Path) -> None:
    phone = rack["plain"]
    tree = tmp_path / "tree"
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "deep" / "er" / "script").write_text("#!/system/bin/sh\necho ran\n")
    (tree / "deep" / "er" / "script").chmod(0o755)
    os.utime(tree / "deep" / "er" / "script", (1_600_000_000, 1_600_000_000))
    assert adb("-s", phone.emulator, "push", str(tree), FOLDER).returncode == 0
    assert shell(adb, phone, f"{FOLDER}/tree/deep/er/script").stdout == "ran\n"
    assert shell(adb, phone, f"stat -c '%a %Y' {FOLDER}/tree/deep/er/script").stdout == "777 1600000000\n"
    assert adb("-s", phone.emulator, "pull", f"{FOLDER}/tree", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back" / "deep" / "er" / "script").read_text().startswith("#!")
    missing = adb("-s", phone.emulator, "pull", f"{FOLDER}/nothing", str(tmp_path / "nothing"))
    assert (missing.returncode, (tmp_path / "nothing").exists()) == (1, False)


def test_unplugged_while_a_shell_runs_the_work_goes_on(adb: AdbUnderTest, rack: FakeRack) -> None:
    phone = rack["unplugged"]
    waiting = adb.begin("-s", phone.emulator, "shell", f"setsid sleep 1000 & echo $! > {FOLDER}/pid; sleep 1000")
    wait_until(lambda: phone.path(f"{FOLDER}/pid").exists() and phone.path(f"{FOLDER}/pid").read_text())
    phone.unplug()
    assert waiting.wait(timeout=20) in (0, 255), "adb of old says 0"
    assert waiting.communicate()[0] == ""
    wait_until(lambda: adb.state(phone.emulator) != "device")
    phone.plug()
    adb.wait_for(phone.emulator)
    assert "sleep" in shell(adb, phone, f"cat /proc/$(cat {FOLDER}/pid)/cmdline").stdout


def test_cut_in_the_middle_of_a_push(adb: AdbUnderTest, rack: FakeRack, file: Path) -> None:
    phone = rack["cut"]
    phone.break_(cut_after_bytes=MIB)
    assert adb("-s", phone.emulator, "push", str(file), f"{FOLDER}/file").returncode == 1
    adb.wait_for(phone.emulator)
    assert adb("-s", phone.emulator, "push", str(file), f"{FOLDER}/file").returncode == 0, "one cut, no more"


def test_full(adb: AdbUnderTest, rack: FakeRack, file: Path) -> None:
    phone = rack["full"]
    phone.leave_free(MIB)
    assert int(shell(adb, phone, "df -k /data | tail -n 1").stdout.split()[3]) == 1024
    done = adb("-s", phone.emulator, "push", str(file), f"{FOLDER}/file")
    assert (done.returncode, "No space left on device" in done.stdout + done.stderr) == (1, True)
    phone.leave_free(None)
    assert adb("-s", phone.emulator, "push", str(file), f"{FOLDER}/file").returncode == 0


def test_transfers_that_fail(adb: AdbUnderTest, rack: FakeRack, file: Path, tmp_path: Path) -> None:
    phone = rack["failing"]
    assert adb("-s", phone.emulator, "push", str(file), f"{FOLDER}/file").returncode == 0
    phone.break_(sync_errno=5)
    for words in (("push", str(file), f"{FOLDER}/file"), ("pull", f"{FOLDER}/file", str(tmp_path / "back"))):
        done = adb("-s", phone.emulator, *words)
        assert done.returncode == 1
        assert "Input/output error" in done.stdout + done.stderr
    assert shell(adb, phone, "echo well").stdout == "well\n"


def test_unauthorized_until_somebody_presses_allow(adb: AdbUnderTest, rack: FakeRack) -> None:
    phone = rack["failing"]
    phone.break_(key="rejected", sync_errno=None)
    phone.cut()
    adb.wait_for(phone.emulator, "unauthorized")
    phone.break_(key="accepted")
    phone.cut()
    adb.wait_for(phone.emulator)
    assert shell(adb, phone, "getprop ro.product.model").stdout == "Fake Phone\n"


def test_restarted(adb: AdbUnderTest, rack: FakeRack) -> None:
    phone = rack["restarted"]
    script = f"setsid sleep 1000 > /dev/null 2>&1 & echo $! > {FOLDER}/pid; cat /proc/sys/kernel/random/boot_id"
    before = shell(adb, phone, script).stdout
    shell(adb, phone, "cmd power set-fixed-performance-mode-enabled true; settings put system screen_brightness 7")
    adb("-s", phone.emulator, "reboot")
    after = wait_until(lambda: shell(adb, phone, "cat /proc/sys/kernel/random/boot_id").stdout.strip())
    assert after != before.strip()
    left = shell(adb, phone, f"cat /proc/$(cat {FOLDER}/pid)/cmdline /fake/fixed_performance").stdout
    assert left == "false\n", "what ran is gone, files stay, what no phone keeps is as it was"
    assert shell(adb, phone, "settings get system screen_brightness").stdout == "7\n"


def test_a_mute_phone_holds_up_no_other(adb: AdbUnderTest, rack: FakeRack) -> None:
    rack["mute"].break_(mute=True)
    waiting = adb.begin("-s", rack["mute"].emulator, "shell", "echo never")
    assert shell(adb, rack["plain"], "echo well").stdout == "well\n"
    assert waiting.poll() is None
    rack["mute"].break_(mute=False)
    rack["mute"].cut()
    adb.wait_for(rack["mute"].emulator)
    waiting.wait(timeout=20)
    assert waiting.communicate()[0].count("never") <= 1


def test_a_slow_phone(adb: AdbUnderTest, rack: FakeRack) -> None:
    phone = rack["slow"]
    phone.break_(latency_s=0.3)
    began = time.monotonic()
    assert shell(adb, phone, "echo late").stdout == "late\n"
    assert time.monotonic() - began >= 0.3


def test_what_a_phone_is_told_it_keeps_and_writes_down(adb: AdbUnderTest, rack: FakeRack) -> None:
    phone = rack["told"]
    faked = shell(adb, phone, "dumpsys battery set level 5; dumpsys battery unplug; dumpsys battery").stdout
    for line in ("  (UPDATES STOPPED -- use 'reset' to restart)", "  level: 5", "  USB powered: false"):
        assert line in faked.splitlines()
    assert "UPDATES STOPPED" not in shell(adb, phone, "dumpsys battery reset; dumpsys battery").stdout
    script = "cmd connectivity airplane-mode enable; input keyevent 223; settings get global airplane_mode_on"
    assert shell(adb, phone, f"{script}; dumpsys power; settings get secure nothing").stdout.split() == [
        "1", "POWER", "MANAGER", "(dumpsys", "power)", "mWakefulness=Asleep", "mStayOn=false", "null",
    ]  # fmt: skip
    assert phone.actions() == [
        "battery set level 5",
        "battery unplug",
        "battery reset",
        "cmd connectivity airplane-mode enable",
        "input keyevent 223",
    ]


def test_charge_heat_and_load_follow_what_happens(adb: AdbUnderTest, rack: FakeRack) -> None:
    phone = rack["warm"]
    rails = "cat /sys/bus/iio/devices/iio:device0/energy_value"
    before = shell(adb, phone, f"dumpsys thermalservice; {rails}").stdout
    assert "Thermal Status: 0" in before
    phone.become(skin_c=44.0, level=17.0)
    after = shell(adb, phone, f"dumpsys thermalservice; {rails}; dumpsys battery").stdout
    assert "Thermal Status: 2" in after
    assert "  level: 17" in after
    assert energy_uj(before) < energy_uj(after)
    policy = "/sys/devices/system/cpu/cpufreq/policy8"
    limits = shell(adb, phone, f"cat {policy}/scaling_max_freq {policy}/cpuinfo_max_freq").stdout.split()
    assert int(limits[0]) < int(limits[1]), "it throttles"
    denied = shell(adb, phone, "cat /sys/class/secret")
    assert (denied.returncode, "Permission denied" in denied.stderr) == (1, True)


def energy_uj(text: str) -> int:
    return sum(int(line.rpartition(", ")[2]) for line in text.splitlines() if line.startswith("CH"))


def test_a_rack_that_ends_leaves_nothing(adb: AdbUnderTest) -> None:
    rack = play(adb, {"name": "a"})
    folder = shell(adb, rack["a"], "echo $FAKE_PHONE; setsid sleep 1000 > /dev/null 2>&1 &").stdout.strip()
    wait_until(lambda: with_environment("FAKE_PHONE", folder))  # the shell does not wait for what it starts
    rack.close()
    assert not with_environment("FAKE_PHONE", folder)
    assert not Path(folder).exists()


def test_what_no_phone_is() -> None:
    with pytest.raises(FakeRackError):
        FakeRack([{"name": "a", "colour": "red"}])
