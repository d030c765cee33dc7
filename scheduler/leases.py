"""There is one dispatcher at a time, and one process that does chores: a row says who, and until when."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from device_registry.database import table_of
from device_registry.errors import BenchfarmError
from scheduler.tables import Lease
from workers.devices.cpu import machine_key
from workers.processes import is_alive, this_process

leases = table_of(Lease)

DISPATCHER = "dispatcher"
#: Who does what is due by time: `chores`.
CHORES = "chores"
#: A dispatcher that does not renew within this is replaced.
LEASE_S = 20.0
_RENEW: Final = (
    update(leases)
    .where(leases.c.role == bindparam("its_role"), leases.c.holder == bindparam("mine"))
    .values(until=bindparam("new_until", type_=leases.c.until.type))
)


class LeaseLostError(BenchfarmError):
    """Another dispatcher took over."""


class DispatcherLease:
    """This process's claim to a role; the holder's name differs for every claim."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, *, role: str = DISPATCHER) -> None:
        """Make a claim; nothing is taken yet.

        Args:
            monotonic: seconds that never jump.
            role: the dispatcher's, or another that one process at a time has.
        """
        self._monotonic, self._role = monotonic, role
        #: Whose claim was seen until when, and since when it says so.
        self._seen: tuple[str, datetime, float] | None = None
        self.holder = f"{os.getpid()}-{secrets.token_hex(6)}"
        me = this_process()
        self._values = {"host_key": machine_key(), "pid": me.pid, "pid_started": me.started}

    def acquire(self, connection: Connection, now: datetime) -> bool:
        """Take the lease if it is free, ours, run out, or held by a process of this host that is dead.

        Run out is also what nobody has renewed while we watched, whatever the wall clocks say.
        """
        until = now + timedelta(seconds=LEASE_S)
        row = connection.execute(select(leases).where(leases.c.role == self._role)).first()
        values = {"holder": self.holder, "until": until, **self._values}
        if row is None:
            try:
                with connection.begin_nested():
                    connection.execute(insert(leases).values(role=self._role, **values))
            except IntegrityError:
                return False
            return True
        if row.holder == self.holder:
            self.renew(connection, now)
            return True
        dead = row.host_key == self._values["host_key"] and not is_alive(row.pid, row.pid_started)
        if row.until > now and not dead and not self._stands_still(row.holder, row.until):
            return False
        taken = connection.execute(
            update(leases).where(leases.c.role == self._role, leases.c.holder == row.holder).values(**values)
        )
        return taken.rowcount == 1

    def _stands_still(self, holder: str, until: datetime) -> bool:
        clock_s = self._monotonic()
        if self._seen is None or self._seen[:2] != (holder, until):
            self._seen = (holder, until, clock_s)
        return clock_s - self._seen[2] > LEASE_S

    def renew(self, connection: Connection, now: datetime) -> None:
        """Hold it longer.

        Raises:
            LeaseLostError: somebody else has it.
        """
        until = now + timedelta(seconds=LEASE_S)
        renewed = connection.execute(_RENEW, {"its_role": self._role, "mine": self.holder, "new_until": until})
        if renewed.rowcount != 1:
            raise LeaseLostError

    def release(self, connection: Connection) -> None:
        """Give it up, so that a waiting dispatcher takes it at once."""
        connection.execute(leases.delete().where(leases.c.role == self._role, leases.c.holder == self.holder))


def leader(connection: Connection, now: datetime) -> Row[Any] | None:
    """The lease of who dispatches for this database now."""
    row = connection.execute(select(leases).where(leases.c.role == DISPATCHER)).first()
    if row is None or row.until <= now:
        return None
    return row if row.host_key != machine_key() or is_alive(row.pid, row.pid_started) else None


def is_led(connection: Connection, now: datetime) -> bool:
    """Whether somebody dispatches for this database now."""
    return leader(connection, now) is not None
