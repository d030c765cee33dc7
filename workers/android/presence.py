"""What an adb server says of the phones that hang on it, and what a person can do about each state."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum


class Presence(StrEnum):
    """The state of one phone, in the farm's words."""

    ONLINE = "online"  # adb: device
    OFFLINE = "offline"
    UNAUTHORIZED = "unauthorized"
    AUTHORIZING = "authorizing"
    CONNECTING = "connecting"
    BOOTING = "booting"  # ours: adbd answers, Android is not up yet
    RECOVERY = "recovery"
    SIDELOAD = "sideload"
    BOOTLOADER = "bootloader"
    RESCUE = "rescue"
    NO_PERMISSIONS = "no permissions"
    DETACHED = "detached"  # told to leave it by "adb detach"
    ABSENT = "absent"
    UNKNOWN = "unknown"  # a word of adb's that we do not know


_REMEDIES = {
    Presence.OFFLINE: "adb sees the phone but gets no answer: replug its cable, or toggle USB debugging on it",
    Presence.UNAUTHORIZED: "unlock the phone and accept this computer's key; tick 'always allow'",
    Presence.AUTHORIZING: "the phone is being asked for its trust: wait, then accept this computer's key on it",
    Presence.CONNECTING: "the connection is being made: wait a few seconds",
    Presence.BOOTING: "Android is still starting: wait until its home screen stands",
    Presence.RECOVERY: "the phone is in recovery: choose 'reboot system now' on it, or run 'adb reboot'",
    Presence.SIDELOAD: "the phone waits for an update to be sideloaded: choose 'reboot system now' on it",
    Presence.BOOTLOADER: "the phone is in its bootloader: run 'fastboot reboot', or choose 'start' on it",
    Presence.RESCUE: "the phone is in rescue mode: choose 'reboot system now' on it",
    Presence.NO_PERMISSIONS: (
        "this user may not open the phone's USB device: install the distribution's udev rules for Android "
        "(Debian: android-sdk-platform-tools-common), join group plugdev, replug, and restart the adb server"
    ),
    Presence.DETACHED: "adb was told to leave this phone alone: run 'adb attach' for it",
    Presence.ABSENT: "the phone is not connected: plug it in, switch it on and enable USB debugging",
    Presence.UNKNOWN: "adb shows a state that is not known here: update adb, then replug the phone",
}

#: adb's words for states. The long ones first: the listing is split at the first that fits.
_STATES = {
    "no permissions": Presence.NO_PERMISSIONS,
    "unauthorized": Presence.UNAUTHORIZED,
    "authorizing": Presence.AUTHORIZING,
    "connecting": Presence.CONNECTING,
    "bootloader": Presence.BOOTLOADER,
    "recovery": Presence.RECOVERY,
    "sideload": Presence.SIDELOAD,
    "detached": Presence.DETACHED,
    "offline": Presence.OFFLINE,
    "device": Presence.ONLINE,
    "rescue": Presence.RESCUE,
    "absent": Presence.ABSENT,
    "unknown": Presence.UNKNOWN,
    "host": Presence.UNKNOWN,
}
# A serial may hold blanks (mDNS gives "adb-SERIAL (2)._adb-tls-connect._tcp"): the state is what tells where it ends.
_LINE = re.compile(rf"(?P<serial>\S.*?)[ \t]+(?P<state>{'|'.join(_STATES)})(?=$|[\s:;(])(?P<rest>.*)")
_STRANGE = re.compile(r"(?P<serial>\S+)[ \t]+(?P<state>\S+)(?P<rest>.*)")
#: What clients print around a listing: its header, and what they say when they start a server.
_CHATTER = ("*", "List of devices", "adb server", "adb: ", "error: ")
#: What adb prints for a phone that it could not even ask for its number.
_NAMELESS = frozenset({"(no serial number)", "????????????", "no serial number"})
_WIRELESS = re.compile(r".+:\d{1,5}|.+\._tcp\.?")
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of an adb server's listing."""

    #: adb's word for it: no identity, and not always unique.
    serial: str
    presence: Presence
    #: What adb itself called the state.
    said: str
    #: Where it is plugged in ("usb:1-4.2"); None for what comes over a network, or where adb does not tell.
    usb_path: str | None = None
    #: What to name it by to the server: its serial, or its port where several have that serial.
    address: str = ""

    @property
    def wireless(self) -> bool:
        """Whether it is reached over a network."""
        return self.usb_path is None and _WIRELESS.fullmatch(self.serial) is not None


def remedy(presence: Presence) -> str | None:
    """What a person can do about a state, in one sentence; None where nothing is to be done."""
    return _REMEDIES.get(presence)


def read_devices(text: str) -> tuple[Listed, ...]:
    """Read a listing of phones: of `adb devices`, with `-l` or without, or of the server's own services.

    Total: whatever the text, the lines that can be read are; others are left out.
    """
    found = [listed for line in text.splitlines() if (listed := _read_line(line.strip())) is not None]
    serials = Counter(listed.serial for listed in found)
    return tuple(_addressed(listed, serials[listed.serial]) for listed in found)


def _read_line(line: str) -> Listed | None:
    if not line or line.startswith(_CHATTER):
        return None
    match = _LINE.match(line) or _STRANGE.match(line)
    if match is None:
        return None
    usb_path = next((word for word in match["rest"].split() if word.startswith("usb:")), None)
    said = match["state"] + match["rest"] if match["state"] == "no permissions" else match["state"]
    return Listed(
        serial=match["serial"].rstrip()[:_LONGEST],
        presence=_STATES.get(match["state"], Presence.UNKNOWN),
        said=said.strip()[:_LONGEST],
        usb_path=usb_path[:_LONGEST] if usb_path is not None else None,
    )


def _addressed(listed: Listed, sharing: int) -> Listed:
    unclear = sharing > 1 or listed.serial in _NAMELESS
    address = listed.usb_path if unclear and listed.usb_path is not None else listed.serial
    return Listed(listed.serial, listed.presence, listed.said, listed.usb_path, address)
