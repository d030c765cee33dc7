"""Orders for an agent that is a plain object, and what becomes of them.

An order's entry may name anything that can be imported and called: `signal:pause` hangs, `os:abort` crashes.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workers.agent import HostAgent
from workers.codec import from_dict, to_dict
from workers.contract import ConvertTask, Limits, Order
from workers.readings import QUALITIES
from workers.report import Report

HANGS = "signal:pause"
UNKNOWN = "workers.models.nothing:Nothing"
#: For what takes as long as a process takes to start; nothing is asserted about it.
_PATIENCE_S = 60.0


def token_of(attempt_id: int) -> str:
    """Of this process alone: an agent ends what carries its attempt's mark, whichever test's it is."""
    return f"{os.getpid():08x}{attempt_id:024d}"


def order(entry: str, *, attempt_id: int = 1, deadline_s: float = 120.0, **changes: Any) -> dict[str, Any]:
    """An attempt of a conversion, as plain data."""
    fields: dict[str, Any] = {
        "attempt_id": attempt_id,
        "token": token_of(attempt_id),
        "place": f"slot:1:{attempt_id}",
        "limits": Limits(deadline_s=deadline_s, memory_bytes=8 * 2**30),
        "convert": ConvertTask(entry=entry, format="pt2", recipe="fp32"),
    }
    return to_dict(Order(**fields | changes))


def until(look: Callable[[], Any], what: str) -> Any:
    """Wait until something is seen; returns it."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if seen := look():
            return seen
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for {what}")


def event_of(agent: HostAgent, kind: str, attempt_id: int = 1) -> dict[str, Any]:
    """The event of an attempt; nothing counts as taken, so it can be asked for again."""

    def look() -> dict[str, Any] | None:
        events = agent.poll(0, 0.2)["events"]
        return next((e for e in events if e["kind"] == kind and e.get("attempt_id") == attempt_id), None)

    return dict(until(look, f"{kind} of attempt {attempt_id}"))


def report_of(agent: HostAgent, attempt_id: int = 1) -> Report:
    """The report of an attempt that is over."""
    event = event_of(agent, "finished", attempt_id)
    return from_dict(Report, {**json.loads(event["report"]), "telemetry": readings_in(event["telemetry"])})


def readings_in(text: str | None) -> list[dict[str, Any]]:
    """Readings as they were before they became columns."""
    if text is None:
        return []
    told = json.loads(text)
    names = ("sensor", "domain", "quantity", "unit")
    channels = [dict(zip(names, meaning, strict=True)) for meaning in told["channels"]]
    return [
        {
            **channels[told["channel"][position]],
            "value": told["value"][position],
            "quality": QUALITIES[told["quality"][position]],
            "at": told["anchor"] + offset_s,
            "why": told["why"].get(str(position)),
        }
        for position, offset_s in enumerate(told["offset_s"])
    ]


def failure_of(agent: HostAgent, attempt_id: int = 1) -> tuple[str, str]:
    """Cause and code of an attempt's failure."""
    failure = report_of(agent, attempt_id).result.failure
    assert failure is not None
    assert failure.message
    return str(failure.cause), failure.code


def runner_of(home: Path, attempt_id: int = 1) -> int:
    """The process that runs an attempt."""
    pattern = f"attempts/{attempt_id}-*/process.json"
    [path] = until(lambda: list((home / "spool").glob(pattern)), "the runner to be written down")
    return int(path.read_text().partition('"pid": ')[2].partition(",")[0])
