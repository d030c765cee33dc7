"""How long jobs take: by the farm's own history, else a guess."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import Connection, select

from device_registry.bulk import insert_rows
from device_registry.database import one_of, table_of
from scheduler.conversions import digest
from scheduler.states import portions
from scheduler.tables import Duration
from workers.contract import ConvertTask, MeasureTask

durations = table_of(Duration)

#: Before any job of a kind was seen.
FIRST_GUESS_S = {"convert": 12.0, "measure": 9.0, "profile": 12.0, "evaluate": 10.0}
#: Of each new value in the moving average.
_WEIGHT = 0.1
_KNOWN: Final = select(durations).where(one_of(durations.c.key, "keys"))


def duration_key(kind: str, model: str, task: ConvertTask | MeasureTask, device_model: str | None) -> str:
    """Key of what takes about as long: the same task, on units of the same model where it is known."""
    if isinstance(task, ConvertTask):
        return digest([kind, model, task.entry, task.format, task.recipe])
    return digest([kind, model, task.runtime, task.format, task.recipe, task.options.identity(), device_model])


def expected_s(connection: Connection, keys: Collection[str]) -> dict[str, float]:
    """Expected seconds of what was seen before, by its key."""
    found: dict[str, float] = {}
    for portion in portions(keys):
        rows = connection.execute(select(durations).where(durations.c.key.in_(portion)))
        found |= {row.key: row.expected_s for row in rows}
    return found


def learn(connection: Connection, took: Sequence[tuple[str, float]]) -> None:
    """Count what jobs took, as (key, seconds), in: a tenth of each new value."""
    if not took:
        return
    rows = connection.execute(_KNOWN, {"keys": {key for key, _ in took}})
    known = {row.key: (row.expected_s, row.samples) for row in rows}
    for key, seconds in took:
        expected, samples = known.get(key, (seconds, 0))
        known[key] = (expected + (seconds - expected) * _WEIGHT, samples + 1)
    values = [
        {"key": key, "expected_s": known[key][0], "samples": known[key][1]} for key in sorted({k for k, _ in took})
    ]
    insert_rows(connection, durations, values, key=("key",))
