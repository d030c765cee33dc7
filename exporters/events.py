"""What happened since the exporter started, counted: the event log is read by id from where it was left, in portions.

The log is what `up` and `exporter` both see, so they count alike, and counting costs the dispatcher nothing. It is
done by the database: a busy farm writes 24,000 events a second, and a portion of them comes back as a few dozen rows.

Nothing is counted twice. On PostgreSQL ids are given out before their transactions end, so a smaller id may appear
after a greater one: numbers that lack are looked for again until their transactions must have ended (`_PATIENCE_S`,
the server ends what is idle in one after a minute), and only then given up: they are those of transactions that were
rolled back. What can be missed: a change whose transaction began before the first look and ended after it, and one
that took longer than that. SQLite has one writer, and gives out no number twice.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Float, and_, case, func, literal, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from device_registry.database import one_of
from device_registry.registry import devices
from exporters import metrics
from exporters.families import Distribution, Filling
from exporters.metrics import NONE, Metric
from scheduler.outcomes import results
from scheduler.states import attempts, events, jobs
from workers.errors import Cause

#: Events that one statement counts.
_PORTION = 20_000
#: No further portion is begun after this.
_MOST_S = 1.0
#: A transaction of ours ends within two minutes, by the server's own limits.
_PATIENCE_S = 180.0
#: Numbers that are waited for at most; the oldest are given up first.
_MOST_HOLES = 10_000
_ENDS = ("finished", "cancelled", "lost", "stale")

Which = ColumnElement[bool]


class EventCounts:
    """Counters and histograms of all that happened since the first look."""

    def __init__(self, *, portion: int = _PORTION, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Begin at whatever is the newest event at the first look."""
        self._portion, self._monotonic = portion, monotonic
        self._position: int | None = None
        #: Numbers that lack, and since when.
        self._holes: dict[int, float] = {}
        self.filling = Filling(Counter())
        #: The greatest id in the log, and how many events up to it are not counted yet.
        self.newest = 0
        self.behind = 0

    def read(self, connection: Connection, refused: Counter[str]) -> None:
        """Count what is new, as far as the time allows. What a look finds is kept only if the whole look succeeds.

        Args:
            connection: a transaction that sees one state throughout.
            refused: counts values outside closed sets.
        """
        self.newest = newest = int(connection.execute(select(func.max(events.c.id))).scalar() or 0)
        if self._position is None or newest < self._position:  # the first look, or another database stands here now
            self._position, self._holes = newest, {}
            self._begin()
            return
        began, position = self._monotonic(), self._position
        found, holes = Filling(refused), dict(self._holes)
        if holes:
            late = set(connection.execute(select(events.c.id).where(one_of(events.c.id, holes))).scalars())
            if late:
                _count(connection, one_of(events.c.id, late), found)
            holes = {known: since for known, since in holes.items() if known not in late}
        while position < newest:
            until = min(newest, position + self._portion)
            which = and_(events.c.id > position, events.c.id <= until)
            _count(connection, which, found)
            holes |= dict.fromkeys(_lacking(connection, which, position, until), began)
            position = until
            if self._monotonic() - began > _MOST_S:
                break
        self._position, self._holes, self.behind = position, _kept(holes, began), newest - position
        self._merge(found)

    def _begin(self) -> None:
        """Whatever can be known beforehand is there from the start: the first increase is seen as one."""
        for kind in ("convert", "measure", "profile", "evaluate"):
            for outcome, causes in {
                "succeeded": (NONE,),
                "failed": tuple(str(cause) for cause in Cause),
                "cancelled": (NONE,),
                "lost": (str(Cause.INFRASTRUCTURE),),
                "stale": (str(Cause.INFRASTRUCTURE),),
            }.items():
                for cause in causes:
                    self.filling.add(metrics.ATTEMPTS, 0, kind, outcome, cause)
            for cause in (str(Cause.INFRASTRUCTURE), str(Cause.DEVICE), NONE):
                self.filling.add(metrics.REQUEUES, 0, kind, cause)
            empty = Distribution((0,) * (len(metrics.QUEUE_WAIT.buckets) + 1), 0.0)
            self.filling.add_distribution(metrics.QUEUE_WAIT, empty, kind)

    def begin_kinds(self, kinds: Iterable[str]) -> None:
        """The same for kinds of devices, as they become known."""
        verdicts = metrics.RESULTS.labels[1].values or ()
        for kind in kinds:
            self.filling.add(metrics.RECONNECTS, 0, kind)
            for verdict in verdicts:
                self.filling.add(metrics.RESULTS, 0, kind, verdict)

    def _merge(self, found: Filling) -> None:
        for metric, rows in found.rows.items():
            for labels, value in rows.items():
                if isinstance(value, Distribution):
                    self.filling.add_distribution(metric, value, *labels)
                else:
                    self.filling.add(metric, value, *labels)


