"""The picture of a server's database: by the server's own pg_dump, put back by its own pg_restore."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, make_url, text

from device_registry.errors import BenchfarmError, UsageError
from scheduler.backups.manifest import choose_tool, major

#: Debian's, one folder for each major version.
_DEBIAN = Path("/usr/lib/postgresql")
_LOOK_S = 0.1
_END_S = 10.0
_SERVICE = "benchfarm"
#: What SQLAlchemy calls a part of a URL, and what libpq does.
_PARTS = {"host": "host", "port": "port", "username": "user", "password": "password", "database": "dbname"}


def server_version(connection: Connection) -> str:
    """Such as "15.18 (Debian 15.18-0+deb12u1)"."""
    return str(connection.execute(text("SHOW server_version")).scalar_one())


@contextmanager
def snapshot(engine: Engine) -> Iterator[tuple[Connection, str]]:
    """A transaction that sees one state, and the name by which pg_dump sees the same."""
    with engine.connect() as connection:
        connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with connection.begin():
            # It waits for as long as pg_dump takes.
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            yield connection, str(connection.execute(text("SELECT pg_export_snapshot()")).scalar_one())


def dump(url: str, name: str, target: Path, server: int, progress: Callable[[int], None]) -> str:
    """Write a snapshot into a file; returns the version of pg_dump.

    Args:
        url: of the database.
        name: of the snapshot.
        target: the file.
        server: its major version.
        progress: told how many bytes the file has.

    Raises:
        UsageError: there is no pg_dump that fits.
        BenchfarmError: it failed.
    """
    program = find_tool("pg_dump", server)
    told = ["--format=custom", f"--snapshot={name}", "--lock-wait-timeout=60s", f"--file={target}"]
    with _service(url) as environment:
        _run([program, *told, f"--dbname=service={_SERVICE}"], environment, lambda: progress(_size(target)))
    return _version(program)


def put_back(url: str, source: Path, server: int, progress: Callable[[int], None]) -> None:
    """Fill an empty database from such a file, in one transaction: all of it or nothing.

    Raises:
        UsageError: there is no pg_restore that fits.
        BenchfarmError: it failed.
    """
    program = find_tool("pg_restore", server)
    told = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"]
    with _service(url) as environment:
        _run([program, *told, f"--dbname=service={_SERVICE}", str(source)], environment, lambda: progress(0))


def find_tool(name: str, server: int) -> str:
    """The path of a program that fits a server of that major version.

    Raises:
        UsageError: none that is installed does.
    """
    paths = [str(path) for path in sorted(_DEBIAN.glob(f"*/bin/{name}"))]
    if (on_path := shutil.which(name)) is not None:
        paths.append(on_path)
    found = {path: version for path in paths if (version := major(_version(path))) is not None}
    return choose_tool(found, name, server)


def _version(program: str) -> str:
    """15.18 of "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"; empty where it does not start."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"\(PostgreSQL\) (\S+)", said)
    return found[1] if found is not None else ""


@contextmanager
def _service(url: str) -> Iterator[dict[str, str]]:
    """An environment that names the database by a file only we can read: nothing of the URL is on a command line."""
    parsed = make_url(url)
    values = {libpq: getattr(parsed, ours) for ours, libpq in _PARTS.items()} | dict(parsed.query)
    lines = []
    for key, value in values.items():
        if value is None or key == "options":
            continue
        if not isinstance(value, str | int) or re.search(r"[\r\n]", str(value)):
            raise UsageError(
                f"{key} of the database URL cannot be handed to pg_dump: one value without line ends is taken"
            )
        lines.append(f"{key}={value}\n")
    descriptor, path = tempfile.mkstemp(prefix="benchfarm-pg-")  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.writelines([f"[{_SERVICE}]\n", *lines])
        kept = {name: value for name, value in os.environ.items() if name != "BENCHFARM_DATABASE_URL"}
        yield {**kept, "PGSERVICEFILE": path, "PGAPPNAME": "benchfarm backup", "LC_ALL": "C.UTF-8"}
    finally:
        Path(path).unlink()


def _run(command: list[str], environment: dict[str, str], look: Callable[[], None]) -> None:
    """Run a program to its end; it ends with us, whatever ends us but a kill -9."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said
        )
        try:
            while process.poll() is None:
                look()
                time.sleep(_LOOK_S)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(timeout=_END_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        if process.returncode != 0:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"]
            errors = [line for line in lines if "error:" in line] or lines
            raise BenchfarmError(f"{Path(command[0]).name} failed: {errors[0].partition('error: ')[2] or errors[0]}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
