"""Who a phone is: the same on any cable, port, network or host, whatever adb calls it today."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from device_registry.capabilities import Attribute
from workers.android.parsers.properties import read_properties

_MARK = "#benchfarm-part:"
#: All that identifies a phone, in one call. What a phone does not have or does not show is an empty part.
IDENTITY_SCRIPT = "\n".join(
    f"echo; echo '{_MARK}{part}'; {command} 2>/dev/null"
    for part, command in {
        "properties": "getprop",
        "memory": "cat /proc/meminfo",
        "kernel": "uname -r",
        "cores": "cat /sys/devices/system/cpu/possible",
        "boot": "cat /proc/sys/kernel/random/boot_id",
        "battery": "dumpsys battery",
    }.items()
)
#: What tells phones apart that share a serial number. Apart, because `settings` takes a second on an old phone.
APART_SCRIPT = "\n".join(
    f"echo; echo '{_MARK}{part}'; {command} 2>/dev/null"
    for part, command in {
        "android_id": "settings get secure android_id",
        "wifi": "cat /sys/class/net/wlan0/address",
    }.items()
)

#: Where makers put the name that is printed on the box; `ro.product.model` is often a mere code.
_MARKET_NAMES = (
    "ro.product.marketname",
    "ro.product.vendor.marketname",
    "ro.product.odm.marketname",
    "ro.config.marketing_name",
    "ro.vivo.market.name",
    "ro.vendor.oplus.market.name",
    "ro.oppo.market.name",
)
#: Property of phones that are only played (`workers.android.fake`).
PLAYED = "benchfarm.played"
#: Serial numbers of boards that never got one. Runs of one character and of counted digits are found by rule.
_PLACEHOLDERS = frozenset({"unknown", "default", "none", "null", "android", "serialno", "abcdef"})
_COUNTED = "0123456789abcdef" * 2 + "1234567890" * 2 + "12345678901234567890abcdef"
_UNTIDY = re.compile(r"[^\x20-\x7e\u00a0-\ud7ff\ue000-\U0010ffff]+|[\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]+")
_LONGEST = 120
_ANDROID_ID = re.compile(r"[0-9a-f]{8,16}")
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
#: What Android shows instead of an address that it keeps to itself.
_NO_MAC = frozenset({"00:00:00:00:00:00", "02:00:00:00:00:00"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What one phone says it is."""

    #: Stable; None when its serial number cannot tell it from others (see `told_apart`).
    key: str | None
    #: For a name that people type: lower case, digits and dashes.
    name_part: str
    attributes: dict[str, Attribute] = field(default_factory=dict)
    #: Of this boot of it; None where the phone does not show it. No two running phones share one.
    boot_id: str | None = None
    #: Android is up; also what is no Android at all is as up as it gets.
    booted: bool = True
    #: What people should know of how it was identified.
    note: str | None = None
    #: What the key was made of.
    maker: str = ""
    serial_number: str = ""

    def told_apart(self, by: str) -> Identity:
        """The identity of a phone whose serial number others have too.

        Args:
            by: what is its own (see `distinction`).
        """
        what = by.partition(" ")[0]
        return Identity(
            key=_key(self.maker, self.serial_number, by),
            name_part=self.name_part,
            attributes=self.attributes,
            boot_id=self.boot_id,
            booted=self.booted,
            note=f"its serial number ({self.serial_number or 'none'}) is not its own: told apart by {what}",
            maker=self.maker,
            serial_number=self.serial_number,
        )


