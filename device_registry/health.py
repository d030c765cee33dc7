"""Health: when a device rests, when it is put aside, when it is probed and when it comes back. Pure rules, no rows.

Three failures in a row for its own sake put a device aside. Then a canary, a job of known outcome, probes it with
back-off until one passes; each one that fails climbs a rung of the recovery ladder. What a person put aside stays there
until a person brings it back.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from device_registry.errors import UsageError
from device_registry.rests import LONGEST_PROBE_S, LONGEST_REST_S

Admin = Literal["enabled", "draining", "maintenance", "quarantined"]

#: Who put a device aside, where it was not a person.
FARM = "farm"
#: Failures in a row for its own sake that put a device aside.
MOST_FAILURES = 3
#: A canary within this share of the device's normal time passes.
TOLERANCE = 0.25
#: The normal time is the median of so many canaries, the first that passed.
NORMAL_OF = 5
#: Until the first canary; doubled with each, up to the longest.
FIRST_PROBE_S = 60.0
#: How long a device rests after its first failure; doubled with each in a row, up to the longest. After what passes,
#: as long.
FIRST_REST_S = 10.0
#: The device was not as the gate wants it, grew too hot or had no room: a rest may help, and it is not sick.
PASSING = frozenset({"gate_timeout", "too_hot", "phone_full"})
#: Failures of the infrastructure whose code begins so are the device's: it vanished, its transport broke.
_DEVICE_CODE = "device_"

#: What people may change. All but `enabled` take no new work; what runs there ends as it would.
ADMIN_CHANGES: dict[str, tuple[Admin, ...]] = {
    "enabled": ("draining", "maintenance", "quarantined"),
    "draining": ("enabled", "maintenance", "quarantined"),
    "maintenance": ("enabled", "draining", "quarantined"),
    "quarantined": ("enabled", "maintenance"),
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one attempt tells of the device it was at."""

    device_id: int
    #: None: it succeeded.
    failure_cause: str | None = None
    failure_code: str | None = None
    failure_message: str | None = None
    #: Whether the job was a canary.
    canary: bool = False
    #: How long the attempt had the device.
    used_s: float = 0.0
    p50_ms: float | None = None
    verdict: str | None = None


@dataclass(frozen=True, kw_only=True)
class Health:
    """What a device's row says of its health."""

    admin: str = "enabled"
    admin_by: str | None = None
    admin_why: str | None = None
    #: Failures for its own sake.
    failures_in_row: int = 0
    #: Canaries and steps of recovery since it was put aside.
    probes: int = 0
    #: When the next canary is due. None: a step of recovery is (where it was probed), or it is left to a person.
    probe_at: datetime | None = None
    #: Rests until then.
    not_before: datetime | None = None

    @property
    def probed(self) -> bool:
        """Whether canaries may bring it back."""
        return self.admin == "quarantined" and self.admin_by == FARM


def after(health: Health, outcome: Outcome, *, normal_ms: float | None, now: datetime) -> tuple[Health, str | None]:
    """Health after an attempt, and what to note where it changed what the device may do or a canary failed.

    Args:
        health: before.
        outcome: of the attempt.
        normal_ms: the device's normal time on the canary; None while it is not known.
        now: the time.
    """
    if outcome.canary:
        return _after_canary(health, outcome, normal_ms) if health.probed else (health, None)
    if outcome.failure_cause is None:
        return replace(health, failures_in_row=0), None
    if outcome.failure_cause == "device" and outcome.failure_code in PASSING:
        return replace(health, not_before=now + timedelta(seconds=FIRST_REST_S)), None
    if not for_its_own_sake(outcome):
        return health, None
    failures = health.failures_in_row + 1
    rest_s = min(FIRST_REST_S * 2.0 ** min(failures - 1, 30), LONGEST_REST_S)
    hurt = replace(health, failures_in_row=failures, not_before=now + timedelta(seconds=rest_s))
    if failures < MOST_FAILURES or health.admin != "enabled":
        return hurt, None
    why = f"failed {failures} times in a row, last: {_said(outcome)}"
    probe_at = now + timedelta(seconds=probe_pause_s(0))
    return replace(hurt, admin="quarantined", admin_by=FARM, admin_why=why, probes=0, probe_at=probe_at), why


def for_its_own_sake(outcome: Outcome) -> bool:
    """Whether an attempt failed for the device's sake."""
    if outcome.failure_cause == "device":
        return outcome.failure_code not in PASSING
    return outcome.failure_cause == "infrastructure" and (outcome.failure_code or "").startswith(_DEVICE_CODE)


def probe_pause_s(probes: int) -> float:
    """Seconds until the next canary, after so many."""
    return min(FIRST_PROBE_S * 2.0 ** min(probes, 30), LONGEST_PROBE_S)


def normal_ms(passed_ms: Sequence[float]) -> float | None:
    """The normal time from the first canaries that passed, the oldest first; None while they are too few."""
    return statistics.median(passed_ms[:NORMAL_OF]) if len(passed_ms) >= NORMAL_OF else None


def administered(health: Health, admin: Admin, *, who: str, why: str | None) -> Health:
    """Health after a person said what the device may do.

    Raises:
        UsageError: it is so already, or must be brought back first.
    """
    # A person of this name is not the farm: what people put aside stays there.
    by = who if who != FARM else f"{who} (a person)"
    taken_over = health.probed and admin == "quarantined"
    if admin not in ADMIN_CHANGES[health.admin] and not taken_over:
        if admin == health.admin:
            raise UsageError(f"it is {admin} already" + (f", by {health.admin_by}" if health.admin_by else ""))
        raise UsageError(f"it is {health.admin}: release it first")
    if admin == "enabled":
        return Health()
    return replace(health, admin=admin, admin_by=by, admin_why=why, probes=0, probe_at=None)


def _after_canary(health: Health, outcome: Outcome, normal: float | None) -> tuple[Health, str | None]:
    """A canary that passes brings the device back; one lost on the way there says nothing of it."""
    if outcome.failure_cause == "infrastructure" and not for_its_own_sake(outcome):
        return health, None
    if outcome.failure_cause is not None:
        said = _said(outcome)
    elif normal is not None and outcome.p50_ms is not None and abs(outcome.p50_ms - normal) > TOLERANCE * normal:
        said = f"took {outcome.p50_ms:.3g} ms, normal are {normal:.3g} ms"
    else:
        return Health(), "its canary passed"
    return replace(health, probe_at=None), f"its canary failed: {said}"


def _said(outcome: Outcome) -> str:
    return outcome.failure_message or outcome.failure_code or str(outcome.failure_cause)
