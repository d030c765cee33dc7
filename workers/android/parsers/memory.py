"""Memory: of the phone (`/proc/meminfo`), and of processes (`/proc/PID/status`), in bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from workers.android.parsers.files import entry
from workers.android.parsers.value import integer, plain_lines, shortened

_FIELD = re.compile(r"([A-Za-z]+):\s*([0-9]{1,20}) kB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """One look; None, or no entry, for what the text does not tell."""

    available_bytes: int | None
    #: Resident memory by process.
    resident_bytes: dict[int, int]
    unread: tuple[str, ...] = ()


def read_memory(text: str) -> Memory:
    """Read lines `Name: N kB`, with or without the name of the file before them."""
    unread: list[str] = []
    available: int | None = None
    resident: dict[int, int] = {}
    for line in plain_lines(text):
        read = entry(line)
        match = _FIELD.fullmatch((read.text if read is not None else line).strip())
        if match is None or (read is not None and read.refused):
            if line.strip() and ("meminfo" in line or "kB" in line):
                unread.append(line)
            continue
        size = int(match[2]) * 1024
        pid = integer(read.folder) if read is not None else None
        if pid is None and match[1] == "MemAvailable":
            available = size
        elif pid is not None and match[1] == "VmRSS":
            resident[pid] = size
    return Memory(
        available_bytes=available,
        resident_bytes=resident,
        unread=shortened(unread),
    )
