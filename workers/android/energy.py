"""Energy of a run on a phone: from power rails, or from the battery with the charger proven off, or why there is none.

On USB the charger feeds the phone past the battery, and `dumpsys battery unplug` only hides that: nothing taken from a
battery while anything else may feed the phone is an energy of the phone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from workers.android.power import chargers, currents_ma, feed_of, voltages_mv
from workers.android.snapshot import Snapshot
from workers.report import Energy, Quality

#: A battery's current is a slow average of its driver's: shorter windows and fewer different values say nothing.
_BATTERY_WINDOW_S = 30.0
_BATTERY_VALUES = 5
#: Whoever says that nothing feeds the phone must say so at least this often, and until this long around the window.
_PROOF_GAP_S = 15.0
#: Counters of rails move by themselves; two seconds of them are enough, as for a host's.
_RAILS_WINDOW_S = 2.0
#: A rail that counts in 32 bits and has wrapped around has used no more than this since.
_MOST_WATTS_PER_RAIL = 30.0


@dataclass(frozen=True, slots=True)
class _Spent:
    energy_mj: float
    window_s: float
    source: str
    quality: Quality

    @property
    def power_mw(self) -> float:
        return self.energy_mj / self.window_s


@dataclass(frozen=True, slots=True)
class _None:
    quality: Quality
    why: str


def energy(
    snapshots: Sequence[Snapshot],
    timed_from: float,
    timed_to: float,
    idle_since: float,
    idle_until: float,
    inferences: int,
    *,
    model: str = "",
) -> Energy:
    """Energy over the timed part, and per inference: with all that the phone did there, loads and warm-ups too.

    Args:
        snapshots: of one phone, in order, from before `idle_since` to after `timed_to`.
        timed_from: epoch seconds; all inferences lie between this and `timed_to`.
        timed_to: see `timed_from`.
        idle_since: epoch seconds; the phone was idle between this and `idle_until`.
        idle_until: see `idle_since`.
        inferences: how many ran in the timed part.
        model: the phone's model, for the habits of its battery driver.
    """
    timed = _between(snapshots, timed_from, timed_to)
    idle = _between(snapshots, idle_since, idle_until)
    spent, idle_spent = _of_rails(timed), _of_rails(idle)
    if isinstance(spent, _None) and spent.quality in ("unsupported", "no_permission"):
        of_rails = spent
        spent = _of_battery(snapshots, timed_from, timed_to, model)
        if isinstance(spent, _None) and spent.quality == "unsupported":
            spent = replace(spent, why=f"{spent.why}; {of_rails.why}")
        idle_spent = _of_current(idle, "android-battery", model)
    if isinstance(spent, _None):
        return Energy(quality=spent.quality, why=spent.why)
    per_inference = spent.power_mw * (timed_to - timed_from) / inferences if inferences > 0 else None
    return Energy(
        quality=spent.quality,
        source=spent.source,
        energy_mj=spent.energy_mj,
        window_s=spent.window_s,
        idle_power_mw=idle_spent.power_mw if isinstance(idle_spent, _Spent) else None,
        energy_per_inference_mj=per_inference,
    )


def charger_is_off(snapshots: Sequence[Snapshot], since: float, until: float) -> str | None:
    """Whether it is proven that the battery alone fed the phone over a window.

    Returns:
        None where it is; else why not, for people.
    """
    told = [
        (snapshot, feed)
        for snapshot in _between(snapshots, since - _PROOF_GAP_S, until + _PROOF_GAP_S)
        if (feed := feed_of(snapshot)) != "silent"
    ]
    for snapshot, feed in told:
        if feed == "faked":
            return "somebody set the battery's values by hand, so nothing shows what feeds the phone"
        if feed == "charger":
            return f"the phone draws power from {chargers(snapshot)}, so its battery does not show what it uses"
        if feed == "unclear":
            return "the battery is not said to discharge, so something else may feed the phone"
    moments = [since, *(snapshot.at for snapshot, _ in told if since < snapshot.at < until), until]
    apart = any(after - before > _PROOF_GAP_S for before, after in pairwise(moments))
    if not any(snapshot.full for snapshot, _ in told) or apart:
        return "nothing proves that no charger feeds the phone"
    return None


def discharge_percent_per_hour(snapshots: Sequence[Snapshot], since: float, until: float) -> float | None:
    """How fast the level falls: None on less than five minutes, or where a charger is not proven off."""
    levels = [
        (snapshot.at, snapshot.battery.level_percent.value)
        for snapshot in _between(snapshots, since, until)
        if snapshot.battery is not None and snapshot.battery.level_percent.value is not None
    ]
    if len(levels) < 2 or levels[-1][0] - levels[0][0] < 300 or charger_is_off(snapshots, since, until) is not None:
        return None
    (first_at, first), (last_at, last) = levels[0], levels[-1]
    return (first - last) * 3600 / (last_at - first_at) if first is not None and last is not None else None


def _between(snapshots: Sequence[Snapshot], since: float, until: float) -> list[Snapshot]:
    return [snapshot for snapshot in snapshots if since <= snapshot.at <= until]


def elapsed_s(before: Snapshot, after: Snapshot) -> float | None:
    """Seconds between two snapshots by the phone's own clock; None across a reboot."""
    if before.boot_id != after.boot_id:
        return None
    if before.uptime_s is None or after.uptime_s is None:
        return after.at - before.at
    return after.uptime_s - before.uptime_s


