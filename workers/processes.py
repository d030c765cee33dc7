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
#: Parents of the kernel's own threads, which have neither a command line nor an environment.
_KERNEL = frozenset((0, 2))
#: Nor has a process that is just becoming another program: it is looked at again.
_LOOKS, _BETWEEN_LOOKS_S, _SEEN = 50, 0.002, 4


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
    if sys.platform != "linux":
        return _with_environment_by_psutil(name, value)
    found = []
    #: With how often they were seen to have a command line, and still no environment: those are really without one.
    unsure: dict[Process, int] = {}
    marked = f"{name}={value}".encode()
    for process in snapshot().values():
        variables = _strings(process.pid, "environ")
        if marked in variables:
            found.append(process)
        elif variables == [b""] and process.parent not in _KERNEL:
            unsure[process] = 0
    for _ in range(_LOOKS):
        if not unsure:
            break
        time.sleep(_BETWEEN_LOOKS_S)
        looked, unsure = unsure, {}
        for process, seen in looked.items():
            seen_now = seen + (_strings(process.pid, "cmdline") != [b""])
            variables = _strings(process.pid, "environ")
            if marked in variables:
                found.append(process)
            elif variables == [b""] and seen_now < _SEEN:
                unsure[process] = seen_now
    return found


def _strings(pid: int, name: str) -> list[bytes]:
    """What /proc holds of a process, each ended by a zero; one empty string where it holds nothing."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().split(b"\0")
    except OSError:
        return []


def _with_environment_by_psutil(name: str, value: str) -> list[Process]:
    found = []
    for pid, process in snapshot().items():
        with suppress(OSError, psutil.Error):
            if psutil.Process(pid).environ().get(name) == value:
                found.append(process)
    return found


def resident_bytes(pid: int) -> int:
    """What a process and all it started have resident now; what they share counts for each."""
    total = 0
    with suppress(psutil.Error):  # it ended meanwhile
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):  # only this one: the others hold what they hold
                total += one.memory_info().rss
    return total