def _kept(holes: dict[int, float], now: float) -> dict[int, float]:
    young = {known: since for known, since in holes.items() if now - since < _PATIENCE_S}
    return dict(sorted(young.items())[-_MOST_HOLES:])


def _lacking(connection: Connection, which: Which, after: int, until: int) -> Collection[int]:
    """Numbers of a portion that are not there, where one may still come."""
    if connection.dialect.name == "sqlite":
        return ()
    if connection.execute(select(func.count()).select_from(events).where(which)).scalar_one() == until - after:
        return ()
    there = set(connection.execute(select(events.c.id).where(which)).scalars())
    return [known for known in range(after + 1, until + 1) if known not in there]


def _count(connection: Connection, which: Which, found: Filling) -> None:
    _attempts(connection, which, found)
    _runs(connection, which, found)
    _waits(connection, which, found)
    _requeues(connection, which, found)
    _reconnects(connection, which, found)


def _attempts(connection: Connection, which: Which, found: Filling) -> None:
    """Attempts that ended, and with them the results that came in."""
    outcome = case(
        (events.c.after != "finished", events.c.after),
        (attempts.c.failure_cause.is_not(None), "failed"),
        else_="succeeded",
    ).label("outcome")
    cause = case(
        (outcome.in_(("lost", "stale")), literal(str(Cause.INFRASTRUCTURE))),
        (outcome == "failed", attempts.c.failure_cause),
        else_=literal(NONE),
    ).label("cause")
    by = (jobs.c.kind, devices.c.kind.label("device_kind"), outcome, cause, results.c.verdict)
    query = (
        select(*by, func.count().label("ended"))
        .select_from(events)
        .join(attempts, attempts.c.id == events.c.entity_id)
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .outerjoin(devices, devices.c.id == attempts.c.device_id)
        # A stale one's came with it; one that was lost had none yet.
        .outerjoin(results, and_(results.c.attempt_id == attempts.c.id, events.c.after.in_(("finished", "stale"))))
        .where(which, events.c.entity == "attempt", events.c.after.in_(_ENDS))
        .group_by(*by)
    )
    for row in connection.execute(query):
        found.add(metrics.ATTEMPTS, row.ended, row.kind, row.outcome, row.cause)
        if row.verdict is not None:
            found.add(metrics.RESULTS, row.ended, row.device_kind or NONE, row.verdict)


def _runs(connection: Connection, which: Which, found: Filling) -> None:
    seconds = _seconds(attempts.c.finished_at, attempts.c.started_at)
    bucket = _bucket(seconds, metrics.RUN.buckets)
    by = (jobs.c.kind, devices.c.kind.label("device_kind"), bucket)
    query = (
        select(*by, func.count().label("count"), func.sum(seconds).label("total"))
        .select_from(events)
        .join(attempts, attempts.c.id == events.c.entity_id)
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .outerjoin(devices, devices.c.id == attempts.c.device_id)
        .where(which, events.c.entity == "attempt", events.c.after == "finished")
        .group_by(*by)
    )
    for row in connection.execute(query):
        _fall(found, metrics.RUN, row, row.kind, row.device_kind or NONE)


