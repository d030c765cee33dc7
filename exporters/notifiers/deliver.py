"""Delivery by a command, for a farm whose service is not up."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Engine

from device_registry.database import reading
from exporters.notifiers.courier import Courier
from scheduler.home import Home
from scheduler.leases import is_led

#: Seconds that a command waits for its receivers.
WAIT_S = 30.0


def deliver_unless_up(engine: Engine, home: Home, now: datetime, *, wait_s: float = WAIT_S) -> bool:
    """Try everything that is due once, where no service does; what does not arrive waits for the next command.

    Args:
        engine: of the database.
        home: the data directory.
        now: the time.
        wait_s: for slow receivers, all together.

    Returns:
        Whether it was tried here.
    """
    with reading(engine) as connection:
        if is_led(connection, now):
            return False
    courier = Courier(engine, home)
    courier.step(now)
    courier.wait(wait_s)
    courier.close()
    return True
