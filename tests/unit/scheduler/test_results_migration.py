"""Schema 0005 over results that are there: points, series and cells become what ingest would have made of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, insert, select, text

from device_registry.database import open_engine, reading, writing
from scheduler.coverage import cells
from scheduler.executors.scripted import Succeed
from scheduler.points import points, series
from scheduler.schema import upgrade
from tests.unit.scheduler.builders import CRASHED, INT8, ONNX, TORCH, UNSUPPORTED, Farm, plan_of
from workers.contract import Order


@pytest.fixture
def grown(farm: Farm) -> Farm:
    """A farm with results of every kind: repeats, verdicts, energy, temperatures, failures."""
    told = 0

    def play(order: Order) -> Any:
        nonlocal told
        if order.measure is None:
            return Succeed()
        if order.measure.recipe == "int8-static":
            return UNSUPPORTED
        if order.measure.options.threads == 3:
            return CRASHED
        told += 1
        return Succeed(p50_ms=1.0 + told % 7 / 8, verdict="contaminated" if told % 5 == 0 else "valid")

    farm.play(play)
    farm.run(plan_of(farm.devices(), TORCH, ONNX, INT8, repeats=6, threads=(1, 2, 3)))
    farm.play(lambda order: "silent" if order.measure is not None else Succeed())
    run_id = farm.submit(plan_of(farm.devices(), ONNX, salt="again")).sweep_run_id
    while not any(row.job_id == farm.job("measure", 54).id for row in farm.live()):
        farm.tick()
    reading_ = {"sensor": "zone", "domain": "soc", "quantity": "temperature", "unit": "C", "value": 41.5}
    energy = {"quality": "ok", "source": "rapl", "energy_per_inference_mj": 2.5}
    farm.host.finish(
        farm.live()[0].id,
        Succeed(p50_ms=3.0),
        energy=energy,
        telemetry=[{**reading_, "quality": "ok", "at": 1.0, "why": None}],
        judgement={"verdict": "unusable", "reasons": ["too wide"], "flags": ["noisy"]},
    )
    farm.settle()
    assert farm.run_row(run_id) is not None
    return farm


@contextmanager
def _before(farm: Farm, request: pytest.FixtureRequest, folder: Path) -> Iterator[Engine]:
    """A database of schema 0004 with the farm's rows, as a benchfarm of then had left them."""
    if farm.engine.dialect.name == "postgresql":
        server = request.getfixturevalue("postgres")
        server.execute("CREATE DATABASE results_before")
        engine = open_engine(server.url("results_before"))
    else:
        engine = open_engine(f"sqlite:///{folder / 'before.db'}")
    upgrade(engine, "0004")
    old, new = MetaData(), MetaData()
    with reading(farm.engine) as source, writing(engine) as target:
        new.reflect(source)
        old.reflect(target)
        for table in old.sorted_tables:
            if table.name == "alembic_version":
                continue
            columns = [column.name for column in table.c]
            rows = [
                dict(row._mapping)
                for row in source.execute(select(*(new.tables[table.name].c[name] for name in columns)))
            ]
            for row in rows:
                if table.name == "point":  # (process median, verdict) each; of the oldest ones nothing
                    kept = [repeat[:2] for repeat in row["process_medians"]]
                    row["process_medians"] = kept if row["id"] > 1 else None
            if rows:
                target.execute(insert(table), rows)
    yield engine
    engine.dispose()
    if farm.engine.dialect.name == "postgresql":
        server.execute("DROP DATABASE results_before")


def _told(engine: Engine, table: Any, *without: str) -> list[dict[str, Any]]:
    with reading(engine) as connection:
        rows = [dict(row._mapping) for row in connection.execute(select(table))]
    shown = [{name: value for name, value in row.items() if name not in without} for row in rows]
    return sorted(shown, key=lambda row: json.dumps(row, default=str))


def test_what_was_measured_before_is_told_as_if_it_were_measured_now(
    grown: Farm, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with _before(grown, request, tmp_path) as engine:
        upgrade(engine)
        assert _told(engine, points) == _told(grown.engine, points)
        assert _told(engine, series) == _told(grown.engine, series)
        # Of repeats that are valid the last tells here, and the first one there.
        mine, live = _told(engine, cells, "id"), _told(grown.engine, cells, "id")
        for row in (*mine, *live):
            if row["state"] == "valid":
                del row["job_id"], row["at"]
        assert mine == live
        with reading(engine) as connection:
            found = connection.execute(text("SELECT temperature_c, energy_source, flags FROM point")).all()
        assert (41.5, "rapl", "noisy") in [tuple(row) for row in found]
        states = {row["state"] for row in _told(engine, cells)}
        assert states == {"valid", "invalid", "failed", "unsupported"}
