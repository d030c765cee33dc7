"""`benchfarm android` and the phone part of `benchfarm doctor`, on played phones behind a real adb server."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.android import AdbUnderTest, free_port, play
from workers.android.fake.handle import FakeRack
from workers.android.fake.stand_ins import write_sleeping
from workers.android.phone import ROOT

PHONES: tuple[dict[str, Any], ...] = (
    {"name": "first"},
    {"name": "second", "vendor": "pixel"},
    {"name": "busy"},
    {"name": "small", "storage_mb": 1},
)
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def adb() -> Iterator[AdbUnderTest]:
    """One version of adb is enough: what differs between them is beneath these commands."""
    server = AdbUnderTest.of("carried")
    yield server
    server.close()


@pytest.fixture(scope="module")
def rack(adb: AdbUnderTest) -> Iterator[FakeRack]:
    with play(adb, *PHONES) as played:
        yield played


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def benchfarm(adb: AdbUnderTest, home: Path) -> Command:
    """Run `benchfarm ARGUMENTS` with the test's own data directory and adb server."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BENCHFARM_", "ANDROID_"))}
        own = {"BENCHFARM_HOME": str(home), "ANDROID_ADB_SERVER_PORT": str(adb.port), "COLUMNS": "200"}
        command = [sys.executable, "-m", "benchfarm", *arguments]
        return subprocess.run(command, env={**kept, **own}, capture_output=True, text=True, timeout=100, check=False)

    return run


def configure(home: Path, *, abi: str = "arm64-v8a", padding: int = 0) -> str:
    """An android.toml with a stand-in of benchmark_model; returns its digest."""
    home.mkdir(exist_ok=True)
    binary = write_sleeping(home / "benchmark_model")
    binary.write_text(binary.read_text() + "#" * padding)
    sha256 = hashlib.sha256(binary.read_bytes()).hexdigest()
    (home / "android.toml").write_text(
        f'[tools.benchmark-model.{abi}]\npath = "benchmark_model"\nsha256 = "{sha256}"\nversion = "2.19"\n'
    )
    return sha256


def test_list_shows_who_hangs_there(benchfarm: Command, rack: FakeRack) -> None:
    rows = json.loads(benchfarm("android", "list", "--json").stdout)
    assert {row["serial"] for row in rows} == {phone.emulator for phone in rack.phones.values()}
    for row in rows:
        assert row["state"] == "online"
        assert row["remedy"] is None
        assert row["key"].startswith("android:")
        assert row["model"]
        assert row["abi"]
    assert rows[0]["serial"] in benchfarm("android", "list").stdout


def test_provision_pushes_once_and_tries_the_tool(benchfarm: Command, rack: FakeRack, home: Path) -> None:
    sha256 = configure(home)
    phone = rack.phones["first"]
    first = benchfarm("android", "provision", "--device", phone.emulator, "--json")
    assert first.returncode == 0, first.stderr
    rows = json.loads(first.stdout)
    assert [(row["serial"], row["tool"], row["state"]) for row in rows] == [
        (phone.emulator, "benchmark-model", "pushed")
    ]
    assert rows[0]["version"] == f"2.19 ({sha256[:12]})"
    pushed = phone.path(f"{ROOT}/tools/{sha256}/benchmark_model")
    assert hashlib.sha256(pushed.read_bytes()).hexdigest() == sha256
    again = json.loads(benchfarm("android", "provision", "--device", phone.emulator, "--json").stdout)
    assert [row["state"] for row in again] == ["there"]


def test_one_phone_that_fails_keeps_no_other_from_its_tools(benchfarm: Command, rack: FakeRack, home: Path) -> None:
    configure(home, padding=2 << 20)
    job = rack.phones["busy"].path(f"{ROOT}/job")
    job.mkdir(parents=True)
    (job / "id").write_text("7 token\n")
    finished = benchfarm("android", "provision", "--json")
    assert finished.returncode == 1
    rows = {row["serial"]: row for row in json.loads(finished.stdout)}
    state = {name: rows[phone.emulator]["state"] for name, phone in rack.phones.items()}
    assert state == {"first": "pushed", "second": "pushed", "busy": "failed", "small": "failed"}
    assert "a job is on the phone" in rows[rack.phones["busy"].emulator]["why"]
    assert rows[rack.phones["small"].emulator]["why"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("provision",), "no tools are configured"),
        (("provision", "--device", "nobody"), "no phone 'nobody' here"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    benchfarm: Command, rack: FakeRack, home: Path, arguments: tuple[str, ...], said: str
) -> None:
    if "--device" in arguments:
        configure(home)
    finished = benchfarm("android", *arguments)
    assert finished.returncode == 2
    assert said in finished.stderr
    assert finished.stderr.count("\n") == 1


def test_phone_of_another_abi_is_told(benchfarm: Command, rack: FakeRack, home: Path) -> None:
    configure(home, abi="mips64")
    finished = benchfarm("android", "provision", "--device", rack.phones["first"].emulator, "--json")
    assert finished.returncode == 1
    assert "no build of benchmark-model for" in json.loads(finished.stdout)[0]["why"]


def test_doctor_tells_phones_and_missing_tools(benchfarm: Command, rack: FakeRack, home: Path) -> None:
    configure(home)
    findings = json.loads(benchfarm("doctor", "--json").stdout)
    of = {(item["seam"], item["name"]): item for item in findings}
    assert of["android", "adb server"]["ok"]
    assert all(of["phone", phone.emulator]["ok"] for phone in rack.phones.values())
    assert of["phone tool", "benchmark-model arm64-v8a"]["ok"]
    missing = of["phone tool", "executor-runner arm64-v8a"]
    assert not missing["ok"]
    assert "ExecuTorch" in missing["fix"]
    assert "[tools.executor-runner.arm64-v8a]" in missing["fix"]


def test_doctor_starts_no_server_on_a_host_without_settings_for_phones(home: Path) -> None:
    """A laptop that measures its own CPU need not have one."""
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BENCHFARM_", "ANDROID_"))}
    own = {"BENCHFARM_HOME": str(home), "ANDROID_ADB_SERVER_PORT": str(port)}
    command = [sys.executable, "-m", "benchfarm", "doctor", "--json"]
    finished = subprocess.run(command, env={**kept, **own}, capture_output=True, text=True, timeout=100, check=False)
    server = next(item for item in json.loads(finished.stdout) if item["name"] == "adb server")
    assert not server["ok"]
    assert str(port) in server["detail"]
