"""What tests with a real adb server need: each adb there is, a server of a test's own, and phones to plug into it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from workers.android.fake.handle import FakeRack
from workers.android.fake.root import why_not

#: Every adb server looks at these when it starts.
_SCANNED = range(5555, 5586)
_ANSWER_S = 30


def adb_programs() -> dict[str, str | None]:
    """The system's adb and the one that adbutils carries; None where one is not there."""
    carried: Path | None = None
    if (found := find_spec("adbutils")) is not None and found.origin is not None:
        carried = Path(found.origin).parent / "binaries" / "adb"
    there = carried is not None and os.access(carried, os.X_OK)
    return {"system": shutil.which("adb"), "carried": str(carried) if there else None}


def _skip(reason: str) -> None:
    """A missing service skips on a laptop and fails in CI."""
    if "CI" in os.environ:
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    """A port of loopback that nobody listens on now, and that no adb server looks at by itself."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _SCANNED:
            return port


def wait_until(what: Callable[[], Any], timeout_s: float = 30, *, doing: str = "") -> Any:
    """Poll until something is true; returns it."""
    deadline = time.monotonic() + timeout_s
    while not (value := what()):
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {doing or what}"
        time.sleep(0.02)
    return value


class AdbUnderTest:
    """A server of its own: port, home (where adb keeps its keys), and the program that talks to it."""

    def __init__(self, program: str) -> None:
        """Start it."""
        self.program, self.port = program, free_port()
        self.home = Path(tempfile.mkdtemp(prefix="benchfarm-adb-"))
        self.start()

    @classmethod
    def of(cls, which: str) -> AdbUnderTest:
        """With the system's adb or the carried one; skips where there is none, or no phone can be played to it."""
        if (reason := why_not()) is not None:
            _skip(reason)
        program = adb_programs()[which]
        if program is None:
            _skip(f"there is no {which} adb")
        assert program is not None
        return cls(program)

    @property
    def environment(self) -> Mapping[str, str]:
        """For whoever calls adb."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ADB_", "ANDROID_"))}
        # libusb: with it a new adb waits 3 s for the bus when it starts, and no test has a bus.
        own = {"HOME": str(self.home), "ANDROID_ADB_SERVER_PORT": str(self.port), "ADB_LIBUSB": "0"}
        return {**kept, **own, "ADB_MDNS_AUTO_CONNECT": "0"}

    def start(self) -> None:
        """Start the server, or start it again. It ends with the thread that started it, whatever ends that."""
        command = ["setpriv", "--pdeathsig", "TERM", "--", self.program, "server", "nodaemon"]
        nothing = subprocess.DEVNULL
        self._server = subprocess.Popen(
            command, env=self.environment, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
        )
        wait_until(self._listens, 20, doing="the adb server listens")

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def kill(self) -> None:
        """End the server that listens now, whoever started it, and wait until it is gone."""
        self("kill-server")
        if self._server.poll() is None:
            self._server.wait(timeout=20)

    def close(self) -> None:
        """End it for good."""
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def __call__(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """`adb WORDS`, to its end."""
        # Into files: a server that this starts would hold pipes open.
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            done = subprocess.run(
                [self.program, *words],
                env=self.environment,
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                stdout=out,
                stderr=err,
                text=True,
                timeout=_ANSWER_S,
            )
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, out.read(), err.read())

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """`adb WORDS`, running."""
        return subprocess.Popen(
            [self.program, *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def state(self, serial: str) -> str:
        """As `adb devices` says it; "absent" where it says nothing."""
        for line in self("devices").stdout.splitlines():
            name, _, state = line.partition("\t")
            if name == serial:
                return state
        return "absent"

    def wait_for(self, serial: str, state: str = "device", timeout_s: float = 30) -> None:
        """Until adb says so."""
        wait_until(lambda: self.state(serial) == state, timeout_s, doing=f"{serial} is {state}")


def play(adb: AdbUnderTest, *phones: dict[str, Any]) -> FakeRack:
    """Play phones, plugged into the server and seen by it."""
    rack = FakeRack(phones, adb_port=adb.port)
    try:
        for phone in rack.phones.values():
            adb.wait_for(phone.emulator)
    except BaseException:
        rack.close()
        raise
    return rack
