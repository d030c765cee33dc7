"""The book of phones: one entry for one phone, whatever adb calls it and however it is connected.

Against a server that plays its part in this process; against adb itself: tests/integration/android/test_rack.py.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.unit.android.test_identity import PIXEL, told
from workers.android.link import ClosablePhone
from workers.android.phone import Output, Phone, PhoneLostError
from workers.android.presence import Listed, Presence, read_devices
from workers.android.rack import KnownPhone, Rack
from workers.errors import AttemptError, Cause

SOON_S = 20.0


class ScriptedPhone:
    """Answers the rack's scripts; may be silent or gone."""

    def __init__(self, serial: str, properties: dict[str, str], boot: str = "boot-1", android_id: str = "") -> None:
        self.serial, self.properties, self.boot, self.android_id = serial, {**PIXEL, **properties}, boot, android_id
        self.lost: str | None = None
        self.scripts = 0

    def run(self, script: str, deadline_s: float) -> Output:
        self.scripts += 1
        if self.lost is not None:
            raise PhoneLostError(f"{self.serial} went", self.lost)
        if "getprop" in script:
            text = told(self.properties, self.boot)
        elif "android_id" in script:
            text = f"\n#benchfarm-part:android_id\n{self.android_id}\n"
        elif script.startswith("cat /proc/sys/kernel/random/boot_id"):
            text = self.boot
        else:
            text = "@@benchfarm kernel\nuptime 12.5\n@@benchfarm end\n"
        return Output(0, text, "")

    def push(self, local: Path, remote: str, deadline_s: float) -> None:
        raise NotImplementedError

    def pull(self, remote: str, local: Path, deadline_s: float) -> None:
        raise NotImplementedError

    def reboot(self) -> None:
        self.boot += "x"

    def close(self) -> None:
        pass


class ScriptedServer:
    """An adb server that lists what it is told to."""

    def __init__(self) -> None:
        self.ways: dict[str, ScriptedPhone] = {}
        self.listings: queue.Queue[tuple[Listed, ...] | None] = queue.Queue()
        self.started = 0
        self.called: list[str] = []
        self.refusal: AttemptError | None = None

    def show(self, text: str) -> None:
        """List these from now on."""
        self.listings.put(read_devices(text))

    def track(self, stop: threading.Event) -> Iterator[tuple[Listed, ...]]:
        while not stop.is_set():
            try:
                listing = self.listings.get(timeout=0.05)
            except queue.Empty:
                continue
            if listing is None:
                raise AttemptError(Cause.INFRASTRUCTURE, "adb_failed", "the server went")
            yield listing

    def start(self) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.started += 1

    def kill(self) -> None:
        self.listings.put(None)

    def connect(self, address: str) -> None:
        self.called.append(address)

    def reconnect(self, address: str) -> None:
        self.called.append(f"again {address}")

    def phone(self, listed: Listed) -> ClosablePhone:
        return self.ways[listed.address]


class Lab:
    """A rack, its server, and what it told."""

    def __init__(self, meet: Callable[[str, Phone], None] | None = None, **options: Any) -> None:
        self.server, self.changes, self.met = ScriptedServer(), 0, list[str]()
        self.meet = meet
        self.rack = Rack(self.server, self._changed, self._meet, **options)

    def _changed(self) -> None:
        self.rack.phones()  # whoever is told may ask
        self.changes += 1

    def _meet(self, key: str, phone: Phone) -> None:
        self.met.append(key)
        if self.meet is not None:
            self.meet(key, phone)

    def until(self, is_so: Callable[[list[KnownPhone]], bool]) -> list[KnownPhone]:
        """The phones once something is so."""
        deadline = time.monotonic() + SOON_S
        while not is_so(phones := self.rack.phones()):
            assert time.monotonic() < deadline, [(phone.key, phone.presence, phone.remedy) for phone in phones]
            time.sleep(0.01)
        return phones


@contextmanager
def lab(meet: Callable[[str, Phone], None] | None = None, **options: Any) -> Iterator[Lab]:
    made = Lab(meet, **options)
    made.rack.start()
    try:
        yield made
    finally:
        made.rack.close()
    assert made.rack.failure is None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("phone ")]


def online(phones: list[KnownPhone]) -> list[str]:
    return [phone.listed.address for phone in phones if phone.presence is Presence.ONLINE]