def _of_rails(snapshots: Sequence[Snapshot]) -> _Spent | _None:
    """Differences of the counters of rails that a model's work goes through, first snapshot to last."""
    with_rails = [snapshot for snapshot in snapshots if snapshot.rails.rails]
    if not with_rails:
        missing = snapshots[-1].rails.missing if snapshots else None
        quality: Quality = "no_permission" if missing and missing.quality == "no_permission" else "unsupported"
        return _None(quality, missing.why if missing and missing.why else "the phone told no power rails")
    names = [rail.name for rail in with_rails[0].rails.rails if rail.part is not None]
    if not names:
        there = ", ".join(rail.name for rail in with_rails[0].rails.rails)
        return _None("unsupported", f"none of the phone's rails is known to feed CPU, GPU, NPU or memory: {there}")
    total_uj = 0
    for before, after in pairwise(with_rails):
        window_s = elapsed_s(before, after)
        if window_s is None:
            return _None("implausible", "the phone started anew in the timed part, and its rails with it")
        earlier = {rail.name: rail.energy_uj for rail in before.rails.rails}
        later = {rail.name: rail.energy_uj for rail in after.rails.rails}
        for name in names:
            if name not in earlier or name not in later:
                return _None("stale", f"rail {name} was not told all the time")
            step_uj = later[name] - earlier[name]
            if step_uj < 0:
                step_uj += 1 << 32
                if earlier[name] >= 1 << 32 or step_uj > _MOST_WATTS_PER_RAIL * 1e6 * max(window_s, 0.0):
                    return _None("implausible", f"the counter of rail {name} went backwards")
            total_uj += step_uj
    window_s = elapsed_s(with_rails[0], with_rails[-1])
    if not window_s or window_s <= 0:
        return _None("partial", "the timed part is shorter than two looks at the rails")
    quality = "ok" if window_s >= _RAILS_WINDOW_S else "partial"
    return _Spent(total_uj / 1000, window_s, f"android-rails: {', '.join(names)}", quality)


def _of_battery(snapshots: Sequence[Snapshot], since: float, until: float, model: str) -> _Spent | _None:
    if (why := charger_is_off(snapshots, since, until)) is not None:
        return _None("unsupported", why)
    if until - since < _BATTERY_WINDOW_S:
        return _None(
            "unsupported", f"a battery's current needs {_BATTERY_WINDOW_S:.0f} s; there were {until - since:.0f} s"
        )
    return _of_current(_between(snapshots, since, until), "android-battery", model, values=_BATTERY_VALUES)


def _of_current(snapshots: Sequence[Snapshot], source: str, model: str, values: int = 1) -> _Spent | _None:
    """Current times voltage, by trapezoids between snapshots that tell both."""
    currents = currents_ma(snapshots, model)
    voltages = voltages_mv(snapshots)
    points = [
        (snapshot, -current.value * voltage.value / 1e6)
        for snapshot, current, voltage in zip(snapshots, currents, voltages, strict=True)
        if current.value is not None
        and current.quality == "ok"
        and voltage.value is not None
        and voltage.quality == "ok"
    ]
    if len(points) < 2:
        refusal = next((value for value in currents if value.quality != "ok"), None)
        why = refusal.why if refusal is not None and refusal.why else "the phone tells no current and voltage"
        quality: Quality = refusal.quality if refusal is not None else "unsupported"
        return _None("implausible" if quality == "partial" else quality, why)
    if len({current.value for current in currents}) < values:
        return _None("stale", f"the battery's current took fewer than {values} different values")
    energy_j, window_s = 0.0, 0.0
    for (before, watts_before), (after, watts_after) in pairwise(points):
        step_s = elapsed_s(before, after)
        if step_s is None or step_s > _PROOF_GAP_S:
            return _None("stale", "the battery's current was not told all the time")
        energy_j += (watts_before + watts_after) / 2 * step_s
        window_s += step_s
    if window_s <= 0:
        return _None("stale", "the battery's current was told at one moment only")
    return _Spent(energy_j * 1000, window_s, source, "ok")
