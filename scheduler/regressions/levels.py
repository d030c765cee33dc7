"""The level that a new point is expected at: what came before it, with the steps that are explained taken out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from scheduler.regressions.detect import History


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryPoint:
    """A point of a watched series."""

    id: int
    run_id: int
    value: float
    #: Only those that are enter levels.
    valid: bool
    #: Fingerprint of conversion and run environment, and of the artifact.
    environment: str
    artifact: str | None
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Level:
    """Valid points at the level where a series was last, each as it would read today."""

    points: tuple[HistoryPoint, ...]
    #: Values of these points times the explained steps since.
    values: tuple[float, ...]
    #: What each value was multiplied by for that.
    factors: tuple[float, ...]
    #: The first point of it began a step that nothing explains: the levels before are `before`.
    before: Level | None = None


#: So many points since an explained step stand for themselves: the size of the step is known by a trial, no better than
#: to a percent or so.
_ENOUGH = 8

#: By a point's id: the factor by which the level is known to have changed there.
Borders = Mapping[int, float]


def level_of(history: Sequence[HistoryPoint], borders: Borders) -> Level:
    """The last level of a history.

    A step that is explained (confirmed by a trial, or by a bridge between environments) is taken out: earlier values
    are multiplied by it. Before a change of environment that no bridge explains nothing counts, for nothing tells what
    of a difference is the environment's.

    Args:
        history: in order of time, invalid points too.
        borders: explained steps.
    """
    kept: list[HistoryPoint] = []
    factors: list[float] = []
    factor = 1.0
    known = [point for point in history if point.valid and point.value > 0]
    for number in range(len(known) - 1, -1, -1):
        point = known[number]
        kept.append(point)
        factors.append(factor)
        if point.id in borders:
            if borders[point.id] != 1 and len(kept) >= _ENOUGH:
                break
            factor *= borders[point.id]
        elif number and known[number - 1].environment != point.environment:
            break
    kept.reverse()
    factors.reverse()
    values = [point.value * by for point, by in zip(kept, factors, strict=True)]
    level = None
    for start, end in list(pairwise([0, *History.of(values).change_points, len(values)]))[-2:]:
        level = Level(
            points=tuple(kept[start:end]),
            values=tuple(values[start:end]),
            factors=tuple(factors[start:end]),
            before=level,
        )
    assert level is not None  # there is one pair at least
    return level


#: A step may have begun so many points ago unseen, each of them not suspicious enough by itself.
_MOST_BACK = 4


def began_at(level: Level, value: float) -> int:
    """How many of the last values of a level belong to the step that a new value shows: 0, where it began with it.

    The place where the values up to the new one divide best (the largest difference of means in standard errors).
    """
    values = [*level.values, value]
    best, best_score = 0, 0.0
    for back in range(min(_MOST_BACK, len(values) - 4) + 1):
        after, before = values[-1 - back :], values[: -1 - back]
        gap = sum(after) / len(after) - sum(before) / len(before)
        score = gap**2 * len(after) * len(before) / len(values)
        if score > best_score and (gap > 0) == (value > sum(before) / len(before)):
            best, best_score = back, score
    return best
