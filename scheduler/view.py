"""What a view is: its SQL in words of either database, and what a row and each column of it mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

#: What a column holds, in the words of docs/views.md.
Kind = Literal["integer", "number", "text", "yes or no", "time", "date"]

#: Name, kind and meaning of a column.
Told = tuple[str, Kind, str]

#: A cell that is valid and older than so many days is stale.
STALE_DAYS = 7
#: `device_availability` looks back so many days, today included.
AVAILABILITY_DAYS = 35


@dataclass(frozen=True, kw_only=True)
class Words:
    """What the two databases say differently. Times are UTC; text on SQLite."""

    #: The moment of the query, and this many days before it.
    now: str
    days_ago: Callable[[int], str]
    #: When the day began that was so many days ago.
    midnight: Callable[[int], str]
    #: Seconds from the second time to the first.
    seconds: Callable[[str, str], str]
    #: An attribute of `device` as text, "" where it has none; whether one is true.
    attribute: Callable[[str], str]
    attribute_is_true: Callable[[str], str]
    #: The earlier and the later of times.
    earlier: str
    later: str
    #: Of a query of spells (device_id, presence, begins, ends, is_change): each once for every day that it touches,
    #: with `day`, `day_begins` and `day_ends`.
    by_day: Callable[[str], str]


def _by_day_on_sqlite(spells: str) -> str:
    return f"""(
    WITH RECURSIVE listed AS (
      SELECT spell.*, date(begins) AS day FROM ({spells}) AS spell
      UNION ALL
      SELECT device_id, presence, begins, ends, is_change, date(day, '+1 day') FROM listed WHERE day < date(ends)
    )
    SELECT *, day || ' 00:00:00' AS day_begins, date(day, '+1 day') || ' 00:00:00' AS day_ends FROM listed
  )"""  # noqa: S608 - of texts of ours


def _by_day_on_postgresql(spells: str) -> str:
    # Timestamps without a zone, throughout: the session's own zone must not move a day.
    return f"""(
    SELECT spell.*, CAST(day AS date) AS day, day AT TIME ZONE 'UTC' AS day_begins,
      (day + interval '1 day') AT TIME ZONE 'UTC' AS day_ends
    FROM ({spells}) AS spell
    CROSS JOIN LATERAL generate_series(
      date_trunc('day', begins AT TIME ZONE 'UTC'), ends AT TIME ZONE 'UTC', interval '1 day'
    ) AS day
  )"""  # noqa: S608 - of texts of ours


WORDS: dict[str, Words] = {
    "sqlite": Words(
        now="strftime('%Y-%m-%d %H:%M:%f', 'now')",
        days_ago=lambda days: f"strftime('%Y-%m-%d %H:%M:%f', 'now', '-{days} days')",
        midnight=lambda days: f"date('now', '-{days} days') || ' 00:00:00'",
        seconds=lambda to, since: f"(julianday({to}) - julianday({since})) * 86400.0",
        attribute=lambda name: f"coalesce(CAST(json_extract(device.attributes, '$.{name}') AS text), '')",
        attribute_is_true=lambda name: f"coalesce(json_type(device.attributes, '$.{name}') = 'true', 0)",
        earlier="min",
        later="max",
        by_day=_by_day_on_sqlite,
    ),
    "postgresql": Words(
        now="now()",
        days_ago=lambda days: f"now() - interval '{days} days'",
        midnight=lambda days: (
            f"(date_trunc('day', now() AT TIME ZONE 'UTC') - interval '{days} days') AT TIME ZONE 'UTC'"
        ),
        seconds=lambda to, since: f"CAST(extract(epoch FROM {to} - {since}) AS double precision)",
        attribute=lambda name: f"coalesce(device.attributes ->> '{name}', '')",
        attribute_is_true=lambda name: f"coalesce(CAST(device.attributes -> '{name}' AS text) = 'true', false)",
        earlier="least",
        later="greatest",
        by_day=_by_day_on_postgresql,
    ),
}


@dataclass(frozen=True, kw_only=True)
class ViewColumn:
    """One column of a view."""

    name: str
    kind: Kind
    #: What it says, with its unit, and when it is NULL.
    meaning: str


@dataclass(frozen=True, kw_only=True)
class View:
    """One view."""

    name: str
    #: What a row of it is.
    meaning: str
    columns: tuple[ViewColumn, ...]
    #: The query, in the words of a database.
    query: Callable[[Words], str]


def columns(*told: Told) -> tuple[ViewColumn, ...]:
    """Columns from (name, kind, meaning) of each."""
    return tuple(ViewColumn(name=name, kind=kind, meaning=meaning) for name, kind, meaning in told)


#: Which device: columns of every view.
DEVICE = columns(
    ("device_id", "integer", "Number of the device in the farm."),
    ("device", "text", "Its name."),
    ("device_kind", "text", "cpu, gpu, mac, android or sim."),
    ("device_model", "text", "What model of device it is, as its driver tells; empty where it does not."),
    ("host", "text", "The host that it belongs to now."),
    ("simulated", "yes or no", "Its results are made up: marked everywhere, never ranked with real ones."),
)
#: What was measured: the case, on whichever device.
CASE = columns(
    ("model", "text", "What users call the model."),
    ("weights", "text", "random or pretrained."),
    ("format", "text", "Format of the artifact: pt2, onnx, tflite, ..."),
    ("recipe", "text", "fp32, fp16, int8-static, ..., or original: the user's own file."),
    ("runtime", "text", "What executed it."),
    ("threads", "integer", "Threads that the runtime may use."),
    ("batch", "integer", "Inputs of one inference."),
    ("mode", "text", "burst, sustained or offline."),
    (
        "options_text",
        "text",
        "Every other option that differs from its default, `rate_hz=10 delegate=gpu`; empty: none does.",
    ),
)
CASE_KEY: Told = (
    "case_key",
    "text",
    "Digest of the nine columns of the case, the same on every device: what views are joined by, with the device.",
)
STATISTIC = columns(
    ("statistic", "text", "What the latency is a median of: medians and means of invocations are never compared."),
)


def device_columns(words: Words) -> str:
    """SQL of the columns of `DEVICE`, from `device` and `host`."""
    return (
        "device.id AS device_id, device.name AS device, device.kind AS device_kind, "
        f"{words.attribute('model')} AS device_model, host.name AS host, "
        f"{words.attribute_is_true('simulated')} AS simulated"
    )


def case_columns(table: str) -> str:
    """SQL of the columns of `CASE`, from a table or view."""
    return ", ".join(f"{table}.{column.name}" for column in CASE)


def named(table: str, told: tuple[ViewColumn, ...]) -> str:
    """SQL of columns that a table or view has under their own names."""
    return ", ".join(f"{table}.{column.name}" for column in told)
