"""Memory of this process: what it holds, the most it ever held, and what is said of one that met its bound."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from workers.contract import ConvertTask, Limits


def status_bytes(field: str) -> int | None:
    """A memory field of this process (`VmRSS`, `VmHWM`), on Linux; None elsewhere.

    Not `ru_maxrss`: that would count the parent's memory before exec.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def own_peak_bytes() -> int | None:
    """The most memory that this process had resident."""
    if (peak := status_bytes("VmHWM")) is not None:
        return peak
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if sys.platform == "darwin" else None


def peak_bytes() -> int | None:
    """The most that this process had resident, or one that it started and that ended, where that had more."""
    own = own_peak_bytes()
    if own is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit)


def beyond_memory(task: ConvertTask, limits: Limits) -> str:
    """Why a conversion failed that its bound was too small for."""
    doing = f"making {task.format} {task.recipe}"
    if limits.resident_bytes is None:
        return (
            f"{doing} takes more than {limits.memory_bytes / 1e9:.3g} GB, 80 % of this host's memory: use another host"
        )
    bound = f"{limits.resident_bytes / 1e9:.3g} GB"
    return f"{doing} takes more than the {bound} that --max-memory allows: raise it, or leave it out"
