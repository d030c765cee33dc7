"""Who a phone is: one key for one phone, and nothing that a phone says gets further than it should."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.android.mutations import mutated
from workers.android.identity import distinction, is_placeholder, read_identity

PIXEL = {
    "ro.serialno": "1A2B3C4D5E6F",
    "ro.product.brand": "google",
    "ro.product.manufacturer": "Google",
    "ro.product.model": "Pixel 8",
    "ro.product.name": "shiba",
    "ro.product.device": "shiba",
    "ro.soc.model": "Tensor G3",
    "ro.soc.manufacturer": "Google",
    "ro.build.version.release": "15",
    "ro.build.version.sdk": "35",
    "ro.build.version.security_patch": "2026-09-05",
    "ro.build.fingerprint": "google/shiba/shiba:15/AP4A/1:user/release-keys",
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a",
    "sys.boot_completed": "1",
}


def told(properties: dict[str, str], boot: str = "b0075eed", **parts: str) -> str:
    """What the script prints on a phone of these properties."""
    listed = "\n".join(f"[{name}]: [{value}]" for name, value in properties.items())
    texts = {
        "properties": listed,
        "memory": "MemTotal:        7812345 kB\nMemFree: 1 kB",
        "kernel": "5.15.148-android14-11",
        "cores": "0-7",
        "boot": boot,
        "battery": "Current Battery Service state:\n  AC powered: false\n  present: true\n",
        **parts,
    }
    return "".join(f"\n#benchfarm-part:{name}\n{text}\n" for name, text in texts.items())


def test_what_a_phone_says_of_itself() -> None:
    identity = read_identity(told(PIXEL))
    assert identity.attributes == {
        "brand": "google",
        "manufacturer": "Google",
        "model": "Pixel 8",
        "product": "shiba",
        "device": "shiba",
        "soc": "Tensor G3",
        "soc_manufacturer": "Google",
        "os": "15",
        "sdk": 35,
        "abi": "arm64-v8a",
        "abis": ("arm64-v8a", "armeabi-v7a"),
        "memory_bytes": 7812345 * 1024,
        "security_patch": "2026-09-05",
        "build": "google/shiba/shiba:15/AP4A/1:user/release-keys",
        "kernel": "5.15.148-android14-11",
        "cores": 8,
        "battery": True,
    }
    assert (identity.name_part, identity.boot_id, identity.booted, identity.note) == ("pixel-8", "b0075eed", True, None)


def test_the_key_is_of_the_phone_and_not_of_its_system() -> None:
    key = read_identity(told(PIXEL)).key
    updated = {**PIXEL, "ro.build.version.release": "16", "ro.build.fingerprint": "other", "ro.product.model": "P8"}
    assert read_identity(told(updated, boot="another", kernel="6.1", battery="")).key == key
    assert read_identity(told({**PIXEL, "ro.serialno": "1A2B3C4D5E70"})).key != key
    assert read_identity(told({**PIXEL, "ro.product.manufacturer": "Acme"})).key != key
    assert key is not None
    assert "1A2B3C4D5E6F" not in key  # a serial number is nobody's business


def test_old_and_odd_phones_are_described_by_what_they_have() -> None:
    old = {
        "ro.boot.serialno": "0a388e93",
        "ro.product.brand": "Redmi",
        "ro.product.model": "22101316G",
        "ro.product.marketname": "Redmi Note 12 Pro",
        "ro.soc.model": "",
        "ro.board.platform": "mt6877",
        "ro.build.version.sdk": "twenty",
        "ro.product.cpu.abi": "arm64-v8a",
    }
    identity = read_identity(told(old, cores="", memory="", battery="Can't find service: battery"))
    picked = {
        name: identity.attributes[name] for name in ("model", "soc", "soc_manufacturer", "sdk", "cores", "battery")
    }
    assert picked == {
        "model": "Redmi Note 12 Pro",
        "soc": "mt6877",
        "soc_manufacturer": None,
        "sdk": None,
        "cores": None,
        "battery": None,
    }
    assert identity.name_part == "redmi-note-12-pro"
    assert identity.key is not None


def test_a_phone_that_starts_is_not_up() -> None:
    starting = {name: value for name, value in PIXEL.items() if name != "sys.boot_completed"}
    assert not read_identity(told(starting)).booted
    assert read_identity(told({})).booted  # no Android at all: as up as it gets


@pytest.mark.parametrize(
    "serial", ["", "0", "unknown", "0123456789ABCDEF", "123456789", "1234567890", "0000000000000000", "EMULATOR34X2X0"]
)
def test_serial_numbers_of_nobody(serial: str) -> None:
    assert is_placeholder(serial)
    assert read_identity(told({**PIXEL, "ro.serialno": serial, "ro.boot.serialno": serial})).key is None


@pytest.mark.parametrize("serial", ["R58M123ABC", "0a388e93", "1A2B3C4D5E6F", "FAKE1", "HT7A1"])
def test_serial_numbers_of_somebody(serial: str) -> None:
    assert not is_placeholder(serial)


def test_clones_are_told_apart_by_what_is_their_own() -> None:
    clone = read_identity(told({**PIXEL, "ro.serialno": "0123456789ABCDEF"}))
    marks = "\n#benchfarm-part:android_id\n{}\n\n#benchfarm-part:wifi\n{}\n"
    first = distinction(marks.format("9f8e7d6c5b4a3921", ""), "usb:1-1")
    second = distinction(marks.format("null", "a4:50:46:12:34:56"), "usb:1-2")
    third = distinction(marks.format("null", "02:00:00:00:00:00"), "usb:1-3")
    assert [first, second, third] == [
        "android_id 9f8e7d6c5b4a3921",
        "wifi_address a4:50:46:12:34:56",
        "usb_port usb:1-3",
    ]
    assert distinction("", None) is None
    apart = [clone.told_apart(by) for by in (first, second, third) if by is not None]
    assert len({identity.key for identity in apart}) == 3
    assert apart[2].note is not None
    assert "usb_port" in apart[2].note
    assert dataclasses.replace(apart[0], key=None, note=None) == clone


def test_a_hostile_phone_has_a_harmless_name() -> None:
    identity = read_identity(told({**PIXEL, "ro.product.model": "\x1b[31m../../$(reboot)\u202e" + "x" * 5000}))
    assert identity.name_part.replace("-", "").isalnum()
    assert len(identity.name_part) <= 40
    model = identity.attributes["model"]
    assert isinstance(model, str)
    assert len(model) <= 120
    assert model.isprintable()


@given(st.text(st.characters()))
def test_any_text_is_answered(text: str) -> None:
    assert read_identity(text).name_part
    assert read_identity(told({"ro.serialno": text, "ro.product.model": text}, boot=text, cores=text)).name_part
    distinction(text, None)


def test_damaged_answers_are_answered() -> None:
    for text in mutated([told(PIXEL), told({}), told(PIXEL, cores="0-3,6", battery="  present: false")]):
        assert read_identity(text).name_part
