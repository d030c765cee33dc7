"""CPU time of a phone that went neither to our job nor to looking at it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from workers.android.energy import elapsed_s
from workers.android.snapshot import Snapshot
from workers.judge import FOREIGN_LOAD_LIMIT
from workers.report import ForeignLoad


def foreign_load(snapshots: Sequence[Snapshot], since: float, until: float) -> ForeignLoad:
    """Busy time of the phone less that of our job's processes, of the snapshots' own shells and of adb's daemon.

    What our job used last, when it ended, is in the total and in no process. Such a step counts as if all of it were
    foreign where that is little, and not at all where it is not.

    Returns:
        The share of one core; None where the phone hides its CPU times, or the window has no two snapshots.
    """
    foreign_s, window_s = 0.0, 0.0
    inside = [snapshot for snapshot in snapshots if since - 0.001 <= snapshot.at <= until + 0.001]
    for before, after in pairwise(inside):
        step_s = elapsed_s(before, after)
        if step_s is None or step_s <= 0 or before.cpu.busy_s is None or after.cpu.busy_s is None:
            continue
        ours_s = _of_job(before, after) + _of_watchers(before, after)
        others_s = after.cpu.busy_s - before.cpu.busy_s - ours_s
        ended = _leader(before) is not None and _leader(before) != _leader(after)
        if ended and others_s > FOREIGN_LOAD_LIMIT * step_s:
            continue
        foreign_s += others_s
        window_s += step_s
    if window_s <= 0:
        return ForeignLoad(share_of_core=None, window_s=0.0)
    return ForeignLoad(share_of_core=max(0.0, foreign_s / window_s), window_s=window_s)


def _leader(snapshot: Snapshot) -> tuple[int, int] | None:
    return (snapshot.job[0].pid, snapshot.job[0].started_ticks) if snapshot.job else None


def _of_job(before: Snapshot, after: Snapshot) -> float:
    """CPU seconds of our job: the time of its processes that ended has gone to those that waited for them."""
    used_s = [sum(process.own_s + process.children_s for process in snapshot.job) for snapshot in (before, after)]
    return max(0.0, used_s[1] - used_s[0])


def _of_watchers(before: Snapshot, after: Snapshot) -> float:
    """CPU seconds of the later snapshot's own shell, and of adb's daemon without the shells of others."""
    shell_s = sum(process.own_s + process.children_s for process in after.watchers[:1])
    daemons = {(process.pid, process.started_ticks): process.own_s for process in before.watchers[1:]}
    grown_s = [
        process.own_s - daemons[key]
        for process in after.watchers[1:]
        if (key := (process.pid, process.started_ticks)) in daemons
    ]
    return shell_s + max(0.0, sum(grown_s))
