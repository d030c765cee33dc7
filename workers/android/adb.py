"""Phones through a local adb server. The only module that imports adbutils.

Of adbutils come the server's protocol and, in its wheel, a current adb. Not taken is what would wait without end or
hide a failure: every call here has a deadline of its own from start to end (adbutils' timeouts are per read), no call
starts a server by itself, and no exit status of a shell that was cut off counts as success.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import adbutils
from adbutils._adb import AdbConnection
from adbutils.errors import AdbError, AdbTimeout

from workers.android.phone import Output, PhoneLostError
from workers.android.presence import Listed, read_devices
from workers.android.proof import marked, read_packets, read_plain
from workers.android.sync import receive_file, send_file
from workers.errors import AttemptError, Cause, first_line

#: Asking the server about itself, which it answers from memory.
QUERY_S = 5.0
#: `adb start-server` returns when the server listens; on a slow host that has to probe USB first this takes seconds.
_START_S = 20.0
#: The server itself gives up after about 10 s.
_CONNECT_S = 15.0
#: Where adb listens when nobody says otherwise.
_DEFAULT_PORT = 5037
#: The protocol writes the length of a request with four hexadecimal digits.
_LONGEST_SCRIPT = 60_000


class Connection(AdbConnection):  # type: ignore[misc]  # adbutils has no types
    """One connection to the server, which is over when its deadline is."""

    def __init__(self, port: int, deadline_s: float) -> None:
        """Connect.

        Raises:
            AdbError: no server listens there, or none in time.
        """
        self._port, self._until = port, time.monotonic() + deadline_s
        super().__init__("127.0.0.1", port)

    def _safe_connect(self) -> socket.socket:
        # adbutils starts a server when it finds none, on the default port whatever was asked for.
        try:
            return socket.create_connection(("127.0.0.1", self._port), timeout=min(3.0, self._left_s()))
        except TimeoutError as error:
            raise AdbTimeout("the adb server did not accept in time") from error
        except OSError as error:
            raise ServerGoneError(f"no adb server at port {self._port}: {first_line(error)}") from error

    def _left_s(self) -> float:
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise AdbTimeout("the deadline passed")
        return left_s

    @property
    def conn(self) -> socket.socket:
        """The socket; what is done with it next ends at the deadline."""
        connection: socket.socket = super().conn
        connection.settimeout(self._left_s())
        return connection

    def hang_up(self) -> None:
        """End what another thread does with it."""
        with suppress(OSError):
            super().conn.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give it back. adbutils would wait 10 ms first, each time."""
        super().conn.close()

    def write(self, data: bytes) -> None:
        """Send all of it; adbutils sends as much as fits."""
        self.conn.sendall(data)

    def send_command(self, cmd: str) -> None:
        """Send a request of the server's protocol."""
        data = cmd.encode()
        self.write(b"%04x" % len(data) + data)

    def ask(self, request: str) -> None:
        """Make a request and see that it was granted.

        Raises:
            AdbError: it was not, and the server's reason.
        """
        self.send_command(request)
        self.check_okay()

    def block(self) -> str:
        """A text with its length before it."""
        data: bytes = self.read_exact(int(self.read_exact(4), 16))
        return data.decode(errors="replace")

    def more(self, n: int = 1 << 16) -> bytes:
        """Whatever comes next; nothing at the end."""
        data: bytes = self.conn.recv(n)
        return data


class ServerGoneError(AdbError):  # type: ignore[misc]
    """No adb server listens."""


#: What a connection to a server may raise.
_BROKEN = (AdbError, OSError, EOFError, ValueError)