def read_identity(text: str) -> Identity:
    """Read what `IDENTITY_SCRIPT` printed. Total: what is not there stays None."""
    parts = _parts(text)
    properties = read_properties(parts.get("properties", "")).values
    memory = re.search(r"^MemTotal:\s*([0-9]{1,15}) kB", parts.get("memory", ""), re.MULTILINE)
    present = re.search(r"^  present: (true|false)", parts.get("battery", ""), re.MULTILINE)
    maker = _first(properties, "ro.product.manufacturer", "ro.product.vendor.manufacturer", "ro.product.brand") or ""
    serial_number = _first(properties, "ro.serialno", "ro.boot.serialno", "ro.vendor.serialno") or ""
    model = _first(properties, *_MARKET_NAMES, "ro.product.model", "ro.product.vendor.model")
    abis = tuple((_first(properties, "ro.product.cpu.abilist") or "").replace(" ", "").split(","))
    attributes: dict[str, Attribute] = {
        "brand": _first(properties, "ro.product.brand", "ro.product.vendor.brand"),
        "manufacturer": maker or None,
        "model": model,
        "product": _first(properties, "ro.product.name", "ro.build.product"),
        "device": _first(properties, "ro.product.device", "ro.product.vendor.device"),
        # ro.soc.* exist from Android 12 on; before, the platform is as near as it gets.
        "soc": _first(properties, "ro.soc.model", "ro.board.platform", "ro.product.board", "ro.hardware"),
        "soc_manufacturer": _first(properties, "ro.soc.manufacturer"),
        "os": _first(properties, "ro.build.version.release"),
        "sdk": _number(_first(properties, "ro.build.version.sdk")),
        "abi": _first(properties, "ro.product.cpu.abi") or (abis[0] or None),
        "abis": tuple(abi for abi in abis if abi),
        "memory_bytes": int(memory[1]) * 1024 if memory is not None else None,
        "security_patch": _first(properties, "ro.build.version.security_patch"),
        "build": _first(properties, "ro.build.fingerprint"),
        "kernel": _tidy(parts.get("kernel", "")) or None,
        "cores": _cores(parts.get("cores", "").strip()),
        "battery": present[1] == "true" if present is not None else None,
    }
    if PLAYED in properties:
        attributes["simulated"] = True  # its numbers must never be taken for a phone's
    boot_id = _tidy(parts.get("boot", ""))
    is_android = attributes["sdk"] is not None
    return Identity(
        key=None if is_placeholder(serial_number) else _key(maker, serial_number),
        name_part=_slug(model or ""),
        attributes=attributes,
        boot_id=boot_id or None,
        booted=not is_android or "1" in (properties.get("sys.boot_completed"), properties.get("dev.bootcomplete")),
        maker=maker,
        serial_number=serial_number,
    )


def distinction(text: str, usb_path: str | None) -> str | None:
    """What tells a phone from others of one serial number, of what `APART_SCRIPT` printed; None if nothing does.

    In this order: the id Android made at its first start (until a factory reset), the Wi-Fi address where shell may
    see it, and the port that it is plugged in, which is all that is left of some boards, and goes with the cable.
    """
    parts = _parts(text)
    if _ANDROID_ID.fullmatch(android_id := parts.get("android_id", "").strip()):
        return f"android_id {android_id}"
    wifi = parts.get("wifi", "").strip().casefold()
    if _MAC.fullmatch(wifi) and wifi not in _NO_MAC:
        return f"wifi_address {wifi}"
    return f"usb_port {usb_path}" if usb_path is not None else None


def is_placeholder(serial_number: str) -> bool:
    """Whether a serial number is one that many phones have."""
    text = serial_number.strip().casefold()
    return (
        len(text) < 4
        or text in _PLACEHOLDERS
        or len(set(text)) == 1
        or text in _COUNTED
        or text.startswith("emulator")  # the same for all emulators of one version
    )


def _parts(text: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for part in text.split(f"\n{_MARK}")[1:]:
        name, _, body = part.partition("\n")
        parts.setdefault(name.strip(), body)
    return parts


def _first(properties: Mapping[str, str], *names: str) -> str | None:
    """The first that says something."""
    for name in names:
        if (value := _tidy(properties.get(name, ""))) and value.casefold() != "unknown":
            return value
    return None


def _tidy(text: str) -> str:
    """Printable, on one line, and short: a phone's words end up in tables, names and file names."""
    return " ".join(_UNTIDY.sub(" ", text).split())[:_LONGEST]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")[:40].strip("-") or "phone"


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,6}", text) else None


def _cores(text: str) -> int | None:
    """Of a list like "0-3,6": what the kernel could bring up; cores that sleep are cores as well."""
    count = 0
    for span in text.split(","):
        match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", span)
        if match is None:
            return None
        count += max(0, int(match[2] or match[1]) - int(match[1]) + 1)
    return count or None


def _key(maker: str, serial_number: str, *more: str) -> str:
    text = "\n".join((maker.casefold(), serial_number, *more))
    return f"android:{hashlib.sha256(text.encode()).hexdigest()[:16]}"
