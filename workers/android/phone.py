"""The seam to one phone: run a script, push a file, pull a file; every call with a deadline of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from workers.errors import AttemptError, Cause

#: Everything of ours on a phone is below this folder.
ROOT = "/data/local/tmp/benchfarm"


class PhoneLostError(AttemptError):
    """The phone went, or did not answer in time: what ran there may still run."""

    def __init__(self, message: str, code: str = "device_lost") -> None:
        """Say what was tried when it went."""
        super().__init__(Cause.INFRASTRUCTURE, code, message)


class PhoneFullError(AttemptError):
    """No room on the phone."""

    def __init__(self, message: str) -> None:
        """Say how much was wanted, and how much there is."""
        super().__init__(Cause.DEVICE, "phone_full", message)


@dataclass(frozen=True, slots=True)
class Output:
    """What a script left behind."""

    exit_code: int
    stdout: str
    stderr: str


class Phone(Protocol):
    """One phone that can be reached now. Calls may come from several threads; each blocks for its deadline at most."""

    @property
    def serial(self) -> str:
        """Today's word of adb for it: no identity."""

    def run(self, script: str, deadline_s: float) -> Output:
        """Run a shell script (made by `workers.android.shell` alone) to its end.

        That it came to its end is proven by a marker, never by an exit status of adb's.

        Raises:
            PhoneLostError: it went meanwhile, or the deadline passed; the script may still run there.
        """

    def push(self, local: Path, remote: str, deadline_s: float) -> None:
        """Copy a file to the phone; whoever needs to know that it arrived whole looks at its digest.

        Raises:
            PhoneLostError: see `run`.
            PhoneFullError: it does not fit.
        """

    def pull(self, remote: str, local: Path, deadline_s: float) -> None:
        """Copy a file of the phone to a new file here.

        Raises:
            PhoneLostError: see `run`.
            AttemptError: there is no such file.
        """
