"""Whether a phone is fit to be measured now: what its battery, its temperatures and its other processes say."""

from __future__ import annotations

from dataclasses import dataclass

from workers.android.power import chargers, feed_of
from workers.android.snapshot import Snapshot
from workers.judge import FOREIGN_LOAD_LIMIT
from workers.report import ForeignLoad

#: Every fifth look is full, once a second; what is older may be of another hour, for a phone can be away.
_FULL_AGE_S = 12.0


@dataclass(frozen=True, kw_only=True)
class GateLimits:
    """What a phone must keep to at the start of a run. An operator sets them in the table `[gate]`."""

    #: Runs start in a fixed band of levels: a low battery lowers clocks on many phones, a full one cannot discharge.
    battery_min_percent: float = 30.0
    battery_max_percent: float = 100.0
    #: Phones slow themselves down from a skin of about 38 to 43 C; a run needs room below that.
    skin_limit_c: float = 37.0
    #: 0 none, 1 light, 2 moderate, 3 severe, 4 critical, 5 emergency, 6 shutdown.
    thermal_status_max: int = 0


def gate_checks(snapshot: Snapshot | None, foreign_load: ForeignLoad, limits: GateLimits) -> dict[str, str]:
    """Check a phone's newest full snapshot (`PhoneHistory.latest(full=True)`).

    Args:
        snapshot: None where none has been taken yet.
        foreign_load: over the window before.
        limits: what to keep to.

    Returns:
        Check to "ok", "unknown" (an absent sensor) or what is wrong.
    """
    return {
        "battery_reports": _battery_reports(snapshot),
        "battery_level": _battery_level(snapshot, limits),
        "thermal_status": _thermal_status(snapshot, limits),
        "skin_temperature": _skin_temperature(snapshot, limits),
        "foreign_load": _foreign_load(foreign_load),
    }


def freshness(full: Snapshot | None, newest: Snapshot | None, until: float) -> str:
    """Whether what the checks go by is of now.

    Args:
        full: the newest full snapshot.
        newest: the newest of all.
        until: epoch seconds of the gate.

    Returns:
        "ok" or what is wrong.
    """
    if full is None:
        return "the phone has not told yet how it is"
    if newest is not None and newest.boot_id != full.boot_id:
        return "the phone has not told how it is since it was restarted"
    if (age_s := until - full.at) > _FULL_AGE_S:
        return f"the phone has not told how it is for {age_s:.0f} s"
    return "ok"


def _battery_reports(snapshot: Snapshot | None) -> str:
    if snapshot is None or snapshot.battery is None or not snapshot.battery.seen:
        return "unknown"
    if snapshot.battery.updates_stopped:
        return "somebody set the battery's values by hand (UPDATES STOPPED); `dumpsys battery reset` ends that"
    return "ok"


def _battery_level(snapshot: Snapshot | None, limits: GateLimits) -> str:
    battery = snapshot.battery if snapshot is not None else None
    if battery is None or battery.present is False or battery.level_percent.value is None:
        return "unknown"
    level, low, high = battery.level_percent.value, limits.battery_min_percent, limits.battery_max_percent
    return "ok" if low <= level <= high else f"battery at {level:.0f} %, to start from {low:g} to {high:g} %"


def _thermal_status(snapshot: Snapshot | None, limits: GateLimits) -> str:
    thermal = snapshot.thermal if snapshot is not None else None
    if thermal is None:
        return "unknown"
    if thermal.overridden:
        return "somebody set the thermal status by hand; `cmd thermalservice reset` ends that"
    if thermal.status is None:
        return "unknown"
    if thermal.status > limits.thermal_status_max:
        now = f"{thermal.status} ({thermal.status_name})"
        return f"thermal status {now}, to start at {limits.thermal_status_max} at most"
    return "ok"


def _skin_temperature(snapshot: Snapshot | None, limits: GateLimits) -> str:
    hottest_c = snapshot.skin_c if snapshot is not None else None
    if hottest_c is None:
        return "unknown"
    limit_c = limits.skin_limit_c
    return "ok" if hottest_c <= limit_c else f"skin at {hottest_c:.1f} C, to start at {limit_c:g} C at most"


def _foreign_load(load: ForeignLoad) -> str:
    if load.share_of_core is None:
        return "unknown"
    if load.share_of_core <= FOREIGN_LOAD_LIMIT:
        return "ok"
    culprits = ", ".join(load.culprits) or "processes that are not of the run"
    return f"{load.share_of_core:.0%} of a core goes to {culprits}"


def power_facts(snapshot: Snapshot | None) -> dict[str, str]:
    """What a run's environment has to say about power: noted, never refused.

    Args:
        snapshot: the newest full one; None where there is none yet.

    Returns:
        Fact to words: what feeds the phone, screen, battery saver.
    """
    if snapshot is None or snapshot.battery is None:
        return {}
    feed = feed_of(snapshot)
    facts = {"power": chargers(snapshot) if feed == "charger" else feed}
    if snapshot.screen is not None and snapshot.screen.on is not None:
        facts["screen"] = "on" if snapshot.screen.on else "off"
    if snapshot.screen is not None and snapshot.screen.battery_saver is not None:
        facts["battery_saver"] = "on" if snapshot.screen.battery_saver else "off"
    return facts
