"""What is watched, as series: open incidents, messages that wait, series that see and that do not, missing cells."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, case, func, select, text

from exporters import metrics
from exporters.families import Filling
from exporters.metrics import NONE
from scheduler.notifications.outbox import notifications
from scheduler.notifications.told import incidents
from scheduler.schedules.schedule import schedules
from scheduler.views import view_of

#: A message that was given up is shown for so long after.
_GIVEN_UP_SHOWN: Final = timedelta(days=1)
#: Literal, for SQLite uses a partial index only for a query that repeats its words.
_UNRESOLVED: Final = text("incident.state != 'resolved'")
_PENDING: Final = text("notification.state = 'pending'")
_GIVEN_UP: Final = text("notification.state = 'given_up'")


def read_incidents(connection: Connection, filling: Filling) -> None:
    """Incidents that are not resolved; none of a cause is a fact, too."""
    for cause in metrics.INCIDENTS.labels[0].values or ():
        for state in metrics.INCIDENTS.labels[1].values or ():
            filling.add(metrics.INCIDENTS, 0, cause, state)
    by = (incidents.c.cause, incidents.c.state)
    for row in connection.execute(select(*by, func.count().label("incidents")).where(_UNRESOLVED).group_by(*by)):
        filling.add(metrics.INCIDENTS, row.incidents, row.cause, row.state)


def read_notifications(connection: Connection, filling: Filling, now: datetime) -> None:
    """Messages that wait, and those that were lately given up."""
    channel = notifications.c.channel
    query = select(channel, func.count().label("messages"), func.min(notifications.c.created_at).label("oldest"))
    for row in connection.execute(query.where(_PENDING).group_by(channel)):
        filling.put(metrics.NOTIFICATIONS, row.messages, row.channel or NONE, "pending")
        age_s = max(0.0, (now - row.oldest).total_seconds())
        filling.put(metrics.NOTIFICATION_OLDEST, age_s, row.channel or NONE)
    lately = notifications.c.give_up_at > now - _GIVEN_UP_SHOWN
    for row in connection.execute(query.where(_GIVEN_UP, lately).group_by(channel)):
        filling.put(metrics.NOTIFICATIONS, row.messages, row.channel or NONE, "given_up")


def read_missing(connection: Connection, filling: Filling) -> None:
    """Missing cells of each schedule, as the service counted them last; a paused one watches nothing."""
    query = select(schedules.c.name, schedules.c.missing).where(~schedules.c.paused)
    for row in connection.execute(query):
        filling.put(metrics.CELLS_MISSING, row.missing, row.name)


def read_sight(connection: Connection, filling: Filling) -> None:
    """Watched series by whether they could show a change that matters."""
    view = view_of("series_noise")
    sight = case((view.c.is_sighted.is_(None), "unknown"), (view.c.is_sighted, "sighted"), else_="blind").label("sight")
    by = (view.c.simulated, sight)
    for row in connection.execute(select(*by, func.count().label("series")).where(view.c.watched).group_by(*by)):
        filling.add(metrics.SERIES_SIGHT, row.series, "true" if row.simulated else "false", row.sight)