class AdbServer:
    """The adb server of this host: one port, and the program that starts it."""

    def __init__(self, port: int | None = None, adb: str | None = None) -> None:
        """Nothing is started or asked yet.

        Args:
            port: where it listens; None: where the environment (ANDROID_ADB_SERVER_PORT) or adb itself puts it.
            adb: path of the program; None: the one that adbutils carries, else the one on the PATH.
        """
        self.port = port or int(os.environ.get("ANDROID_ADB_SERVER_PORT", _DEFAULT_PORT))
        self._adb = adb

    @property
    def adb(self) -> str | None:
        """The program that starts the server, or None when there is none on this host."""
        if self._adb is not None:
            found = shutil.which(self._adb)
            return str(Path(found).resolve()) if found is not None else None
        # Before the PATH: distributions carry versions that do not notice when a phone goes.
        carried = Path(adbutils.__file__).parent / "binaries" / "adb"
        return str(carried) if os.access(carried, os.X_OK) else shutil.which("adb")

    def version(self) -> int:
        """The server's protocol version: 41 for every adb since 2018.

        Raises:
            AttemptError: see `devices`.
        """
        with self._asking("host:version") as connection:
            return int(connection.block(), 16)

    def devices(self) -> tuple[Listed, ...]:
        """The phones the server knows now.

        Raises:
            AttemptError: no server answers.
        """
        with self._asking("host:devices-l") as connection:
            return read_devices(connection.block())

    def track(self, stop: threading.Event) -> Iterator[tuple[Listed, ...]]:
        """All phones at first and at each change, until told to stop; looks at `stop` four times a second.

        Raises:
            AttemptError: the server went, or there is none.
        """
        with self._asking("host:track-devices-l") as connection:
            poller = select.poll()
            poller.register(connection, select.POLLIN)
            while not stop.is_set():
                if poller.poll(250):
                    connection.allow(QUERY_S)
                    yield read_devices(connection.block())

    def start(self) -> None:
        """Start the server, unless one listens.

        Raises:
            AttemptError: there is no adb here, or it does not start.
        """
        self._command("start-server")

    def kill(self) -> None:
        """End the server; every connection through it ends. What runs on phones goes on.

        Raises:
            AttemptError: no server answers.
        """
        with self._asking("host:kill"):
            pass

    def connect(self, address: str) -> None:
        """Reach a phone over the network.

        Raises:
            AttemptError: it cannot be reached. adb says "failed" too where the key is accepted a moment later, so a
                listing has the last word.
        """
        with self._asking(f"host:connect:{address}", _CONNECT_S) as connection:
            answer = connection.block()
        if "connected to" not in answer:
            raise AttemptError(Cause.INFRASTRUCTURE, "not_connected", answer.strip()[:200])

    def reconnect(self, address: str) -> None:
        """Drop the connection to a phone, so that adb makes it again.

        Raises:
            AttemptError: adb does not know it any more.
        """
        with self._asking(f"host-serial:{address}:reconnect") as connection:
            connection.block()

    def phone(self, listed: Listed) -> AdbPhone:
        """The way to a phone of a listing."""
        return AdbPhone(self.port, listed.serial, listed.address or listed.serial)

    @contextmanager
    def _asking(self, request: str, deadline_s: float = QUERY_S) -> Iterator[_Asking]:
        try:
            with _Asking(self.port, deadline_s) as connection:
                connection.ask(request)
                yield connection
        except ServerGoneError as error:
            raise AttemptError(Cause.INFRASTRUCTURE, "no_adb_server", str(error)) from error
        except _BROKEN as error:
            message = f"adb server, {request[:80]}: {first_line(error)}"
            raise AttemptError(Cause.INFRASTRUCTURE, "adb_failed", message) from error

    def _command(self, *arguments: str) -> None:
        program = self.adb
        if program is None:
            raise AttemptError(Cause.INFRASTRUCTURE, "no_adb", "there is no adb on this host: install package adbutils")
        # Into a file: the server that is left running would hold a pipe open.
        with tempfile.TemporaryFile() as said:
            try:
                done = subprocess.run(
                    [program, "-P", str(self.port), *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    cwd="/",
                    timeout=_START_S,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise AttemptError(Cause.INFRASTRUCTURE, "adb_failed", f"{program}: {first_line(error)}") from error
            said.seek(0)
            text = said.read(4096).decode(errors="replace").strip()
        if done.returncode != 0:
            last = text.splitlines()[-1] if text else f"exit status {done.returncode}"
            raise AttemptError(Cause.INFRASTRUCTURE, "adb_failed", f"adb {arguments[0]}: {last[:240]}")


class _Asking(Connection):
    """A connection that asks the server itself."""

    def fileno(self) -> int:
        """For who waits for it."""
        return self.conn.fileno()

    def allow(self, deadline_s: float) -> None:
        """A new deadline: what waited for an event begins a read."""
        self._until = time.monotonic() + deadline_s


class AdbPhone:
    """See `workers.android.phone.Phone`. Holds no connection between calls."""

    def __init__(self, port: int, serial: str, address: str) -> None:
        """Nothing is asked yet.

        Args:
            port: of the adb server.
            serial: adb's word for the phone.
            address: what to name it by to the server. Never adb's transport number: that begins anew with every
                server, and would then mean another phone.
        """
        self._port, self._serial, self._address = port, serial, address
        self._has_shell_v2: bool | None = None
        self._lock = threading.Lock()
        self._open: set[Connection] | None = set()

    @property
    def serial(self) -> str:
        """See `Phone.serial`."""
        return self._serial

    def run(self, script: str, deadline_s: float) -> Output:
        """See `Phone.run`."""
        until = time.monotonic() + deadline_s
        mark = uuid.uuid4().hex
        wrapped = marked(script, mark)
        if len(wrapped.encode()) > _LONGEST_SCRIPT:
            raise ValueError(f"a script of {len(script)} characters is too long for adb: push it as a file")
        with self._losing("a script", deadline_s):
            if self._has_shell_v2 is None:
                self._has_shell_v2 = self._features(until)
            service = "shell,v2,raw:" if self._has_shell_v2 else "shell:"
            with self._to_phone(service + wrapped, until) as connection:
                read = read_packets if self._has_shell_v2 else read_plain
                return read(connection, mark)

    def push(self, local: Path, remote: str, deadline_s: float) -> None:
        """See `Phone.push`."""
        with (
            self._losing(f"a push of {remote}", deadline_s),
            self._to_phone("sync:", time.monotonic() + deadline_s) as connection,
        ):
            send_file(connection, local, remote)

    def pull(self, remote: str, local: Path, deadline_s: float) -> None:
        """See `Phone.pull`."""
        with (
            self._losing(f"a pull of {remote}", deadline_s),
            self._to_phone("sync:", time.monotonic() + deadline_s) as connection,
        ):
            receive_file(connection, remote, local)

    def reboot(self, deadline_s: float = QUERY_S) -> None:
        """Tell it to reboot; it goes a moment later.

        Raises:
            PhoneLostError: it could not be told.
        """
        with (
            self._losing("a reboot", deadline_s),
            self._to_phone("reboot:", time.monotonic() + deadline_s) as connection,
        ):
            while connection.more():
                pass

    def close(self) -> None:
        """End every call through it now, and refuse those to come: whoever is there next may be another phone."""
        with self._lock:
            connections, self._open = self._open or set(), None
            for connection in connections:
                connection.hang_up()

    def _features(self, until: float) -> bool:
        with self._connected(until) as connection:
            connection.ask(f"host-serial:{self._address}:features")
            return "shell_v2" in connection.block().split(",")

    @contextmanager
    def _to_phone(self, service: str, until: float) -> Iterator[Connection]:
        with self._connected(until) as connection:
            connection.ask(f"host:transport:{self._address}")
            connection.ask(service)
            yield connection

    @contextmanager
    def _connected(self, until: float) -> Iterator[Connection]:
        with Connection(self._port, until - time.monotonic()) as connection:
            with self._lock:
                if self._open is None:
                    raise EOFError("it was given up")
                self._open.add(connection)
            try:
                yield connection
            finally:
                with self._lock:
                    if self._open is not None:
                        self._open.discard(connection)

    @contextmanager
    def _losing(self, doing: str, deadline_s: float) -> Iterator[None]:
        try:
            yield
        except AttemptError:
            raise
        except ServerGoneError as error:
            raise PhoneLostError(f"{self._serial}: {error}", "no_adb_server") from error
        except (AdbTimeout, TimeoutError) as error:
            message = f"{self._serial}: {doing} took longer than {deadline_s:.3g} s"
            raise PhoneLostError(message, "device_no_answer") from error
        except (AdbError, EOFError, ConnectionError, ValueError) as error:
            raise PhoneLostError(f"{self._serial} went during {doing}: {first_line(error)}") from error
