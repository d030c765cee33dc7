"""Delivery by a command, for a farm whose service is not up."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Engine

from exporters.notifiers.courier import Courier
from scheduler.home import Home

#: Seconds that a command waits for its receivers.
WAIT_S = 30.0


def deliver_now(engine: Engine, home: Home, now: datetime, *, wait_s: float = WAIT_S) -> None:
    """Try everything that is due once; what does not arrive waits for the next command, or for `benchfarm up`.

    Args:
        engine: of the database.
        home: the data directory.
        now: the time.
        wait_s: for slow receivers, all together.
    """
    courier = Courier(engine, home)
    courier.step(now)
    courier.wait(wait_s)
    courier.close()