def test_a_phone_on_cable_and_network_is_one_and_its_cable_is_used() -> None:
    with lab() as made:
        for address in ("192.168.7.3:5555", "R58"):
            made.server.ways[address] = ScriptedPhone(address, {})
        made.server.show("192.168.7.3:5555 device")
        made.until(lambda phones: online(phones) == ["192.168.7.3:5555"])
        made.server.show("192.168.7.3:5555 device\nR58 device usb:1-1")
        (phone,) = made.until(lambda phones: online(phones) == ["R58"])
        assert made.met == [phone.key]  # whoever is running there is not disturbed by a second cable
        made.server.show("192.168.7.3:5555 device")
        made.until(lambda phones: online(phones) == ["192.168.7.3:5555"])
        made.server.show("")
        (gone,) = made.until(lambda phones: not online(phones))
        assert (gone.presence, gone.phone, gone.key) == (Presence.OFFLINE, None, phone.key)
        assert "plug it in" in str(gone.remedy)
        assert made.changes >= 4


def test_two_phones_of_one_serial_number_are_two() -> None:
    with lab() as made:
        made.server.ways["usb:1-1"] = ScriptedPhone("R58", {}, boot="a", android_id="aaaaaaaaaaaaaaaa")
        made.server.ways["usb:1-2"] = ScriptedPhone("R58", {}, boot="b", android_id="bbbbbbbbbbbbbbbb")
        made.server.show("R58 device usb:1-1\nR58 device usb:1-2")
        phones = made.until(lambda phones: online(phones) in (["usb:1-1", "usb:1-2"], ["usb:1-2", "usb:1-1"]))
        there = [phone for phone in phones if phone.presence is Presence.ONLINE]
        assert len({phone.key for phone in there}) == 2
        assert all("told apart by android_id" in str(phone.identity.note) for phone in there)


def test_a_phone_that_nothing_tells_apart_is_a_stranger() -> None:
    with lab() as made:
        made.server.ways["10.0.0.2:5555"] = ScriptedPhone("10.0.0.2:5555", {"ro.serialno": "0123456789ABCDEF"})
        made.server.show("10.0.0.2:5555 device")
        wait(lambda: "connect it by USB" in str([stranger.remedy for stranger in made.rack.strangers()]))
        assert made.rack.phones() == []


def test_states_before_trust_are_shown_and_end_well() -> None:
    with lab() as made:
        made.server.ways["R58"] = phone = ScriptedPhone("R58", {"sys.boot_completed": ""})
        for state in ("unauthorized", "authorizing", "no permissions (verify udev rules); see [x]"):
            made.server.show(f"R58 {state} usb:1-1")
            wait(lambda state=state: [s.presence.value for s in made.rack.strangers()] == [state.split(" (")[0]])
        made.server.show("R58 device usb:1-1")
        wait(lambda: [stranger.presence for stranger in made.rack.strangers()] == [Presence.BOOTING])
        phone.properties["sys.boot_completed"] = "1"
        made.until(lambda phones: online(phones) == ["R58"])
        assert made.rack.strangers() == []
        made.server.show("R58 unauthorized usb:1-1")  # its keys were revoked: still the phone that we know
        (known,) = made.until(lambda phones: phones[0].presence is Presence.UNAUTHORIZED)
        assert "accept this computer's key" in str(known.remedy)


def test_a_phone_that_comes_back_first_tells_how_it_is() -> None:
    with lab() as made:
        made.server.ways["R58"] = ScriptedPhone("R58", {})
        for _ in range(2):
            made.server.show("R58 device usb:1-1")
            (phone,) = made.until(lambda phones: online(phones) == ["R58"])
            came = time.time()
            wait(lambda phone=phone, came=came: phone.history.between(came - 0.2))
            newest, full = phone.history.latest(), phone.history.latest(full=True)
            assert newest is not None
            assert full is not None
            assert newest.at == full.at
            time.sleep(1.2)  # a light look
            made.server.show("R58 offline usb:1-1")
            made.until(lambda phones: not online(phones))


def test_a_gap_too_short_to_matter_is_not_told() -> None:
    with lab() as made:
        made.server.ways["R58"] = ScriptedPhone("R58", {})
        made.server.show("R58 device usb:1-1")
        made.until(lambda phones: online(phones) == ["R58"])
        changes = made.changes
        for _ in range(3):
            made.server.show("")
            made.server.show("R58 device usb:1-1")
        time.sleep(0.3)
        assert (made.changes, len(made.met)) == (changes, 1)


