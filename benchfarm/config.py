"""Where things are: from the environment, with defaults that work on a new machine."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path

from device_registry.errors import UsageError
from scheduler.home import Home

#: A hundred years.
_MOST_DAYS = 36_500


def load_home(url: str | None = None, path: str | Path | None = None) -> Home:
    """The data directory: BENCHFARM_HOME, or the user's data folder; the database and store in it unless told.

    Args:
        url: of the database, before the environment's.
        path: of the data directory, before the environment's.
    """
    path = Path(path or os.environ.get("BENCHFARM_HOME") or user_data_path("benchfarm")).expanduser().absolute()
    return Home(
        path=path,
        database_url=url or os.environ.get("BENCHFARM_DATABASE_URL") or f"sqlite:///{path / 'benchfarm.db'}",
        store_url=os.environ.get("BENCHFARM_STORE_URL") or f"file://{path / 'artifacts'}",
    )


def telemetry_days() -> int:
    """How many days readings, raw times and logs are kept: BENCHFARM_TELEMETRY_DAYS, 90 unless set; 0: for ever.

    Raises:
        UsageError: it is no such number.
    """
    text = os.environ.get("BENCHFARM_TELEMETRY_DAYS") or "90"
    if not (text.isascii() and text.isdigit() and int(text) <= _MOST_DAYS):
        raise UsageError(f"BENCHFARM_TELEMETRY_DAYS {text!r}: write a number of days, 0 to keep all")
    return int(text)
