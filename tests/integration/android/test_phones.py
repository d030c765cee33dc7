"""Played phones under a real adb server, through workers.android: transport, jobs, and what a phone tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.android import AdbUnderTest, play, wait_until
from tests.integration.android.phone_cases import PhoneCases, Site, alive, spec, watch
from workers.android import job
from workers.android.adb import AdbServer
from workers.android.fake.handle import FakeRack, PlayedPhone
from workers.android.leftovers import clean
from workers.android.phone import Phone, PhoneLostError
from workers.android.presence import Presence
from workers.android.rack import Rack

#: For what is no question of adb's version.
ONE_ADB = pytest.mark.parametrize("adb", ["carried"], indirect=True)
PHONES: tuple[dict[str, Any], ...] = (
    {"name": "plain", "storage_mb": 512},
    {"name": "torn", "vendor": "samsung"},
    {"name": "seen", "vendor": "pixel"},
    {"name": "other", "vendor": "xiaomi", "restart_s": 0.2},
)


@pytest.fixture(scope="module")
def rack(adb: AdbUnderTest) -> Iterator[FakeRack]:
    """The phones of this file's tests."""
    with play(adb, *PHONES) as played:
        yield played


@pytest.fixture(scope="module")
def server(adb: AdbUnderTest) -> AdbServer:
    """The product's own face of the server."""
    return AdbServer(adb.port, adb.program)


@pytest.fixture(scope="module")
def site(server: AdbServer, rack: FakeRack) -> Site:
    """A phone that the common cases use."""
    return Site(server, rack["plain"].emulator, rack["plain"])


@pytest.fixture
def slow(rack: FakeRack) -> Callable[[bool], None]:
    """Makes that phone slow."""
    return lambda is_slow: rack["plain"].break_(latency_s=0.05 if is_slow else 0.0)


class TestPlayedPhone(PhoneCases):
    """A phone that is played."""


@ONE_ADB
@pytest.mark.parametrize("bytes_before", [400, 700, 1500, 3000, 5000])
def test_cut_anywhere_a_phone_ends_clean(rack: FakeRack, server: AdbServer, bytes_before: int) -> None:
    """Whatever was under way: on the next contact the job is there or it is not, and `clean` leaves nothing."""
    played = rack["torn"]
    site = Site(server, played.emulator, played)
    wanted = spec("sleep 1000")
    played.break_(cut_after_bytes=bytes_before)

    def start_and_watch() -> None:
        job.start(site.phone, wanted)
        watch(site.phone, wanted)

    with pytest.raises(PhoneLostError):
        start_and_watch()
    site.phone = site.way()
    clean(site.phone)
    assert alive(site, wanted) == []
    assert not clean(site.phone)


def known(rack: Rack, played: PlayedPhone) -> Any:
    """What the product's rack knows of a played phone."""
    return next((each for each in rack.phones() if each.listed.serial == played.emulator), None)


@pytest.fixture
def watched(rack: FakeRack, server: AdbServer) -> Iterator[Rack]:
    """The product's own rack over the played one."""

    def meet(key: str, phone: Phone) -> None:
        clean(phone)

    watching = Rack(server, lambda: None, meet)
    watching.start()
    yield watching
    watching.close()


def is_online(watched: Rack, played: PlayedPhone) -> bool:
    return (seen := known(watched, played)) is not None and seen.presence is Presence.ONLINE


@ONE_ADB
def test_a_mute_phone_holds_up_no_other_and_is_missed(rack: FakeRack, watched: Rack) -> None:
    mute, other = rack["seen"], rack["other"]
    wait_until(lambda: is_online(watched, mute) and is_online(watched, other), 20)
    mute.break_(mute=True)
    wait_until(lambda: not is_online(watched, mute), 30)
    beats = known(watched, other).history.latest()
    wait_until(lambda: known(watched, other).history.latest() is not beats, 10)
    assert is_online(watched, other)
    mute.break_(mute=False)
    mute.cut()
    wait_until(lambda: is_online(watched, mute), 30)


@ONE_ADB
def test_every_vendor_tells_the_same_facts(rack: FakeRack, watched: Rack) -> None:
    for played in rack.phones.values():
        played.become(level=55.0, battery_c=28.0, skin_c=31.0)
    for played in rack.phones.values():
        wait_until(lambda played=played: is_online(watched, played), 20)
        history = known(watched, played).history
        latest = wait_until(lambda history=history: history.latest(full=True), 20)
        assert latest.battery.level_percent.value == 55
        assert latest.battery.temperature_c.value == 28.0
        assert latest.thermal.status == 0
