"""Processes of this host: who uses the CPU, who belongs to whom, and how to end a group for certain."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one moment."""

    pid: int
    parent: int
    name: str
    #: Clock ticks since boot (Linux) or epoch seconds: with the pid, an identity that is never used twice.
    started: float
    cpu_s: float


def snapshot() -> dict[int, Process]:
    """Every process by pid.

    On Linux straight from /proc: psutil takes four times as long (measured), every second, beside a measurement.
    """
    if sys.platform != "linux":
        return _snapshot_by_psutil()
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (process := read_process(int(entry.name))) is not None:
            found[process.pid] = process
    return found


def read_process(pid: int) -> Process | None:
    """One process, or None when it is gone (or a zombie)."""
    if sys.platform != "linux":
        return _snapshot_by_psutil([pid]).get(pid)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123  # a Path object costs more than the read
            head, _, tail = file.read().rpartition(b")")
    except OSError:
        return None
    fields = tail.split()
    if fields[0] in (b"Z", b"X"):
        return None
    name = head.partition(b"(")[2].decode(errors="replace")
    return Process(pid, int(fields[1]), name, float(fields[19]), (int(fields[11]) + int(fields[12])) * _TICK_S)


def this_process() -> Process:
    """The calling process."""
    me = read_process(os.getpid())
    assert me is not None  # whoever asks is alive
    return me


def _snapshot_by_psutil(pids: Iterable[int] | None = None) -> dict[int, Process]:
    found = {}
    for pid in psutil.pids() if pids is None else pids:
        with suppress(psutil.Error), (process := psutil.Process(pid)).oneshot():
            times = process.cpu_times()
            if process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = Process(
                    process.pid, process.ppid(), process.name(), process.create_time(), times.user + times.system
                )
    return found


def descendants(processes: dict[int, Process], roots: Iterable[int]) -> set[int]:
    """The roots and all that descends from them."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    queue = list(roots)
    while queue:
        pid = queue.pop()
        if pid not in found:
            found.add(pid)
            queue.extend(children.get(pid, ()))
    return found


def is_alive(pid: int, started: float) -> bool:
    """Whether the very process is alive, not a later one of the same pid."""
    process = read_process(pid)
    return process is not None and process.started == started


def end_group(leader: int, started: float, timeout_s: float = 5.0) -> bool:
    """Kill a process group whose leader is that very process, or whose members outlived it; wait until all are gone.

    Returns:
        Whether nothing of it is left.
    """
    leader_now = read_process(leader)
    if leader_now is not None and leader_now.started != started:
        return True  # the pid belongs to somebody else by now, so the group is gone
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            os.killpg(leader, signal.SIGKILL)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        with suppress(ChildProcessError):
            os.waitpid(leader, os.WNOHANG)
        if not _group_members(leader):
            return True
        time.sleep(0.02)
    return False


def _group_members(group: int) -> list[int]:
    members = []
    for pid in snapshot():
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) == group:
                members.append(pid)
    return members


def end_marked(name: str, value: str, timeout_s: float = 5.0) -> int:
    """Kill every process of ours that was started with an environment variable of that value, until none is left.

    Returns:
        How many were killed.
    """
    killed: set[tuple[int, float]] = set()
    deadline = time.monotonic() + timeout_s
    while marked := with_environment(name, value):
        for process in marked:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            killed.add((process.pid, process.started))
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return len(killed)


def with_environment(name: str, value: str) -> list[Process]:
    """Our user's processes that were started with an environment variable of that value."""
    found = []
    for pid, process in snapshot().items():
        with suppress(OSError, psutil.Error):
            if sys.platform == "linux":
                marked = f"{name}={value}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            else:
                marked = psutil.Process(pid).environ().get(name) == value
            if marked:
                found.append(process)
    return found
