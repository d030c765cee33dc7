#!/usr/bin/env python3
"""Whether the one thing that a container is for works: `benchfarm-health head|farm|host`. Standard library only."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path

_TIMEOUT_S = 5.0


def head(home: Path) -> str | None:
    """Something listens where the head says it does."""
    host, _, port = json.loads((home / "head.json").read_text())["address"].rpartition(":")
    socket.create_connection((host, int(port)), timeout=_TIMEOUT_S).close()
    return None


def farm(home: Path) -> str | None:
    """The service answers."""
    connection = HTTPConnection(os.environ.get("BENCHFARM_METRICS", "127.0.0.1:9464"), timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    finally:
        connection.close()
    return None if status == 200 else f"it answers {status}"


def host(home: Path) -> str | None:
    """`benchfarm join` holds its lock."""
    with (home / "join.lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
    return "benchfarm join does not run"


def main() -> int:
    """Exit code 0: it works; 1: it does not, and a line says why."""
    checks = {"head": head, "farm": farm, "host": host}
    if len(sys.argv) != 2 or sys.argv[1] not in checks:
        print("usage: benchfarm-health head|farm|host", file=sys.stderr)
        return 2
    try:
        why = checks[sys.argv[1]](Path(os.environ.get("BENCHFARM_HOME", "/var/lib/benchfarm")))
    except (OSError, HTTPException, ValueError, KeyError) as error:
        why = str(error)
    if why is not None:
        print(why, file=sys.stderr)
    return int(why is not None)


if __name__ == "__main__":
    sys.exit(main())