def _waits(connection: Connection, which: Which, found: Filling) -> None:
    before = events.alias("before")
    queued = (
        select(func.max(before.c.id))
        .where(
            before.c.entity == "job",
            before.c.entity_id == events.c.entity_id,
            before.c.id < events.c.id,
            before.c.after == "queued",
        )
        .correlate(events)
        .scalar_subquery()
    )
    since = events.alias("since")
    seconds = _seconds(events.c.at, since.c.at)
    by = (jobs.c.kind, _bucket(seconds, metrics.QUEUE_WAIT.buckets))
    query = (
        select(*by, func.count().label("count"), func.sum(seconds).label("total"))
        .select_from(events)
        .join(jobs, jobs.c.id == events.c.entity_id)
        .join(since, since.c.id == queued)
        .where(which, events.c.entity == "job", events.c.after == "running")
        .group_by(*by)
    )
    for row in connection.execute(query):
        _fall(found, metrics.QUEUE_WAIT, row, row.kind)


def _requeues(connection: Connection, which: Which, found: Filling) -> None:
    """Running jobs that went back: for what the last attempt before that failed."""
    tried = attempts.alias("tried")
    last = (
        select(func.max(tried.c.id))
        .where(tried.c.job_id == events.c.entity_id, tried.c.started_at <= events.c.at)
        .correlate(events)
        .scalar_subquery()
    )
    cause = func.coalesce(attempts.c.failure_cause, NONE).label("cause")
    query = (
        select(jobs.c.kind, cause, func.count().label("jobs"))
        .select_from(events)
        .join(jobs, jobs.c.id == events.c.entity_id)
        .outerjoin(attempts, attempts.c.id == last)
        .where(which, events.c.entity == "job", events.c.before == "running", events.c.after == "queued")
        .group_by(jobs.c.kind, cause)
    )
    for row in connection.execute(query):
        found.add(metrics.REQUEUES, row.jobs, row.kind, row.cause)


def _reconnects(connection: Connection, which: Which, found: Filling) -> None:
    query = (
        select(devices.c.kind, func.count().label("came"))
        .select_from(events)
        .join(devices, devices.c.id == events.c.entity_id)
        .where(
            which,
            events.c.entity == "device",
            events.c.after == "online",
            events.c.before.is_not(None),  # a new one does not come back
            events.c.before != "online",
        )
        .group_by(devices.c.kind)
    )
    for row in connection.execute(query):
        found.add(metrics.RECONNECTS, row.came, row.kind)


def _fall(found: Filling, metric: Metric, row: Any, *labels: str) -> None:
    counts = [0] * (len(metric.buckets) + 1)
    counts[row.bucket] = row.count
    found.add_distribution(metric, Distribution(tuple(counts), float(row.total)), *labels)


def _bucket(seconds: ColumnElement[float], bounds: Iterable[float]) -> Any:
    """The number of the bucket that a value falls into."""
    steps = [(seconds <= bound, number) for number, bound in enumerate(bounds)]
    return case(*steps, else_=len(steps)).label("bucket")


def _seconds(later: ColumnElement[Any], earlier: ColumnElement[Any]) -> ColumnElement[float]:
    """How long between; clocks that were set back make no negative time."""
    return case((later > earlier, _Between(later, earlier)), else_=0.0)


class _Between(FunctionElement[float]):
    """Seconds from the second time to the first, in the words of either database."""

    type = Float()
    inherit_cache = True


@compiles(_Between, "sqlite")
def _between_on_sqlite(element: _Between, compiler: Any, **given: Any) -> str:
    later, earlier = (compiler.process(part, **given) for part in element.clauses)
    return f"((julianday({later}) - julianday({earlier})) * 86400.0)"


@compiles(_Between, "postgresql")
def _between_on_postgresql(element: _Between, compiler: Any, **given: Any) -> str:
    later, earlier = (compiler.process(part, **given) for part in element.clauses)
    return f"EXTRACT(EPOCH FROM ({later} - {earlier}))::double precision"
