"""What every Ray process of benchfarm is started with, and the farm's token. Imports no Ray: it must be set before."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from device_registry.errors import UsageError
from workers.spool import RAY_SESSION_VARIABLE

#: Ray binds to loopback alone where this is 0 and to every address of the machine elsewhere; it is read at import.
_CLUSTER_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
#: Would send a process of ours to another cluster, or past the token file.
_STRAY = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_NAMESPACE", "RAY_JOB_CONFIG_JSON_ENV_VAR")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: The namespace of every actor and of the head's notes.
NAMESPACE = "benchfarm"


def set_ray_environment(token_path: Path, *, loopback: bool, session: str | None = None) -> None:
    """Make this process, and all that it starts, use Ray as benchfarm does; to be called before Ray is imported.

    Args:
        token_path: of the farm's token.
        loopback: whether every socket stays on 127.0.0.1.
        session: mark of the processes, by which a successor finds and ends them.
    """
    os.environ.update(
        {
            _CLUSTER_VARIABLE: "0" if loopback else "1",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token_path),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_prestart_worker_first_driver": "0",
            "RAY_enable_worker_prestart": "0",
            "RAY_enable_metrics_collection": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "RAY_DEDUP_LOGS": "0",
        }
    )
    if session is not None:
        os.environ[RAY_SESSION_VARIABLE] = session
    for stray in _STRAY:
        os.environ.pop(stray, None)


def make_token(home: Path) -> Path:
    """The farm's token in a data directory, made once; readable by its owner only."""
    path = home / "ray-token"
    if not path.exists() or path.stat().st_size == 0:
        partial = path.with_name(f"{path.name}.{os.getpid()}.part")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        partial.replace(path)
    path.chmod(0o600)
    return path


def find_token(path: Path) -> Path:
    """The farm's token as it was copied to this host; Ray ends a process without a word where there is none.

    Raises:
        UsageError: it is not there, is empty, or others can read it.
    """
    try:
        status = path.stat()
        empty = not path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"no token of a farm in {path}: copy the file `ray-token` of the head's data directory there, mode 0600"
        ) from error
    if empty:
        raise UsageError(f"the token file {path} is empty")
    if status.st_mode & 0o077:
        raise UsageError(f"the token file {path} can be read by others: chmod 600 {path}")
    return path


def parse_address(text: str, default_port: int = 6379) -> tuple[str, int]:
    """HOST or HOST:PORT.

    Raises:
        UsageError: it is neither.
    """
    host, _, port = text.partition(":")
    if not host or (port and not (port.isdigit() and 1024 <= int(port) <= 65535)):
        raise UsageError(f"{text!r} is no address: write HOST or HOST:PORT, with a port from 1024 to 65535")
    return ("127.0.0.1" if host in LOOPBACK else host), int(port or default_port)
