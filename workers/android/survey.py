"""One look at the phones of this host, for people at a terminal; an agent follows them (`workers.android.rack`)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from workers.android.adb import AdbServer
from workers.android.identity import IDENTITY_SCRIPT, Identity, read_identity
from workers.android.phone import Phone
from workers.android.presence import Listed, Presence, remedy
from workers.errors import AttemptError

_IDENTIFY_S = 15.0
#: Phones that are asked at the same time: a rack of a host has at most so many.
_AT_ONCE = 40


@dataclass(frozen=True)
class Seen:
    """One phone as adb lists it, and what it says of itself."""

    listed: Listed
    #: What a person can do about it; None where nothing is to be done.
    remedy: str | None
    #: None unless it is online and answered.
    identity: Identity | None = None
    phone: Phone | None = None

    @property
    def abis(self) -> tuple[str, ...]:
        """Its ABIs, the best first."""
        abis = self.identity.attributes.get("abis") if self.identity is not None else None
        return tuple(str(abi) for abi in abis) if isinstance(abis, list | tuple) else ()

    def is_called(self, name: str) -> bool:
        """Whether a person may have meant it: adb's serial, its own serial number, its key, its name in the farm."""
        identity = self.identity
        names = [self.listed.serial]
        if identity is not None:
            key = identity.key or ""
            names += [key, identity.serial_number, f"{identity.name_part}-{key[-4:]}"]
        return bool(name) and name in names


def survey(server: AdbServer) -> list[Seen]:
    """All phones that adb lists, each asked who it is; a phone that hangs delays nobody.

    Raises:
        AttemptError: no adb server answers.
    """
    listed = server.devices()
    if not listed:
        return []
    with ThreadPoolExecutor(max_workers=min(len(listed), _AT_ONCE)) as pool:
        return list(pool.map(lambda one: _look(server, one), listed))


def _look(server: AdbServer, listed: Listed) -> Seen:
    if listed.presence is not Presence.ONLINE:
        return Seen(listed, remedy(listed.presence))
    phone = server.phone(listed)
    try:
        identity = read_identity(phone.run(IDENTITY_SCRIPT, _IDENTIFY_S).stdout)
    except AttemptError as error:
        return Seen(listed, error.message)
    return Seen(listed, None if identity.booted else remedy(Presence.BOOTING), identity, phone)
