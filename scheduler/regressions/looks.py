"""The first look at a new point, and the look at the whole history: is a step suspected, and since when. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from scheduler.regressions.levels import Borders, HistoryPoint, Level, began_at, level_of
from scheduler.regressions.screen import LEAST_CHANGE, LEAST_POINTS, Screened, screen
from scheduler.verdicts import ROUNDS

Outcome = Literal["steady", "slower", "faster", "new_epoch", "few", "invalid"]

#: An artifact that is so many points old may still have brought the step: it was not suspicious enough by itself.
_RECENT = 8
#: Nights before the one on which a step seems to have begun that are surely at the old level.
_MARGIN = 3
#: A step that the history shows may lie so many points beside where it seems to.
NEAR = 4
_NOTHING = Screened("few", None, None, None)


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """A step that a trial should decide on."""

    #: A point at the old level, whose artifact is measured against that of the newest point.
    baseline: HistoryPoint
    #: First point of the new level.
    step: HistoryPoint
    #: By what it seems to have changed; None: nothing is suspicious, a bridge is measured all the same.
    change: float | None = None
    #: The artifact never changed: nothing is compared, its unit is measured.
    alike: bool = False
    #: Processes on each side that it is worth.
    most: int = ROUNDS[-1]


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the first look shows."""

    outcome: Outcome
    screened: Screened = _NOTHING
    #: First point of the segment that it was compared with.
    segment: HistoryPoint | None = None
    suspicion: Suspicion | None = None


def first_look(
    history: Sequence[HistoryPoint], borders: Borders, noise_floor: float | None, settled: Collection[int] = ()
) -> Look:
    """Look at the last point of a history.

    In a new environment the point itself is the bridge where its artifact is that of the level; another artifact is
    always measured beside it.

    Args:
        history: in order of time; its last point is the new one.
        borders: explained steps (`levels.level_of`).
        noise_floor: relative noise that A/A runs taught; None where it is not known.
        settled: points that a trial confirmed to be at a new level: what came before them may not be.
    """
    point = history[-1]
    if not point.valid:
        return Look(outcome="invalid")
    level = level_of(history[:-1], borders)
    screened = screen(level.values, point.value, noise_floor=noise_floor)
    if screened.outcome == "few":
        return Look(outcome="few")
    last = level.points[-1]
    suspicious = screened.outcome != "steady"
    if last.environment != point.environment:
        bridge = suspicious or not same_artifact(last, point)
        return Look(
            outcome="new_epoch",
            screened=screened,
            segment=level.points[0],
            suspicion=_suspicion(last, point, point, screened.change if suspicious else None) if bridge else None,
        )
    return Look(
        outcome=screened.outcome,
        screened=screened,
        segment=level.points[0],
        suspicion=_since_when(level, point, {*borders, *settled}, screened.change) if suspicious else None,
    )


def _since_when(level: Level, point: HistoryPoint, settled: Collection[int], change: float | None) -> Suspicion:
    """Where the step that a point shows began, and the last artifact before it that is another one.

    Never before a step that is explained: it would be told again.
    """
    explained = _last_of(level.points, settled)
    last = max(len(level.points) - 1 - began_at(level, point.value), explained)
    step = (*level.points, point)[last + 1]
    safe = level.points[explained : max(last - _MARGIN, explained) + 1]
    baseline = _another(safe, level.points[explained : last + 1], point, _RECENT)
    return _suspicion(baseline, step, point, change)


def history_look(
    history: Sequence[HistoryPoint], borders: Borders, known: Collection[int], settled: Collection[int] = ()
) -> Suspicion | None:
    """Look at a whole history: a step to a slower level that nothing explains, and that was not looked into yet.

    Args:
        history: in order of time; nothing is suspected unless its last point is valid.
        borders: explained steps.
        known: first points of steps that were looked into.
        settled: as `first_look` has them.
    """
    if not history or not history[-1].valid:
        return None
    level = level_of(history, borders)
    if level.before is None or len(level.points) < LEAST_POINTS or step_of(level) < LEAST_CHANGE:
        return None
    if any(borders.get(one.id, 1.0) != 1.0 or one.id in settled for one in level.points[1:]):
        return None  # the newest artifact has that step, too: a trial of it would not tell of this one
    numbers = {point.id: number for number, point in enumerate(history)}
    at = numbers[level.points[0].id]
    if any(abs(numbers[one] - at) <= NEAR for one in known if one in numbers):
        return None
    before = level.before.points[_last_of(level.before.points, {*borders, *settled}) :]
    baseline = _another(before[: max(len(before) - _MARGIN, 1)], before, history[-1], NEAR)
    return _suspicion(baseline, level.points[0], history[-1], step_of(level))


def step_of(level: Level) -> float:
    """By what a level differs from the one before: 0.05 is 5 % slower; 0 where there is none before."""
    if level.before is None:
        return 0.0
    return statistics.median(level.values) / statistics.median(level.before.values) - 1


def same_artifact(one: HistoryPoint, other: HistoryPoint) -> bool:
    """Whether two points measured the same bytes."""
    return one.artifact is not None and one.artifact == other.artifact


def _suspicion(baseline: HistoryPoint, step: HistoryPoint, newest: HistoryPoint, change: float | None) -> Suspicion:
    return Suspicion(baseline=baseline, step=step, change=change, alike=same_artifact(baseline, newest))


def _last_of(level: Sequence[HistoryPoint], ids: Collection[int]) -> int:
    """The last of a level's points that is one of these; else the first."""
    return max((number for number, one in enumerate(level) if one.id in ids), default=0)


def _another(
    safe: Sequence[HistoryPoint], level: Sequence[HistoryPoint], point: HistoryPoint, recent: int
) -> HistoryPoint:
    """The artifact to compare a point's with: that of a night surely before the step, for where it began is a guess.

    Where that is the same artifact, the last other one of the level, if it is recent; else the very artifact.
    """
    if not same_artifact(safe[-1], point):
        return safe[-1]
    return next((one for one in reversed(level[-recent:]) if not same_artifact(one, point)), level[-1])
