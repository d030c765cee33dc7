"""What placement remembers: who used how much, which lane was served when, which place has which artifact."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from scheduler.ingest import Ended
from scheduler.placement import History, Lane
from scheduler.queue import Claimed
from scheduler.states import attempts, jobs

#: Usage of so long ago counts half.
_HALF_LIFE_S = 3600.0
#: Usage is read back so far when a dispatcher begins: what is older hardly counts.
_READ_BACK_S = 3 * _HALF_LIFE_S
#: Numbers double with each half-life: beyond this, usage is counted anew.
_MOST_HALVINGS = 60.0
_MOST_READ_BACK = 20_000
#: Artifacts whose places are remembered, and places of each.
_MOST_HELD = 2_000
_MOST_HOLDERS = 8
#: Lanes remembered: those that were served long ago age like those that never were.
_MOST_LANES = 20_000


class Usage:
    """Kept in memory; a new dispatcher reads what matters from the attempts of the last hours."""

    def __init__(self) -> None:
        """Nobody has used anything."""
        #: In seconds of the origin: what was used later weighs more, instead of what was used earlier less.
        self._usage_s: dict[str, float] = {}
        self._origin_s = 0.0
        self._served_at: OrderedDict[Lane, float] = OrderedDict()
        self._holders: OrderedDict[str, frozenset[str]] = OrderedDict()
        self.backlog_s: dict[int, float] = {}

    @classmethod
    def read(cls, connection: Connection, now: datetime) -> Usage:
        """As the last hours' attempts say."""
        usage = cls()
        usage._origin_s = now.timestamp()
        since = now - timedelta(seconds=_READ_BACK_S)
        latest = connection.execute(select(func.max(attempts.c.id))).scalar_one() or 0
        rows = connection.execute(
            select(attempts.c.started_at, attempts.c.finished_at, jobs.c.owner)
            .join(jobs, jobs.c.id == attempts.c.job_id)
            .where(attempts.c.finished_at > since, attempts.c.id > latest - _MOST_READ_BACK)
        )
        for row in rows:  # an end that lies ahead was written by a clock that was wrong
            used_s = max(0.0, (row.finished_at - row.started_at).total_seconds())
            usage.add(row.owner, used_s, min(row.finished_at, now).timestamp())
        return usage

    def claimed(self, claimed: Iterable[Claimed], now_s: float) -> None:
        """Jobs were given places: each is used for as long as is expected, until it is known better."""
        for one in claimed:
            self.add(one.owner, one.expected_s, now_s)
            lane = (one.requirement_id, one.owner)
            self._served_at[lane] = now_s
            self._served_at.move_to_end(lane)
        while len(self._served_at) > _MOST_LANES:
            self._served_at.popitem(last=False)

    def ended(self, ended: Ended, expected_s: float, now_s: float) -> None:
        """An attempt is over."""
        self.add(ended.owner, ended.used_s - expected_s, now_s)
        if ended.state == "finished" and ended.needs_key is not None and ended.device_id is not None:
            places = self._holders.get(ended.needs_key, frozenset())
            if len(places) < _MOST_HOLDERS:
                self._holders[ended.needs_key] = places | {ended.place}
            self._holders.move_to_end(ended.needs_key)
            if len(self._holders) > _MOST_HELD:
                self._holders.popitem(last=False)

    def add(self, owner: str, seconds: float, at_s: float) -> None:
        """Somebody used a place for so long."""
        self._usage_s[owner] = self._usage_s.get(owner, 0.0) + seconds * 2.0 ** self._halvings(at_s)

    def history(self, used_s: Mapping[str, float], now_s: float) -> History:
        """For placement."""
        decayed = 0.5 ** self._halvings(now_s)
        return History(
            usage_s={owner: used * decayed for owner, used in self._usage_s.items()},
            served_at=self._served_at,
            backlog_s=self.backlog_s,
            holders=self._holders,
            used_s=used_s,
        )

    def _halvings(self, at_s: float) -> float:
        """Half-lives from the origin to a time; a time far from it, as of a clock that jumps, becomes the origin."""
        halvings = (at_s - self._origin_s) / _HALF_LIFE_S
        if -_READ_BACK_S / _HALF_LIFE_S <= halvings <= _MOST_HALVINGS:
            return halvings
        decayed = 0.5 ** max(halvings, 0.0)  # where the clock was set back, no time has passed
        self._usage_s = {owner: used * decayed for owner, used in self._usage_s.items()}
        self._origin_s = at_s
        return 0.0
