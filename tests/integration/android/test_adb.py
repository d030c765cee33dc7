"""Scripts and files through a real adb server of either version, to played phones: what is told is what happened."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.android import AdbUnderTest, free_port, play
from workers.android.adb import AdbPhone, AdbServer
from workers.android.fake.handle import FakeRack
from workers.android.phone import Output, PhoneFullError, PhoneLostError
from workers.android.presence import Presence
from workers.errors import AttemptError

FOLDER = "/data/local/tmp"


@pytest.fixture(scope="module")
def rack(adb: AdbUnderTest) -> Iterator[FakeRack]:
    """The phones of this file's tests, each as its name says."""
    names = ("plain", "cut", "unplugged", "muted", "rebooted")
    others = ({"name": "old", "features": ["cmd"]}, {"name": "full", "storage_mb": 8})
    with play(adb, *({"name": name, "restart_s": 0.2} for name in names), *others) as played:
        yield played


@pytest.fixture(scope="module")
def server(adb: AdbUnderTest) -> AdbServer:
    return AdbServer(adb.port, adb.program)


def way_to(server: AdbServer, rack: FakeRack, name: str) -> AdbPhone:
    serial = rack[name].emulator
    return server.phone(next(listed for listed in server.devices() if listed.serial == serial))


def test_a_server_says_who_is_there(server: AdbServer, rack: FakeRack) -> None:
    assert server.version() == 41
    assert {listed.serial: listed.presence for listed in server.devices()} == {
        phone.emulator: Presence.ONLINE for phone in rack.phones.values()
    }


@pytest.mark.parametrize("name", ["plain", "old"])
def test_scripts_tell_their_end(server: AdbServer, rack: FakeRack, name: str) -> None:
    phone = way_to(server, rack, name)
    assert phone.run("echo out; exit 3", 10) == Output(3, "out\n", "")
    assert phone.run("printf 'ünïcode'", 10) == Output(0, "ünïcode", "")
    assert phone.run("sleep 20 & echo $!", 10).stdout.strip().isdigit()  # what runs on keeps nobody waiting
    assert len(phone.run("head -c 3000000 /dev/zero", 20).stdout) == 3_000_000
    errors = phone.run("echo err >&2; false", 10)
    assert errors == (Output(1, "", "err\n") if name == "plain" else Output(1, "err\n", ""))


@pytest.mark.parametrize("name", ["plain", "old"])
def test_a_shell_that_dies_is_no_success(server: AdbServer, rack: FakeRack, name: str) -> None:
    with pytest.raises(PhoneLostError, match="before the script did"):
        way_to(server, rack, name).run("echo half; kill -9 $$", 10)


def test_a_script_past_its_deadline_is_given_up(server: AdbServer, rack: FakeRack) -> None:
    phone = way_to(server, rack, "plain")
    with pytest.raises(PhoneLostError, match=r"longer than 0\.5 s") as lost:
        phone.run("while :; do echo more; sleep 0.1; done", 0.5)  # an answer now and then does not prolong it
    assert lost.value.code == "device_no_answer"
    assert phone.run("echo ok", 10).stdout == "ok\n"


def test_files_go_there_and_back(server: AdbServer, rack: FakeRack, tmp_path: Path) -> None:
    phone, file, back = way_to(server, rack, "plain"), tmp_path / "file", tmp_path / "back"
    file.write_bytes(os.urandom(3_000_017))
    remote = f"{FOLDER}/new folder/ünïcode $name"
    phone.push(file, remote, 30)
    phone.pull(remote, back, 30)
    assert back.read_bytes() == file.read_bytes()


def test_a_file_that_is_missing_leaves_nothing_behind(server: AdbServer, rack: FakeRack, tmp_path: Path) -> None:
    with pytest.raises(AttemptError, match=r"No such file") as missing:
        way_to(server, rack, "plain").pull(f"{FOLDER}/none", tmp_path / "none", 10)
    assert missing.value.code == "no_such_file"
    assert not [path for path in tmp_path.iterdir() if path.name != "home"]


def test_a_full_phone_says_so(server: AdbServer, rack: FakeRack, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(16 << 20))
    with pytest.raises(PhoneFullError, match="16,777,216 bytes"):
        way_to(server, rack, "full").push(file, f"{FOLDER}/file", 30)


def test_a_phone_that_goes_during_a_script(server: AdbServer, rack: FakeRack) -> None:
    phone = way_to(server, rack, "unplugged")
    threading.Timer(0.5, rack["unplugged"].unplug).start()
    with pytest.raises(PhoneLostError):
        phone.run("echo half; sleep 20", 30)


def test_a_phone_that_goes_during_a_push(server: AdbServer, rack: FakeRack, tmp_path: Path) -> None:
    phone, file = way_to(server, rack, "cut"), tmp_path / "file"
    file.write_bytes(os.urandom(8 << 20))
    rack["cut"].break_(cut_after_bytes=1 << 20)
    with pytest.raises(PhoneLostError):
        phone.push(file, f"{FOLDER}/file", 30)


def test_a_phone_that_falls_silent_holds_nobody(server: AdbServer, rack: FakeRack, tmp_path: Path) -> None:
    phone, file = way_to(server, rack, "muted"), tmp_path / "file"
    file.write_bytes(os.urandom(8 << 20))
    rack["muted"].break_(mute=True)
    with pytest.raises(PhoneLostError) as lost:
        phone.push(file, f"{FOLDER}/file", 0.5)
    assert lost.value.code == "device_no_answer"
    call = threading.Timer(0.3, phone.close)
    call.start()
    with pytest.raises(PhoneLostError):
        phone.run("echo", 60)  # ended by who gave the phone up
    with pytest.raises(PhoneLostError, match="given up"):
        phone.run("echo", 60)


def test_no_server_is_an_answer(tmp_path: Path) -> None:
    server = AdbServer(free_port())
    with pytest.raises(AttemptError) as lost:
        server.devices()
    assert lost.value.code == "no_adb_server"
    with pytest.raises(AttemptError, match="no adb server"):
        server.devices()  # and the question started none
    with pytest.raises(AttemptError) as lacking:
        AdbServer(server.port, str(tmp_path / "adb")).start()
    assert lacking.value.code == "no_adb"


def test_a_phone_that_cannot_be_reached_by_network_says_so(server: AdbServer) -> None:
    with pytest.raises(AttemptError) as failed:
        server.connect(f"127.0.0.1:{free_port()}")
    assert failed.value.code == "not_connected"
