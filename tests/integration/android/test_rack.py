"""The rack over a real adb server of either version: phones come, go, restart, and the server does so too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.android import AdbUnderTest, play, wait_until
from workers.android import recovery
from workers.android.adb import AdbServer
from workers.android.fake.handle import FakeRack
from workers.android.phone import Phone
from workers.android.presence import Presence
from workers.android.rack import KnownPhone, Rack
from workers.errors import AttemptError


@pytest.fixture(scope="module")
def played(adb: AdbUnderTest) -> Iterator[FakeRack]:
    with play(adb, *({"name": name, "restart_s": 0.3} for name in ("one", "two", "old"))) as phones:
        yield phones


@contextmanager
def watched(adb: AdbUnderTest, monkeypatch: pytest.MonkeyPatch, met: list[str]) -> Iterator[Rack]:
    for name, value in adb.environment.items():
        if name == "HOME" or name.startswith("A"):
            monkeypatch.setenv(name, value)  # for a server that the rack starts

    def meet(key: str, phone: Phone) -> None:
        assert phone.run(":", 10).exit_code == 0
        met.append(key)

    rack = Rack(AdbServer(adb.port, adb.program), lambda: None, meet)
    rack.start()
    try:
        yield rack
    finally:
        rack.close()
    assert rack.failure is None


def named(rack: Rack, serial_number: str) -> KnownPhone | None:
    return next((phone for phone in rack.phones() if phone.identity.serial_number == serial_number), None)


def seen(rack: Rack, name: str, presence: Presence = Presence.ONLINE) -> KnownPhone:
    """A played phone once it is in this state."""

    def look() -> KnownPhone | None:
        phone = named(rack, f"FAKE{name.upper()}")
        return phone if phone is not None and phone.presence is presence else None

    found: KnownPhone = wait_until(look, doing=f"{name} is {presence}")
    return found


@pytest.fixture
def met() -> list[str]:
    return []


@pytest.fixture
def rack(adb: AdbUnderTest, played: FakeRack, monkeypatch: pytest.MonkeyPatch, met: list[str]) -> Iterator[Rack]:
    with watched(adb, monkeypatch, met) as watching:
        for name in played.phones:
            seen(watching, name)
        yield watching


def test_a_phone_says_who_it_is_and_how_it_is(rack: Rack) -> None:
    phone = seen(rack, "one")
    assert phone.identity.attributes["model"] == "Fake Phone"
    assert phone.identity.attributes["sdk"] == 34
    wait_until(lambda: phone.history.latest(full=True))
    snapshot = phone.history.latest(full=True)
    assert snapshot is not None
    assert snapshot.boot_id == phone.identity.boot_id
    assert snapshot.complete


def test_a_phone_that_was_unplugged_is_the_same_again(rack: Rack, played: FakeRack) -> None:
    before = seen(rack, "two")
    played["two"].unplug()
    gone = seen(rack, "two", Presence.OFFLINE)
    assert gone.phone is None
    played["two"].plug()
    assert seen(rack, "two").key == before.key


def test_a_phone_by_network_and_cable_is_one(rack: Rack, adb: AdbUnderTest, played: FakeRack, met: list[str]) -> None:
    assert rack.server is not None
    phones = len(rack.phones())
    rack.server.connect(played["one"].address)
    try:
        wait_until(lambda: len(rack._links) == phones + 1)
        wait_until(lambda: all(link.view.presence is Presence.ONLINE for link in rack._links.values()))
        assert len(rack.phones()) == phones
        assert len(met) == phones
    finally:
        adb("disconnect", played["one"].address)


def test_a_server_that_is_killed_is_started_and_work_goes_on(adb: AdbUnderTest, rack: Rack, played: FakeRack) -> None:
    phone = seen(rack, "one").phone
    assert phone is not None
    pid = phone.run("setsid sleep 60 > /dev/null 2>&1 & echo $!", 10).stdout.strip()
    adb.kill()
    wait_until(lambda: rack.why_not is None and adb("devices").returncode == 0)
    for name in played.phones:
        played[name].unplug()
        played[name].plug()  # a played phone does not look for a new server by itself
    after = wait_until(lambda: answering(rack, "one"))
    assert after.run(f"kill {pid}", 10).exit_code == 0


def answering(rack: Rack, name: str) -> Phone | None:
    phone = seen(rack, name).phone
    try:
        return phone if phone is not None and phone.run(":", 5).exit_code == 0 else None
    except AttemptError:
        return None


def test_a_rebooted_phone_is_met_anew(rack: Rack, met: list[str]) -> None:
    key, boot_id = (phone := seen(rack, "old")).key, phone.identity.boot_id
    times = met.count(key)
    recovery.reboot(rack, key, 30)
    assert seen(rack, "old").identity.boot_id != boot_id
    assert met.count(key) > times


def test_a_connection_is_made_anew(rack: Rack) -> None:
    recovery.reconnect(rack, seen(rack, "one").key)
    assert seen(rack, "one").phone is not None


def test_others_are_not_cut_off_for_one(rack: Rack) -> None:
    mine, other = seen(rack, "one").key, seen(rack, "two").key
    with pytest.raises(AttemptError, match="1 running phones more"):
        recovery.restart_server(rack, mine, [mine, other])


def test_the_rack_closes_at_once(adb: AdbUnderTest, played: FakeRack, monkeypatch: pytest.MonkeyPatch) -> None:
    with watched(adb, monkeypatch, []) as watching:
        seen(watching, "two")
        played["two"].break_(mute=True)
        time.sleep(1.5)  # its thread waits for an answer now
    played["two"].break_(mute=False)
    assert not any(link._thread.is_alive() for link in watching._links.values())
