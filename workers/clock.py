"""Epoch seconds that never jump: anchored to the wall clock once, then counted by the clock since boot.

A wall clock that is set while something runs would bend every series of readings and empty every window that is cut
out of one. So all times inside an agent, and of the children that it hands its anchor, are `steady`; an attempt's are
told by the wall clock as it was when the attempt began (`lead_s` then, `workers.report.moved`).
"""

from __future__ import annotations

import os
import time
from typing import Final

#: What an agent tells its children: the epoch second in which its steady clock has the machine boot.
CLOCK_VARIABLE: Final = "BENCHFARM_EPOCH_AT_BOOT"


def boot_clock() -> float:
    """Seconds since boot, suspended time included where the system counts it: a lease runs on while a laptop sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.monotonic()


def _anchored() -> float:
    try:
        return float(os.environ[CLOCK_VARIABLE])
    except (KeyError, ValueError):
        return time.time() - boot_clock()


_EPOCH_AT_BOOT: Final = _anchored()


def steady() -> float:
    """Epoch seconds now, as if nobody had set the wall clock since this process (or its agent) began."""
    return _EPOCH_AT_BOOT + boot_clock()


def lead_s() -> float:
    """How far the wall clock was set ahead since then."""
    return time.time() - steady()


def handed_on() -> dict[str, str]:
    """The environment in which a child's clock is this process's."""
    return {CLOCK_VARIABLE: repr(_EPOCH_AT_BOOT)}
