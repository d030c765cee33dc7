"""The first jobs of each lane of the queue that has a free place: a million queued rows cost a tick nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence, Set
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, Text, bindparam, cast, exists, func, or_, select, text

from device_registry.database import one_of, table_of
from device_registry.rests import LONGEST_PAUSE_S, moments, over
from scheduler.placement import PRIORITY_STEP_S, Fleet, Lane, Requirement, Wanted
from scheduler.requirements import load_some, requirements
from scheduler.states import IS_QUEUED, jobs
from scheduler.tables import SweepRun

sweep_runs = table_of(SweepRun)

#: Every lane that has queued jobs, each found by one step into the index job_by_lane.
_LANES: Final = text(
    """
    WITH RECURSIVE wanted(requirement_id) AS (
        SELECT min(requirement_id) FROM job WHERE state = 'queued'
        UNION ALL
        SELECT (SELECT min(requirement_id) FROM job
                WHERE state = 'queued' AND job.requirement_id > wanted.requirement_id)
        FROM wanted WHERE wanted.requirement_id IS NOT NULL
    ), lane(requirement_id, owner) AS (
        SELECT requirement_id, (SELECT min(owner) FROM job
                                WHERE state = 'queued' AND job.requirement_id = wanted.requirement_id)
        FROM wanted WHERE wanted.requirement_id IS NOT NULL
        UNION ALL
        SELECT requirement_id, (SELECT min(owner) FROM job
                                WHERE state = 'queued' AND job.requirement_id = lane.requirement_id
                                      AND job.owner > lane.owner)
        FROM lane WHERE lane.owner IS NOT NULL
    )
    SELECT requirement_id, owner FROM lane WHERE owner IS NOT NULL
    """
)
#: Added to the rank of jobs that rest (see `resting.rest`): behind all ranks, which are times, and behind what is read.
RESTING = 1e11
_IN_ORDER = (jobs.c.rank, jobs.c.sweep_run_id, jobs.c.position)
#: A backlog is counted up to so many jobs: more says the same, and would cost what the lanes save.
_BACKLOG_ROWS = 5_000
_NOTHING: Final[frozenset[str]] = frozenset()


def _may_begin() -> tuple[ColumnElement[bool], ...]:
    """Its back-off is over, and somebody waits for its run, or nobody needs to."""
    alive = exists().where(
        sweep_runs.c.id == jobs.c.sweep_run_id,
        or_(sweep_runs.c.followed_until.is_(None), sweep_runs.c.followed_until > bindparam("now")),
    )
    mine = jobs.c.owner == bindparam("owner")
    return mine, jobs.c.rank < RESTING, jobs.c.canary == bindparam("canary"), over(jobs.c.not_before), alive


def _columns(table: Any) -> tuple[Any, ...]:
    names = ("id", "kind", "requirement_id", "owner", "sweep_run_id", "position", "priority", "rank")
    columns = tuple(table.c[name] for name in (*names, "expected_s", "needs_key", "canary"))
    return (*columns, cast(table.c.avoid, Text).label("avoid_text"))  # hardly any job avoids anything


def _first_of_each() -> Select[Any]:
    """The first job of each of many requirements, for one owner."""
    head = jobs.alias("head")
    first = (
        select(jobs.c.id)
        .where(IS_QUEUED, jobs.c.requirement_id == requirements.c.id, *_may_begin())
        .order_by(*_IN_ORDER)
        .limit(1)
        .correlate(requirements)
        .scalar_subquery()
    )
    here = one_of(requirements.c.id, "ids")
    return select(*_columns(head)).select_from(requirements).join(head, head.c.id == first).where(here)


def _first_of_one() -> Select[Any]:
    """The first jobs of one lane."""
    lane = jobs.c.requirement_id == bindparam("requirement_id")
    return select(*_columns(jobs)).where(IS_QUEUED, lane, *_may_begin()).order_by(*_IN_ORDER).limit(bindparam("most"))


_FIRST_OF_EACH: Final = _first_of_each()
_FIRST_OF_ONE: Final = _first_of_one()


class Lanes:
    """Which lanes have queued jobs. Remembered between ticks; one that is read empty is forgotten until `refresh`."""

    def __init__(self) -> None:
        """Nothing is known before `refresh`."""
        self.requirements: dict[int, Requirement] = {}
        #: Lanes that only one place fits, by its key: pinned jobs, most of a large farm.
        self._single: dict[str, set[Lane]] = {}
        self._others: set[Lane] = set()

    def refresh(self, connection: Connection, fleet: Fleet) -> None:
        """Look which lanes there are, for a fleet."""
        found: list[Lane] = [(row[0], row[1]) for row in connection.execute(_LANES).all()]
        self.know(connection, {requirement_id for requirement_id, _ in found})
        self._single, self._others = {}, set()
        for lane in found:
            fitting = fleet.fitting(self.requirements[lane[0]])
            if len(fitting) == 1:
                self._single.setdefault(next(iter(fitting)), set()).add(lane)
            elif fitting:
                self._others.add(lane)

    def know(self, connection: Connection, ids: Set[int]) -> None:
        """Read requirements that are not known yet."""
        if missing := ids - self.requirements.keys():
            self.requirements.update((one.id, one) for one in load_some(connection, missing))

    def moving(self) -> list[int]:
        """Requirements whose jobs may choose between places."""
        return sorted({requirement_id for requirement_id, _ in self._others})

    def heads(
        self, connection: Connection, fleet: Fleet, free: Set[str], probing: Set[str], now: datetime
    ) -> list[Wanted]:
        """The first jobs of each lane that has a free place: as many as have one.

        Args:
            connection: to read from.
            fleet: the one of the last `refresh`.
            free: keys of places that take work and have none.
            probing: keys of quarantined places that have none: canaries go there and nowhere else.
            now: jobs whose back-off is over by then, of runs that somebody waits for then.
        """
        found: list[Row[Any]] = []
        for canary, places in ((False, free), (True, probing)):
            found += self._heads_of_single(connection, places, canary, now)
        for lane in sorted(self._others):
            if most := len(fleet.fitting(self.requirements[lane[0]]) & free):
                given = {"requirement_id": lane[0], "owner": lane[1], "canary": False, "most": most}
                rows = connection.execute(_FIRST_OF_ONE, {**given, **moments(LONGEST_PAUSE_S, now)}).all()
                found += rows
                if not rows:
                    self._others.discard(lane)
        return [_wanted(row) for row in found]

    def _heads_of_single(
        self, connection: Connection, places: Set[str], canary: bool, now: datetime
    ) -> Sequence[Row[Any]]:
        by_owner: dict[str, list[int]] = {}
        read: dict[Lane, str] = {}
        for key in places & self._single.keys():
            for lane in self._single[key]:
                by_owner.setdefault(lane[1], []).append(lane[0])
                read[lane] = key
        found: list[Row[Any]] = []
        for owner, ids in sorted(by_owner.items()):
            given = {"ids": ids, "owner": owner, "canary": canary, **moments(LONGEST_PAUSE_S, now)}
            found += connection.execute(_FIRST_OF_EACH, given).all()
        for row in found:
            read.pop((row.requirement_id, row.owner), None)
        for lane, key in read.items():  # read empty
            self._single[key].discard(lane)
        return found


def backlog_s(connection: Connection, requirement_ids: Iterable[int]) -> dict[int, float]:
    """Expected seconds that are queued for each requirement, up to some thousand jobs of each."""
    found = {}
    for requirement_id in requirement_ids:
        lane = (
            select(jobs.c.expected_s)
            .where(IS_QUEUED, jobs.c.requirement_id == requirement_id)
            .limit(_BACKLOG_ROWS)
            .subquery()
        )
        found[requirement_id] = float(connection.execute(select(func.sum(lane.c.expected_s))).scalar_one() or 0.0)
    return found


def _wanted(row: Row[Any]) -> Wanted:
    return Wanted(
        job_id=row.id,
        kind=row.kind,
        requirement_id=row.requirement_id,
        owner=row.owner,
        run_id=row.sweep_run_id,
        position=row.position,
        priority=row.priority,
        # The rank is made of it: no second time stamp to read.
        created_at=row.rank + row.priority * PRIORITY_STEP_S,
        expected_s=row.expected_s,
        needs_key=row.needs_key,
        avoid=frozenset(json.loads(row.avoid_text)) if row.avoid_text != "[]" else _NOTHING,
        canary=row.canary,
    )
