"""Rests: how long devices and jobs are left alone, and when that is over. One rule, in Python and in SQL.

A rest is noted as the moment of the wall clock at which it ends. Somebody may set that clock back meanwhile, by hours:
a rest that would still last longer than the longest that is ever given is therefore none.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, bindparam, or_

#: The longest rest of a device after failures in a row.
LONGEST_REST_S = 600.0
#: The longest pause of a quarantined device before its next canary.
LONGEST_PROBE_S = 3600.0
#: The longest pause of a job before it is tried again.
LONGEST_PAUSE_S = 60.0


def is_over(until: datetime | None, longest_s: float, now: datetime) -> bool:
    """Whether a rest is over.

    Args:
        until: its end; None: there was none.
        longest_s: of its kind.
        now: the time.
    """
    return until is None or not now < until <= now + timedelta(seconds=longest_s)


def left_s(until: datetime | None, longest_s: float, now: datetime) -> float:
    """Seconds until a rest is over, 0 where it is. Arguments as of `is_over`."""
    return 0.0 if until is None or is_over(until, longest_s, now) else (until - now).total_seconds()


def over(until: ColumnElement[Any]) -> ColumnElement[bool]:
    """`is_over` of a column, for a statement that is executed with `moments`."""
    return or_(until.is_(None), until <= bindparam("now"), until > bindparam("latest_end"))


def moments(longest_s: float, now: datetime) -> Mapping[str, datetime]:
    """What a statement with `over` is given."""
    return {"now": now, "latest_end": now + timedelta(seconds=longest_s)}
