"""adb's listings, of every age."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.android.mutations import mutated
from workers.android.presence import Listed, Presence, read_devices, remedy

LISTING = """* daemon not running; starting now at tcp:5037
* daemon started successfully
List of devices attached
1A2B3C4D5E             device usb:1-4.2 product:shiba model:Pixel_8 device:shiba transport_id:7
emulator-5554          offline transport_id:1
192.168.7.31:5555      device product:a52q model:SM_A525F device:a52q transport_id:3
adb-R58M (2)._adb-tls-connect._tcp device product:x model:y device:z transport_id:9
R58M                   unauthorized usb:1-1 transport_id:2
HT85                   authorizing usb:3-2 transport_id:12
G0                     connecting transport_id:4
A1                     recovery product:p model:m device:d transport_id:5
A2                     sideload transport_id:6
A3                     bootloader
A4                     rescue transport_id:8
A5                     detached transport_id:13
A6                     hibernating transport_id:14
"""
#: What was said of it by three ages of adb.
NO_PERMISSIONS = [
    "????????????           no permissions usb:1-3 transport_id:1",
    "0A  no permissions (verify udev rules); see [http://x.y/z] usb:1-3 transport_id:1",
    "0A  no permissions (user in plugdev group; are your udev rules wrong?); see [http://x.y/z] usb:1-3 transport_id:1",
    "0A  no permissions (missing udev rules? user is in the plugdev group); see [http://x.y/z] usb:1-3 transport_id:1",
    "(no serial number)     no permissions; see [http://x.y/z] usb:1-3",
]


def test_a_listing_is_read() -> None:
    found = {listed.serial: listed for listed in read_devices(LISTING)}
    assert {serial: listed.presence.value for serial, listed in found.items()} == {
        "1A2B3C4D5E": "online",
        "emulator-5554": "offline",
        "192.168.7.31:5555": "online",
        "adb-R58M (2)._adb-tls-connect._tcp": "online",
        "R58M": "unauthorized",
        "HT85": "authorizing",
        "G0": "connecting",
        "A1": "recovery",
        "A2": "sideload",
        "A3": "bootloader",
        "A4": "rescue",
        "A5": "detached",
        "A6": "unknown",
    }
    assert found["1A2B3C4D5E"].usb_path == "usb:1-4.2"
    assert [serial for serial, listed in found.items() if listed.wireless] == [
        "192.168.7.31:5555",
        "adb-R58M (2)._adb-tls-connect._tcp",
    ]


def test_the_short_listing_is_read() -> None:
    assert [(listed.serial, listed.presence) for listed in read_devices("a b\tdevice\nc\tno permissions\n\n")] == [
        ("a b", Presence.ONLINE),
        ("c", Presence.NO_PERMISSIONS),
    ]


@pytest.mark.parametrize("line", NO_PERMISSIONS)
def test_missing_permissions_are_told_apart_whatever_adb_calls_them(line: str) -> None:
    (listed,) = read_devices(line)
    assert (listed.presence, listed.usb_path) == (Presence.NO_PERMISSIONS, "usb:1-3")
    assert listed.said.startswith("no permissions")


def test_phones_of_one_serial_are_called_by_their_ports() -> None:
    lines = [
        "0123456789 device usb:1-1",
        "0123456789 device usb:1-2",
        "X device usb:1-3",
        "???????????? device usb:1-4",
    ]
    found = read_devices("\n".join(lines))
    assert [listed.address for listed in found] == ["usb:1-1", "usb:1-2", "X", "usb:1-4"]


def test_every_state_says_what_to_do() -> None:
    told = [remedy(presence) for presence in Presence if presence is not Presence.ONLINE]
    assert None not in told
    assert len(set(told)) == len(told)
    assert remedy(Presence.ONLINE) is None


@given(st.text())
def test_any_text_is_answered(text: str) -> None:
    assert all(isinstance(listed, Listed) and listed.address for listed in read_devices(text))


def test_damaged_listings_are_answered() -> None:
    for text in mutated([LISTING, *NO_PERMISSIONS]):
        for listed in read_devices(text):
            assert listed.serial
            assert len(listed.serial) <= 200
