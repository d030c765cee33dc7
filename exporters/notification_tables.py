"""Tables of messages and channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.table import Table

from exporters.numbers import NONE, duration
from exporters.tables import simple_table

Row = Mapping[str, Any]


def messages_table(messages: Sequence[Row], now: datetime) -> Table:
    """Messages as `scheduler.notifications.outbox` lists them."""
    rows = [
        [
            str(message["id"]),
            message["channel"] or "not addressed yet",
            message["key"],
            message["state"],
            str(message["tries"]),
            _time(message["created_at"]),
            _when(message, now),
            message["error"] or "",
        ]
        for message in messages
    ]
    columns = ["message", "channel", "tells", "state", "tries", "made", "sent or next", "last failure"]
    return simple_table("Notifications", columns, rows)


def tried_table(tried: Sequence[Row]) -> Table:
    """What became of a test message on each channel."""
    rows = [
        [
            one["channel"],
            "arrived" if one["error"] is None else "failed",
            one["error"] or "",
            "; ".join(one["warnings"]),
        ]
        for one in tried
    ]
    return simple_table("Channels", ["channel", "test message", "why", "note"], rows)


def _when(message: Row, now: datetime) -> str:
    if message["sent_at"] is not None:
        return _time(message["sent_at"])
    if message["next_at"] is None:
        return NONE
    left_s = (message["next_at"] - now).total_seconds()
    return f"in {duration(left_s)}" if left_s > 0 else "now"


def _time(value: datetime) -> str:
    return f"{value:%Y-%m-%d %H:%M} UTC"
