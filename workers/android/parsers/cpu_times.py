"""CPU time: of the whole phone (`/proc/stat`), and of single processes (`/proc/PID/stat`)."""

from __future__ import annotations

from dataclasses import dataclass

from workers.android.parsers.files import entry
from workers.android.parsers.value import integer, plain_lines, shortened

#: USER_HZ, which is 100 on every architecture that Android runs on.
TICKS_PER_S = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTimes:
    """Since boot."""

    #: All that is neither idle nor waiting for storage nor given to other machines; None where /proc/stat is hidden.
    busy_s: float | None
    #: Cores that are online.
    cores: int
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProcessTimes:
    """One process."""

    pid: int
    name: str
    parent: int
    group: int
    started_ticks: int
    #: CPU time since it began: its own, and that of children that have ended and were waited for.
    own_s: float
    children_s: float


def read_cpu_times(text: str) -> CpuTimes:
    """Read `cpu` lines, with or without the name of the file before them."""
    unread: list[str] = []
    busy_s: float | None = None
    cores = 0
    for line in plain_lines(text):
        read = entry(line)
        if read is not None and (read.refused or read.leaf != "stat"):
            if read.leaf == "stat":
                unread.append(line)
            continue
        words = (read.text if read is not None else line).split()
        if not words or not words[0].startswith("cpu"):
            continue
        if words[0] != "cpu":
            cores += 1
            continue
        ticks = [integer(word) for word in words[1:8]]
        if len(ticks) < 4 or None in ticks:
            unread.append(line)
            continue
        # user nice system idle iowait irq softirq
        busy = sum(value for at, value in enumerate(ticks) if at not in (3, 4) and value is not None)
        busy_s = busy / TICKS_PER_S
    return CpuTimes(busy_s=busy_s, cores=cores, unread=shortened(unread))


def read_processes(text: str) -> tuple[tuple[ProcessTimes, ...], tuple[str, ...]]:
    """Read lines of `/proc/PID/stat`; the second part is what could not be read."""
    unread: list[str] = []
    processes = []
    for line in plain_lines(text):
        # A name may hold blanks and brackets: it ends at the last bracket.
        head, _, tail = line.rpartition(")")
        pid_text, _, name = head.partition("(")
        words = tail.split()
        numbers = [integer(words[at]) if at < len(words) else None for at in (1, 2, 11, 12, 13, 14, 19)]
        known = [value for value in (integer(pid_text), *numbers) if value is not None]
        if len(known) == 8:
            pid, parent, group, user, system, of_children, in_system, started = known
            own_s, children_s = (user + system) / TICKS_PER_S, (of_children + in_system) / TICKS_PER_S
            processes.append(ProcessTimes(pid, name, parent, group, started, own_s, children_s))
        elif line.strip():
            unread.append(line)
    return tuple(processes), shortened(unread)
