"""What runs where, as the dispatcher knows it between ticks: live attempts, and when each was last heard of."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, select, update

from scheduler.placement import JobKind
from scheduler.queue import Claimed
from scheduler.states import IS_LIVE, attempts, jobs

#: An agent ends its work when it was not polled for so long. Tests set it shorter, so that faults take seconds.
ATTEMPT_LEASE_S = float(os.environ.get("BENCHFARM_LEASE_S", "60"))
#: Beyond the agent's own lease: its 5 s to kill, and one call's time.
EXPIRY_S = ATTEMPT_LEASE_S + 10.0
#: How much longer the row says: it is renewed now and then, not with every poll.
ROW_SLACK_S = 15.0
#: Whatever the rows say: whoever takes over first hears what the agents have to tell.
_GRACE_S = 15.0
#: A place whose attempt was given up is free again when its agent has not named the attempt for so long.
_QUIET_S = 3.0

_SAY = update(attempts).where(attempts.c.id == bindparam("attempt"), IS_LIVE).values(message=bindparam("text"))


@dataclass(slots=True, kw_only=True)
class LiveAttempt:
    """An attempt that is leased or runs."""

    id: int
    host_id: int
    place: str
    kind: JobKind
    owner: str
    expected_s: float
    #: When its agent last said that it runs, or when it was claimed; monotonic seconds.
    heard_at: float
    #: How far it said it is.
    said: str | None = None


@dataclass(slots=True)
class _Ending:
    host_id: int
    place: str
    heard_at: float


class Running:
    """Live attempts by id, and the places that they hold.

    A place is held for a while longer than its attempt lives where the attempt was given up while it ran: until its
    agent has ended it, nothing else may begin there.
    """

    def __init__(self) -> None:
        """Nothing runs."""
        self.live: dict[int, LiveAttempt] = {}
        #: What holds each place.
        self.busy: dict[str, JobKind] = {}
        self._ending: dict[int, _Ending] = {}
        #: What attempts said of themselves and no row says yet.
        self._unwritten: dict[int, str] = {}

    def load(self, connection: Connection, now: datetime, clock_s: float) -> None:
        """Read what the database says: live for as long as the rows say, within bounds, for wall clocks jump."""
        rows = connection.execute(
            select(
                *(attempts.c[name] for name in ("id", "host_id", "place", "lease_until")),
                *(jobs.c[name] for name in ("kind", "owner", "expected_s")),
            )
            .join(jobs, jobs.c.id == attempts.c.job_id)
            .where(IS_LIVE)
        )
        before = self.live
        self.live, self.busy = {}, {}
        for row in rows:
            left_s = (row.lease_until - now).total_seconds() - ROW_SLACK_S
            heard_at = clock_s - EXPIRY_S + min(max(left_s, _GRACE_S), EXPIRY_S)
            if row.id in before:
                heard_at = max(heard_at, before[row.id].heard_at)
            self.live[row.id] = LiveAttempt(
                id=row.id,
                host_id=row.host_id,
                place=row.place,
                kind=row.kind,
                owner=row.owner,
                expected_s=row.expected_s,
                heard_at=heard_at,
            )
        self.busy.update((one.place, one.kind) for one in self.live.values())
        for one in self._ending.values():
            self.busy.setdefault(one.place, "measure")

    def add(self, claimed: Iterable[Claimed], clock_s: float) -> None:
        """Jobs were given places."""
        for one in claimed:
            self.live[one.attempt_id] = LiveAttempt(
                id=one.attempt_id,
                host_id=one.host_id,
                place=one.place,
                kind=one.kind,
                owner=one.owner,
                expected_s=one.expected_s,
                heard_at=clock_s,
            )
            self.busy[one.place] = one.kind

    def over(self, attempt_id: int) -> LiveAttempt | None:
        """An attempt is over, and so says its agent: its place is free."""
        ending = self._ending.pop(attempt_id, None)
        found = self.live.pop(attempt_id, None)
        if found is not None:
            self._vacate(found.place, self._ending)
        elif ending is not None:
            self._vacate(ending.place, self._ending, self.live)
        return found

    def give_up(self, attempt_id: int, reached: Container[int], clock_s: float) -> None:
        """An attempt is live no more, but its agent may not know it yet: its place is held until it does.

        A host that is not among those in reach says so when it comes back, and would hold the place for ever.
        """
        if (found := self.over(attempt_id)) is not None and found.host_id in reached:
            self.hold(attempt_id, found.host_id, found.place, clock_s)
            self.busy[found.place] = found.kind

    def hold(self, attempt_id: int, host_id: int, place: str, clock_s: float) -> None:
        """An agent runs what is live no more."""
        self._ending[attempt_id] = _Ending(host_id, place, clock_s)
        self.busy.setdefault(place, "measure")

    def release(self, attempt_id: int) -> None:
        """An attempt that was given up is over, and so says its agent: its place is free."""
        if attempt_id in self._ending:
            self.over(attempt_id)

    def holds(self, attempt_id: int) -> bool:
        """Whether an attempt that was given up still holds its place."""
        return attempt_id in self._ending

    def forget_host(self, host_id: int) -> None:
        """A host is out of reach: nothing begins there, and when it comes back it says what runs."""
        for attempt_id, one in list(self._ending.items()):
            if one.host_id == host_id:
                del self._ending[attempt_id]
                self._vacate(one.place, self._ending, self.live)

    def heard(self, host_id: int, running: Iterable[int], clock_s: float) -> list[int]:
        """Take what an agent said to run; returns what it runs and nobody knows of, or was given up."""
        unwanted = []
        for attempt_id in running:
            if (one := self.live.get(attempt_id)) is not None:
                one.heard_at = clock_s
            else:
                unwanted.append(attempt_id)
                if (ending := self._ending.get(attempt_id)) is not None:
                    ending.heard_at = clock_s
        still = set(unwanted)
        for attempt_id, ending in list(self._ending.items()):
            quiet = ending.host_id == host_id and attempt_id not in still
            if quiet and clock_s - ending.heard_at > _QUIET_S:
                self.over(attempt_id)
        return unwanted

    def say(self, progress: Iterable[tuple[int, str]]) -> None:
        """Take what attempts said of how far they are."""
        for attempt_id, text in progress:
            one = self.live.get(attempt_id)
            if one is not None and one.said != text:
                one.said = self._unwritten[attempt_id] = text

    def write_said(self, connection: Connection) -> None:
        """Write what attempts said since the last time, in one statement; an end, which says why, overwrites it."""
        if self._unwritten:
            rows = [{"attempt": attempt_id, "text": text} for attempt_id, text in self._unwritten.items()]
            connection.execute(_SAY, rows)
            self._unwritten.clear()

    def _vacate(self, place: str, *others: Mapping[int, LiveAttempt] | Mapping[int, _Ending]) -> None:
        """A place is free, unless one of these others has it: one may live where an earlier one is still to end."""
        if not any(one.place == place for attempts in others for one in attempts.values()):
            self.busy.pop(place, None)

    def expired(self, clock_s: float) -> list[int]:
        """Attempts not heard of for longer than a lease."""
        return [one.id for one in self.live.values() if clock_s - one.heard_at > EXPIRY_S]

    def at(self, host_id: int) -> Iterator[LiveAttempt]:
        """What runs on a host."""
        return (one for one in list(self.live.values()) if one.host_id == host_id)
