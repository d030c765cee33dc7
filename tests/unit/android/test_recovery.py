"""The lab's own way to take a phone's power, and what cannot be recovered."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.unit.android.test_rack import Lab, ScriptedPhone, lab, online
from workers.android import recovery
from workers.errors import AttemptError


def with_phone(made: Lab, place: str) -> str:
    made.server.ways["R58"] = ScriptedPhone("R58", {})
    made.server.show(f"R58 device {place}")
    (phone,) = made.until(lambda phones: online(phones) == ["R58"])
    return phone.key


def test_the_labs_command_hears_which_port(tmp_path: Path) -> None:
    heard = tmp_path / "heard; touch pwned"
    words = ["-l", "{hub}", "-p", "{hub_port}", "{port}", "{serial}", "$(reboot)"]
    code = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('\\n'.join(sys.argv[2:]))"
    with lab() as made:
        recovery.cycle_usb_power(
            made.rack, with_phone(made, "usb:1-4.2"), [sys.executable, "-c", code, str(heard), *words]
        )
        assert heard.read_text().split("\n") == ["-l", "1-4", "-p", "2", "1-4.2", "R58", "$(reboot)"]


def test_a_command_that_fails_says_why() -> None:
    with lab() as made:
        key = with_phone(made, "usb:1-4")
        code = "import sys; print('no such hub:', *sys.argv[1:]); sys.exit(3)"
        command = [sys.executable, "-c", code, "{hub}", "port", "{hub_port}"]
        with pytest.raises(AttemptError, match=r"ended 3: no such hub: 1 port 4"):
            recovery.cycle_usb_power(made.rack, key, command)
        with pytest.raises(AttemptError, match="the lab's command"):
            recovery.cycle_usb_power(made.rack, key, ["/nonexistent/uhubctl"])


def test_a_phone_on_no_known_port_has_no_power_to_take() -> None:
    with lab() as made, pytest.raises(AttemptError, match="which USB port"):
        recovery.cycle_usb_power(made.rack, with_phone(made, ""), ["true"])


def test_a_phone_that_never_was_here_cannot_be_recovered() -> None:
    with lab() as made, pytest.raises(AttemptError, match="never seen here"):
        recovery.reboot(made.rack, "android:0")


def test_the_server_is_started_anew_for_a_phone_alone() -> None:
    with lab() as made:
        key = with_phone(made, "usb:1-1")
        recovery.restart_server(made.rack, key, [key])
        assert made.server.started <= 1
        made.until(lambda phones: made.server.started == 1)