def test_a_phone_restarted_in_a_short_gap_is_met_anew() -> None:
    with lab() as made:
        made.server.ways["R58"] = phone = ScriptedPhone("R58", {})
        made.server.show("R58 device usb:1-1")
        made.until(lambda phones: online(phones) == ["R58"])
        phone.boot = "boot-2"
        made.server.show("")
        made.server.show("R58 device usb:1-1")
        made.until(lambda phones: online(phones) == ["R58"] and phones[0].identity.boot_id == "boot-2")
        assert len(made.met) == 2


def test_a_phone_that_falls_silent_is_offline_though_adb_lists_it() -> None:
    with lab() as made:
        made.server.ways["R58"] = phone = ScriptedPhone("R58", {})
        made.server.show("R58 device usb:1-1")
        made.until(lambda phones: online(phones) == ["R58"])
        phone.lost = "device_no_answer"
        (known,) = made.until(lambda phones: not online(phones))
        assert "does not answer" in str(known.remedy)
        phone.lost = None
        made.until(lambda phones: online(phones) == ["R58"])
        assert len(made.met) == 2


def test_a_phone_that_is_refused_is_offered_again() -> None:
    refusing = threading.Event()
    refusing.set()

    def meet(key: str, phone: Phone) -> None:
        if refusing.is_set():
            raise AttemptError(Cause.DEVICE, "taken", "host lab-2 has this phone")

    with lab(meet) as made:
        made.server.ways["R58"] = ScriptedPhone("R58", {})
        made.server.show("R58 device usb:1-1")
        made.until(lambda phones: bool(phones) and phones[0].remedy == "host lab-2 has this phone")
        refusing.clear()
        made.until(lambda phones: online(phones) == ["R58"])


def test_a_server_that_went_is_started_and_its_network_phones_are_called() -> None:
    with lab() as made:
        for address in ("192.168.7.3:5555", "R58"):
            made.server.ways[address] = ScriptedPhone(address, {"ro.serialno": f"SERIAL {address}"})
        made.server.show("192.168.7.3:5555 device\nR58 device usb:1-1")
        made.until(lambda phones: len(online(phones)) == 2)
        changes = made.changes
        made.server.kill()
        wait(lambda: made.server.started == 1)
        made.server.show("")
        made.server.show("R58 device usb:1-1")
        wait(lambda: made.server.called == ["192.168.7.3:5555"])
        made.server.show("192.168.7.3:5555 device\nR58 device usb:1-1")
        time.sleep(0.3)
        assert len(online(made.rack.phones())) == 2
        assert (made.changes, len(made.met)) == (changes, 2)  # nobody was told, and nothing that runs was touched


def test_phones_of_the_lab_are_called() -> None:
    with lab(addresses=["192.168.7.9:5555"]) as made:
        made.server.show("")
        wait(lambda: made.server.called == ["192.168.7.9:5555"])


def test_a_host_without_adb_has_an_empty_rack_that_says_why() -> None:
    rack = Rack(None, lambda: None, lambda key, phone: None, why_not="there is no adb on this host")
    rack.start()
    assert (rack.phones(), rack.strangers(), rack.why_not) == ([], [], "there is no adb on this host")
    assert rack.history("android:0").latest() is None
    rack.close()


def test_a_server_that_does_not_start_is_the_reason() -> None:
    with lab() as made:
        made.server.refusal = AttemptError(Cause.INFRASTRUCTURE, "no_adb", "there is no adb on this host")
        made.server.kill()
        wait(lambda: made.rack.why_not == "there is no adb on this host")


def test_forty_phones_do_not_wait_for_one() -> None:
    stuck = threading.Event()

    def meet(key: str, phone: Phone) -> None:
        if phone.serial == "S0":
            stuck.wait(SOON_S)

    with lab(meet) as made:
        for number in range(40):
            made.server.ways[f"S{number}"] = ScriptedPhone(f"S{number}", {"ro.serialno": f"SERIAL{number}"})
        made.server.show("\n".join(f"S{number} device usb:1-{number}" for number in range(40)))
        made.until(lambda phones: len(online(phones)) == 39)
        stuck.set()
        made.until(lambda phones: len(online(phones)) == 40)
        wait(lambda: all(phone.history.latest() is not None for phone in made.rack.phones()))


def wait(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting is not what is tested here."""
    monkeypatch.setattr("workers.android.link._SILENT_S", 0.1)
    monkeypatch.setattr("workers.android.link._BOOTING_S", 0.05)
    monkeypatch.setattr("workers.android.link._REFUSED_S", 0.1)
