"""No statement of a dispatcher's rounds reads a table that grows from end to end: each has an index that it can use.

The databases are asked, not a clock. A partial index counts: it holds what is live, not what there ever was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event

from device_registry.database import reading
from tests.unit.scheduler.builders import BROKEN, CRASHED, INT8, ONNX, TORCH, Farm, in_turn, plan_of

#: What has a row for each job, attempt or artifact that ever was, with the aliases that we give them.
_GROWING = {"job", "attempt", "event", "result", "profile", "point", "telemetry", "artifact", "head", "waiting"} | {
    "sweep_run",
    "heir",
}
#: Indexes that hold live rows only.
_PARTIAL = {
    "job_by_lane",
    "job_by_make",
    "job_by_queue_end",
    "one_live_attempt_per_device",
    "one_live_attempt_per_job",
    "one_live_attempt_per_place",
    "one_live_convert_per_artifact",
    "run_by_follower",
}


_READS = ("SELECT", "UPDATE", "DELETE", "WITH")


@pytest.fixture
def statements(farm: Farm) -> dict[str, Any]:
    """Every statement of a busy farm that reads, by its text, with the parameters of its first time."""
    seen: dict[str, Any] = {}

    def see(_connection: object, _cursor: object, text: str, given: Any, _context: object, many: bool) -> None:
        if text.lstrip().startswith(_READS) and "pg_catalog" not in text:
            seen.setdefault(text, given[0] if many else given)

    farm.play(in_turn(BROKEN, CRASHED))
    with _listening(farm.engine, see):
        farm.run(plan_of(farm.devices(), TORCH, ONNX, INT8, repeats=2))
        farm.play("silent")
        farm.submit(plan_of(farm.devices(), TORCH, ONNX, model="other"))
        for _ in range(3):
            farm.tick()
    live = [row.job_id for row in farm.live()]
    assert live
    with _listening(farm.engine, see):
        for job_id in live:
            farm.cancel(job_id)
        for _ in range(8):
            farm.tick()
    assert len(seen) > 20
    return seen


@contextmanager
def _listening(engine: Engine, see: Callable[..., None]) -> Iterator[None]:
    event.listen(engine, "before_cursor_execute", see)
    yield
    event.remove(engine, "before_cursor_execute", see)


def test_no_statement_reads_a_growing_table_from_end_to_end(farm: Farm, statements: dict[str, Any]) -> None:
    explain = _explain_postgres if farm.engine.dialect.name == "postgresql" else _explain_sqlite
    bad = [
        f"{found}: {' '.join(text.split())}"
        for text, given in statements.items()
        for found in explain(farm.engine, text, given)
    ]
    assert bad == []


def _explain_sqlite(engine: Engine, statement: str, given: Any) -> Iterator[str]:
    with reading(engine) as connection:
        for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given):
            words = row.detail.split()
            if words[0] == "SCAN" and words[1] in _GROWING and not _PARTIAL & set(words):
                yield row.detail


def _explain_postgres(engine: Engine, statement: str, given: Any) -> Iterator[str]:
    with engine.connect() as connection:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # the tables are too small for an index to pay
        plan = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", given).scalar_one()
        connection.rollback()
    yield from _scans(plan[0]["Plan"])


def _scans(node: dict[str, Any]) -> Iterator[str]:
    whole = "Scan" in node["Node Type"] and "Index Cond" not in node and node.get("Index Name") not in _PARTIAL
    if whole and node.get("Relation Name") in _GROWING and node["Node Type"] != "Bitmap Heap Scan":
        yield f"{node['Node Type']} on {node['Relation Name']}"
    for below in node.get("Plans", ()):
        yield from _scans(below)
