"""What an agent tells of an attempt: the runner's document, and what was seen of the device from outside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from workers.contract import SCHEMA_VERSION, Result, StoredFile

Verdict = Literal["interrupted", "contaminated", "throttled", "unusable", "not_converged", "valid"]
Quality = Literal["ok", "partial", "stale", "unsupported", "no_permission", "implausible"]

#: Clocks that differ by less are one.
_SAME_S = 0.001


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One value of one sensor, with its quality. A value is None unless the quality is ok or partial."""

    sensor: str
    domain: str
    quantity: str
    unit: str
    value: float | None
    quality: Quality
    #: Epoch seconds.
    at: float
    why: str | None = None


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Energy over the timed part, or why there is none."""

    quality: Quality
    source: str | None = None
    energy_mj: float | None = None
    window_s: float | None = None
    idle_power_mw: float | None = None
    energy_per_inference_mj: float | None = None
    why: str | None = None


@dataclass(frozen=True, kw_only=True)
class ForeignLoad:
    """CPU time of processes that are not ours, as a share of one core, over a window."""

    share_of_core: float | None
    window_s: float
    #: Who used most of it: "name (pid), share".
    culprits: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GateReading:
    """The state of the device before or after a run."""

    passed: bool
    #: Check to "ok", "unknown" or what is wrong.
    checks: dict[str, str]
    foreign_load: ForeignLoad
    waited_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The verdict on a measurement, with its reasons, and flags that do not change it."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """What an agent tells of one finished attempt: the runner's document and what was seen from outside."""

    attempt_id: int
    token: str
    result: Result
    judgement: Judgement | None = None
    gate_before: GateReading | None = None
    gate_after: GateReading | None = None
    energy: Energy | None = None
    #: Thinned to one value per second and channel.
    telemetry: tuple[Reading, ...] = ()
    #: The same at its full rate, in the artifact store (`workers.telemetry_block`).
    telemetry_block: StoredFile | None = None
    #: The artifact that was measured or converted.
    artifact_sha256: str | None = None
    #: sha256 of the log in the artifact store.
    log_sha256: str | None = None
    #: Environment of host, device and runtime: what the epoch is made of.
    environment: dict[str, str] = field(default_factory=dict)
    #: Seconds from start to report, and the part that was the child's own.
    wall_s: float | None = None
    child_s: float | None = None
    schema_version: int = SCHEMA_VERSION


def as_sent(report: Mapping[str, Any]) -> dict[str, str | None]:
    """What an event carries of a report that is plain data: its JSON text, and apart from it that of its telemetry.

    The text is stored as it is; telemetry, None where there is none, has rows of its own.
    """
    from workers.readings import pack  # which is made of what is above

    document = {name: value for name, value in report.items() if name != "telemetry"}
    telemetry = pack(report["telemetry"]) if report["telemetry"] else None
    return {"report": json.dumps(document), "telemetry": telemetry}


def moved(report: Report, by_s: float) -> Report:
    """A report whose times are told by another clock.

    Args:
        report: its times are those of the agent's steady clock.
        by_s: how far the other clock was ahead of that when the attempt began.
    """
    if abs(by_s) < _SAME_S:
        return report
    result = report.result
    seen = result.measurement
    if seen is not None:
        seen = replace(seen, timed_from=seen.timed_from + by_s, timed_to=seen.timed_to + by_s)
    started_at, finished_at = result.started_at + by_s, result.finished_at + by_s
    result = replace(result, measurement=seen, started_at=started_at, finished_at=finished_at)
    told = tuple(replace(reading, at=reading.at + by_s) for reading in report.telemetry)
    return replace(report, result=result, telemetry=told)
