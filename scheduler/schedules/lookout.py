"""Looks out for cells that went missing, and tells of them once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Engine, select, update

from device_registry.database import reading, writing
from device_registry.errors import UsageError
from scheduler.conversions import digest
from scheduler.notifications.outbox import tell_trouble
from scheduler.schedules.missing import MissingCell, missing_cells
from scheduler.schedules.schedule import ENTITY, schedules

#: Cells that a message names, and characters of the schedule's name in its key.
_MOST_NAMED: Final = 5
_MOST_NAME: Final = 80


class Lookout:
    """Of all schedules; remembers what it told, so that it writes only what is new."""

    def __init__(self, engine: Engine) -> None:
        """Nothing is looked at before `step`."""
        self._engine = engine
        #: What each schedule lacked at the last look.
        self._known: dict[int, frozenset[tuple[str, datetime | None]]] = {}

    def step(self, held: Callable[[Connection], None], now: datetime) -> int:
        """Keep how many cells each schedule lacks, for metrics, and tell which; returns how many there are.

        It looks without a lock, for there may be many runs to look at.

        Args:
            held: called inside each transaction that writes.
            now: the time.
        """
        count = 0
        with reading(self._engine) as connection:
            named = connection.execute(select(schedules.c.id, schedules.c.name)).all()
        for schedule_id, name in named:
            try:
                with reading(self._engine) as connection:
                    found = missing_cells(connection, name, now)
            except UsageError:  # gone meanwhile; or of a cron that cannot be read, of which `due` tells
                continue
            count += len(found)
            known = self._known.get(schedule_id)
            lacks = frozenset((cell.case_key, cell.last_valid_at) for cell in found)
            if lacks == known:
                continue
            with writing(self._engine) as connection:
                held(connection)
                connection.execute(update(schedules).where(schedules.c.id == schedule_id).values(missing=len(found)))
                # What comes back case by case, while a run makes up for the last one, is no news each minute.
                if lacks and (known is None or lacks - known):
                    _tell(connection, name, found, now)
            self._known[schedule_id] = lacks
        return count


def _tell(connection: Connection, name: str, found: Sequence[MissingCell], now: datetime) -> None:
    which = digest([[cell.case_key, str(cell.last_valid_at)] for cell in found])
    named = "; ".join(f"{cell.title}: {cell.why}" for cell in found[:_MOST_NAMED])
    more = f"; and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    tell_trouble(
        connection,
        # What is fresh again and goes missing once more was valid at another time: that is told anew.
        key=f"{ENTITY}/{name[:_MOST_NAME]}/missing/{which}",
        title=f"Schedule {name}: {len(found)} cell{'s' * (len(found) != 1)} without a fresh valid point",
        text=f"{named}{more}. See benchfarm schedule show {name}",
        now=now,
    )
