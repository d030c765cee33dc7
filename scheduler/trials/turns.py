"""Turns: in what order a trial's processes run, and which of those that ran may be compared. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

Side = Literal["baseline", "candidate"]

#: What lies further apart was not measured in one hour, whatever the order.
LONGEST_PAUSE = timedelta(hours=1)
#: How far apart the middles of the two sides may lie in the order, as a share of its length. In perfect turns they do
#: not; a drift over the whole length moves the ratio by that share of itself.
_MOST_LOPSIDED = 0.1


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process that was judged valid."""

    side: Side
    started_at: datetime
    p50_ms: float
    #: Mean clock of what ran it, MHz; None: nobody tells.
    clock_mhz: float | None = None


@dataclass(frozen=True, kw_only=True)
class Counted:
    """The processes of a trial that are compared, in the order in which they ran."""

    processes: tuple[Process, ...]
    #: Valid ones that are not: beyond a pause none of the other side ran.
    alone: int
    #: Pauses of over an hour between those that are.
    pauses: int
    #: Whether a drift would count as a difference.
    lopsided: bool

    @property
    def not_alternated(self) -> bool:
        """Whether they did not run in turns within the hour."""
        return self.pauses > 0 or self.lopsided

    def of(self, side: Side) -> list[Process]:
        """Those of one side."""
        return [process for process in self.processes if process.side == side]


def side_of(number: int) -> Side:
    """Whose turn it is: baseline, candidate, candidate, baseline, and so on. What drifts steadily cancels out."""
    return "baseline" if number % 4 in (0, 3) else "candidate"


def count(processes: Iterable[Process]) -> Counted:
    """Leave out what was measured an hour or more apart from the other side: it has nothing to be compared with."""
    counted: list[Process] = []
    alone = stretches = 0
    for stretch in _stretches(sorted(processes, key=lambda process: process.started_at)):
        if len({process.side for process in stretch}) == 2:
            counted += stretch
            stretches += 1
        else:
            alone += len(stretch)
    return Counted(processes=tuple(counted), alone=alone, pauses=max(0, stretches - 1), lopsided=_is_lopsided(counted))


def _stretches(ordered: Sequence[Process]) -> list[list[Process]]:
    found: list[list[Process]] = []
    for process in ordered:
        if found and process.started_at - found[-1][-1].started_at <= LONGEST_PAUSE:
            found[-1].append(process)
        else:
            found.append([process])
    return found


def _is_lopsided(ordered: Sequence[Process]) -> bool:
    places: dict[str, list[int]] = {}
    for place, process in enumerate(ordered):
        places.setdefault(process.side, []).append(place)
    if len(places) < 2:
        return False
    first, second = (sum(found) / len(found) for found in places.values())
    return abs(first - second) > _MOST_LOPSIDED * len(ordered)
