"""The Ray head of a farm: brought up in the foreground, or for a service that needs one; found again by its record."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from device_registry.errors import BenchfarmError, UsageError
from workers.processes import is_alive, this_process
from workers.ray_environment import make_token, parse_address
from workers.ray_node import listens
from workers.ray_process import RayNode, RayNodeError
from workers.spool import sweep_ray_sessions

DEFAULT_ADDRESS = "127.0.0.1:6379"
_RECORD = "head.json"
_LOG = "head.log"
_START_S = 100.0
_END_S = 20.0


@dataclass(frozen=True)
class Head:
    """A head that runs on this machine."""

    address: str
    pid: int
    #: With the pid an identity.
    started: float


def running_head(home: Path) -> Head | None:
    """The head that was brought up from this data directory, if it still runs."""
    try:
        head = Head(**json.loads((home / _RECORD).read_text(encoding="ascii")))
    except (OSError, ValueError, TypeError):
        return None
    return head if is_alive(head.pid, head.started) else None


def run_head(home: Path, address: str, say: Callable[[str], None], stop: threading.Event) -> None:
    """Be the head until `stop` is set.

    Raises:
        UsageError: the address is none, is taken, or another head runs from this data directory.
        RayNodeError: Ray did not come up, or died.
    """
    host, port = parse_address(address)
    if (other := running_head(home)) is not None:
        raise UsageError(f"a head runs on this data directory already, at {other.address} (process {other.pid})")
    if listens(host, port, 2.0):
        raise UsageError(f"something listens at {host}:{port} already: give the head another --address")
    token = make_token(home)
    sweep_ray_sessions(home / "spool")
    node = RayNode(home, token, (host, port), head=True, log_name=_LOG)
    record = home / _RECORD
    try:
        node.wait_ready()
        me = this_process()
        partial = record.with_name(f"{_RECORD}.{me.pid}.part")
        partial.write_text(json.dumps({"address": f"{host}:{port}", "pid": me.pid, "started": me.started}))
        partial.replace(record)
        say(f"head of the farm at {host}:{port}")
        while not stop.is_set():
            if (why := node.why_ended(0.5)) is not None:
                raise RayNodeError(f"the head died: {why}")
    finally:
        node.end()
        record.unlink(missing_ok=True)


def start_head(home: Path, address: str) -> Head:
    """Bring up a head that outlives this process, in a session of its own.

    Raises:
        BenchfarmError: it did not come up; the reason is its last line.
    """
    with (home / _LOG).open("ab") as log:
        began = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "benchfarm", "head", "--address", address],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "BENCHFARM_HOME": str(home)},
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_S
    while (head := running_head(home)) is None or head.pid != process.pid:
        if process.poll() is not None or time.monotonic() > deadline:
            lines = (home / _LOG).read_bytes()[began:].decode(errors="replace").strip().splitlines()
            said = next(
                (line for line in reversed(lines) if line.startswith("benchfarm: ")), "benchfarm: no reason given"
            )
            raise BenchfarmError(f"the head did not come up: {said.removeprefix('benchfarm: ')}")
        time.sleep(0.1)
    return head


def end_head(home: Path) -> Head | None:
    """End the head that was brought up from this data directory; returns it, or None where there is none.

    Raises:
        BenchfarmError: it did not end.
    """
    head = running_head(home)
    if head is None:
        return None
    with suppress(ProcessLookupError):
        os.kill(head.pid, signal.SIGTERM)
    deadline = time.monotonic() + _END_S
    while is_alive(head.pid, head.started):
        if time.monotonic() > deadline:
            raise BenchfarmError(f"the head (process {head.pid}) does not end; its log is {home / _LOG}")
        time.sleep(0.1)
    return head
