"""What a look at a schedule asks for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from scheduler.schedules.cron import Cron
from scheduler.schedules.schedule import Missed

#: A due time that is found later than this was missed: the farm was down.
GRACE: Final = timedelta(minutes=10)


@dataclass(frozen=True)
class Turn:
    """What a look at a schedule asks for."""

    #: Run it as of this due time; None: nothing to run.
    run: datetime | None
    #: When it is due next.
    next: datetime
    #: The last due time that was missed and is not run; and whether earlier ones were left out for a later one.
    missed: datetime | None = None
    made_up: bool = False


def turn_of(cron: Cron, next_due_at: datetime | None, missed: Missed, now: datetime) -> Turn | None:
    """What is to be done about a schedule now; None: nothing.

    Args:
        cron: when it is due.
        next_due_at: when it is due next, as its row says; None: it was not said yet.
        missed: what is done about due times that nobody was there for.
        now: the time.
    """
    following = cron.after(now)
    if next_due_at is None or next_due_at > following:  # the clock was ahead, or the zone's rules are others now
        return Turn(None, following)
    if next_due_at > now:
        return None
    due = cron.latest(next_due_at - timedelta(seconds=1), now) or next_due_at
    if missed == "skip" and now - due > GRACE:
        return Turn(None, following, missed=due)
    return Turn(due, following, made_up=due > next_due_at)
