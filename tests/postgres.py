"""A PostgreSQL server of a test's own, from the installed binaries: no network unless asked, and nothing left."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

#: Who runs the server when we are root: it refuses to run as root.
_UNPRIVILEGED = ("postgres", "nobody")
#: A test's database may be lost with the machine.
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off", "shared_buffers=32MB")


def binaries() -> Path | None:
    """The folder of `initdb` and `postgres`: on the path, else the newest of Debian's."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).resolve().parent
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return newest[-1].parent if newest else None


#: A missing service skips on a laptop and fails in CI.
needs_postgres = pytest.mark.skipif(
    binaries() is None and "CI" not in os.environ, reason="PostgreSQL's server is not installed"
)


class PostgresServer:
    """One server with a data folder of its own. Ends with the thread that started it, whatever ends that."""

    def __init__(self, *, settings: tuple[str, ...] = _FAST, listen: str = "", port: int = 5432) -> None:
        """Make the data folder and start.

        Args:
            settings: name=value for postgresql.conf.
            listen: addresses beside the unix socket, such as 127.0.0.1; everybody who reaches them is let in.
            port: of these addresses; part of the socket's name too.
        """
        found = binaries()
        assert found is not None, "PostgreSQL's server is not installed"
        self._binaries, self.port = found, port
        # Not pytest's folder: that of a unix socket must be short, and the server's user must be able to enter it.
        self.folder = Path(tempfile.mkdtemp(prefix="benchfarm-pg-"))
        self._user = _unprivileged()
        if self._user is not None:
            shutil.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        initialise = [
            "initdb",
            "--username",
            "farm",
            "--auth",
            "trust",
            "--encoding",
            "UTF8",
            "--no-locale",
            "--no-sync",
        ]
        self._run([*initialise, "--pgdata", "data"])
        lines = [*settings, f"listen_addresses='{listen}'", f"port={port}", f"unix_socket_directories='{self.folder}'"]
        with (self.folder / "data" / "postgresql.conf").open("a") as file:
            file.write("\n".join(lines) + "\n")
        if listen:
            with (self.folder / "data" / "pg_hba.conf").open("a") as file:
                file.write("host all all all trust\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def url(self, database: str = "postgres", user: str = "farm") -> str:
        """What BENCHFARM_DATABASE_URL would be, over the unix socket."""
        return f"postgresql+psycopg://{user}@/{database}?host={self.folder}&port={self.port}"

    def execute(self, *statements: str, database: str = "postgres") -> None:
        """Run statements one by one, each in a transaction of its own."""
        with self._connect(database) as connection:
            for statement in statements:
                connection.execute(statement)

    def start(self) -> None:
        """Start, or start again after a kill, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command(["postgres", "-D", "data"]), cwd=self.folder, stderr=log)
        deadline = time.monotonic() + 60
        while True:
            try:
                self._connect("postgres").close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self.folder / "log").read_text()) from None
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """Kill it as a machine that fails would; its backends end by themselves when they see that it is gone."""
        assert self._process is not None
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self._process.pid)], capture_output=True, text=True)
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        for pid in found.stdout.split():
            while Path(f"/proc/{pid}").exists():  # a successor refuses to start while one lives
                time.sleep(0.02)

    def stop(self) -> None:
        """End it in order."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=60)

    def remove(self) -> None:
        """End it and delete its data."""
        if self._process is not None and self._process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder)

    def _connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(
            host=str(self.folder), port=self.port, user="farm", dbname=database, autocommit=True, connect_timeout=10
        )

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(self._command(command), cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def _command(self, command: list[str]) -> list[str]:
        # SIGQUIT: at once, without waiting for those who are connected.
        prefix = ["setpriv", "--pdeathsig", "QUIT"]
        if self._user is not None:
            ids = (str(self._user.pw_uid), str(self._user.pw_gid))
            prefix += ["--reuid", ids[0], "--regid", ids[1], "--clear-groups"]
        return [*prefix, "--", str(self._binaries / command[0]), *command[1:]]


def _unprivileged() -> pwd.struct_passwd | None:
    """The user to become; None when we are nobody in particular already."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next(known[name] for name in _UNPRIVILEGED if name in known)
