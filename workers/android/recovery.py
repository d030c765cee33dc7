"""Ways to bring back a phone that does not answer, the gentlest first. Each blocks until it is back or says why not."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Collection, Sequence
from contextlib import suppress

from workers.android.phone import PhoneLostError
from workers.android.presence import Presence
from workers.android.rack import KnownPhone, Rack, Server
from workers.errors import AttemptError, Cause, first_line

_RECONNECT_S, _SERVER_S, _POWER_S = 15.0, 40.0, 60.0
#: Android optimises its applications after some restarts.
_REBOOT_S = 300.0
_ANSWER_S = 5.0
_COMMAND_S = 60.0


def reconnect(rack: Rack, key: str) -> None:
    """Have adb make its connection to the phone anew.

    Raises:
        AttemptError: it did not help, or adb does not know the phone any more.
    """
    server, known = _known(rack, key)
    try:
        server.reconnect(known.listed.address)
    except AttemptError:
        if not known.listed.wireless:
            raise
        server.connect(known.listed.serial)
    _see_back(rack, key, _RECONNECT_S, "reconnecting")


def restart_server(rack: Rack, key: str, running: Collection[str]) -> None:
    """Start the adb server anew, which cuts every phone's connection for some seconds.

    Args:
        rack: the phone's.
        key: of the phone.
        running: keys of the phones that run something now; jobs outlive the cut, but are not to pay for a neighbour.

    Raises:
        AttemptError: it did not help, or others would be disturbed.
    """
    server, _ = _known(rack, key)
    if others := sorted(set(running) - {key}):
        raise AttemptError(Cause.DEVICE, "others_running", f"the adb server serves {len(others)} running phones more")
    with suppress(AttemptError):  # one that is gone, or hangs, is started by the rack
        server.kill()
    _see_back(rack, key, _SERVER_S, "restarting the adb server")


def reboot(rack: Rack, key: str, deadline_s: float = _REBOOT_S) -> None:
    """Restart the phone, and wait until Android is up again.

    Raises:
        AttemptError: it cannot be told to, or is not back in time.
    """
    server, known = _known(rack, key)
    # Told as adb knows it, online or not: a phone in recovery can be told too.
    way = server.phone(known.listed)
    try:
        way.reboot()
    finally:
        way.close()
    before = known.identity.boot_id

    def is_new(phone: KnownPhone) -> bool:
        return phone.presence is Presence.ONLINE and (before is None or phone.identity.boot_id != before)

    if not rack.wait_for(key, is_new, deadline_s):
        raise AttemptError(Cause.DEVICE, "not_back", f"the phone was not up {deadline_s:.0f} s after its restart")


def cycle_usb_power(rack: Rack, key: str, command: Sequence[str]) -> None:
    """Have the lab's own command take the power off the phone's USB port and give it back.

    Args:
        rack: the phone's.
        key: of the phone.
        command: program and arguments, run without a shell. In each, `{serial}`, `{port}` (adb's "1-4.2"), `{hub}` and
            `{hub_port}` ("1-4" and "2", as uhubctl takes them) are replaced by the phone's.

    Raises:
        AttemptError: it failed, did not help, or the phone's port is not known.
    """
    _, known = _known(rack, key)
    if known.listed.usb_path is None:
        raise AttemptError(Cause.DEVICE, "no_usb_port", "it is not known which USB port the phone hangs on")
    port = known.listed.usb_path.removeprefix("usb:")
    hub, _, hub_port = port.rpartition("." if "." in port else "-")
    values = {"{serial}": known.listed.serial, "{port}": port, "{hub}": hub, "{hub_port}": hub_port}
    try:
        done = subprocess.run(
            [_filled(word, values) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_COMMAND_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise AttemptError(
            Cause.DEVICE, "usb_power", f"the lab's command for USB power: {first_line(error)}"
        ) from error
    if done.returncode != 0:
        last = done.stdout.decode(errors="replace").strip().splitlines()[-1:]
        said = f": {last[0][:200]}" if last else ""
        raise AttemptError(Cause.DEVICE, "usb_power", f"the lab's command for USB power ended {done.returncode}{said}")
    _see_back(rack, key, _POWER_S, "cycling its USB power")


def _filled(word: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(name, value)
    return word


def _known(rack: Rack, key: str) -> tuple[Server, KnownPhone]:
    server, known = rack.server, rack.phone(key)
    if server is None or known is None:
        why = rack.why_not or "it was never seen here"
        raise AttemptError(Cause.DEVICE, "unknown_phone", f"nothing can be done for this phone: {why}")
    return server, known


def _see_back(rack: Rack, key: str, deadline_s: float, after: str) -> None:
    """The phone must be online, and answer: what was cut a moment ago may not have been missed yet."""
    until = time.monotonic() + deadline_s
    while (left_s := until - time.monotonic()) > 0:
        if not rack.wait_for(key, lambda phone: phone.phone is not None, left_s):
            break
        known = rack.phone(key)
        if known is not None and known.phone is not None:
            try:
                known.phone.run(":", _ANSWER_S)
                return
            except PhoneLostError:
                time.sleep(0.2)
    raise AttemptError(Cause.DEVICE, "not_back", f"the phone did not answer within {deadline_s:.0f} s of {after}")
