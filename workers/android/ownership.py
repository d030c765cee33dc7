"""Which process has a phone: two of one machine that share an adb server must not clear away each other's jobs."""

from __future__ import annotations

import os

from workers.android.phone import ROOT, Phone
from workers.android.scripts import QUERY_S, lines_of
from workers.android.shell import quote
from workers.devices.cpu import machine_key
from workers.errors import AttemptError, Cause
from workers.processes import is_alive, this_process

#: In `ROOT`.
OWNER = "owner"
_FILE = f"{ROOT}/{OWNER}"


def refuse_owned(phone: Phone) -> None:
    """Leave alone what another living process of this machine is at work on.

    Of a process of another machine nobody here can say whether it lives: by cable it cannot have the phone any more.

    Raises:
        PhoneLostError: the phone went.
        AttemptError: it is in use.
    """
    _refuse(lines_of(phone.run(f"[ ! -e {_FILE} ] || cat {_FILE}", QUERY_S), "asking whose the phone is"))


def _refuse(said: list[str]) -> None:
    match said[0].split() if said else []:
        case [machine, pid, started] if machine == machine_key() and pid.isdecimal() and int(pid) != os.getpid():
            if is_alive(int(pid), _number(started)):
                message = f"process {pid} of this host is at work on the phone"
                raise AttemptError(Cause.INFRASTRUCTURE, "phone_in_use", message)


def take(phone: Phone) -> None:
    """Say on the phone that it is ours, in one call where it is nobody's; `clean` gives it back.

    Raises as `refuse_owned`.
    """
    me = this_process()
    mine = quote(f"{machine_key()} {me.pid} {me.started!r}")
    take = f"mkdir -p {ROOT} && echo {mine} > {_FILE}"
    script = f"""
owner=; {{ read -r owner < {_FILE}; }} 2>/dev/null
case $owner in '' | {mine}) {take} ;; *) echo "$owner" ;; esac
"""
    if said := lines_of(phone.run(script, QUERY_S), "taking the phone"):
        _refuse(said)
        lines_of(phone.run(take, QUERY_S), "taking the phone")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0
