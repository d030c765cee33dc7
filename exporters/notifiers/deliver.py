"""Delivery by a command, for a farm whose service is not up."""

from __future__ import annotations

import logging
from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from device_registry.database import reading
from exporters.notifiers.courier import Courier
from exporters.notifiers.settings import NAME
from scheduler.home import Home
from scheduler.leases import is_led
from workers.errors import first_line

log = logging.getLogger(__name__)

#: Seconds that a command waits for its receivers.
WAIT_S = 30.0


def deliver_unless_up(engine: Engine, home: Home, now: datetime, *, wait_s: float = WAIT_S) -> bool:
    """Try everything that is due once, where no service does; what does not arrive waits for the next command.

    Whoever shares a database server with others and has no notifications.toml of theirs leaves their messages alone:
    for want of channels they would be told to nobody.

    Args:
        engine: of the database.
        home: the data directory.
        now: the time.
        wait_s: for slow receivers, all together.

    Returns:
        Whether it was tried here.
    """
    if engine.dialect.name != "sqlite" and not (home.path / NAME).exists():
        return False
    with reading(engine) as connection:
        if is_led(connection, now):
            return False
    courier = Courier(engine, home)
    try:
        courier.step(now)
    except DBAPIError as error:  # whoever only submits may not deliver: what is to be told waits for who may
        log.warning("nobody is told from here: %s", first_line(error.orig or error))
        return False
    courier.wait(wait_s)
    courier.close()
    return True
