"""Real processes for tests, ended by their pid whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil

from workers.processes import is_alive, read_process


def wait_until(true: Callable[[], bool], *, what: str) -> None:
    """Wait for another process; far longer than it needs, so that only a hang fails."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.01)


@contextmanager
def child(*command: str, environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process in a group of its own, killed with its group at the end."""
    process = subprocess.Popen(
        command,
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@contextmanager
def sleeper(**environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process that does nothing."""
    with child("sleep", "300", environment=environment) as process:
        wait_until(lambda: _runs(process.pid, "sleep"), what="sleep to start")
        yield process


@contextmanager
def foreigner(code: str) -> Iterator[int]:
    """The pid of a Python process that descends from none of ours: its parent has ended."""
    started = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" >/dev/null 2>&1 & echo $!', sys.executable, code],
        check=True,
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    pid = int(started.stdout)
    process = read_process(pid)
    try:
        yield pid
    finally:
        if process is not None and is_alive(pid, process.started):
            os.kill(pid, signal.SIGKILL)


def command_of(pid: int) -> str | None:
    """The name of a live process."""
    process = read_process(pid)
    return process.name if process is not None else None


def _runs(pid: int, command: str) -> bool:
    """Whether a process has become that program; its environment is what the kernel sets last."""
    return command_of(pid) == command and bool(psutil.Process(pid).environ())


def started_of(pid: int) -> float:
    """When a live process was started, as `workers.processes` counts."""
    process = read_process(pid)
    assert process is not None
    return process.started
