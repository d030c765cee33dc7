"""exporters.report.content over a real database: SQLite and PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, update

from device_registry.database import reading, table_of, writing
from device_registry.errors import UsageError
from device_registry.tables import utc_now
from exporters.report.content import content_of
from exporters.report.page import write_report
from exporters.report.shapes import Content
from scheduler.cells import Wanted
from scheduler.executors.scripted import Succeed
from scheduler.tables import Attempt, Point, SensorChannel, Telemetry
from tests.unit.scheduler.builders import CRASHED, INT8, TORCH, Farm, in_turn, only, plan_of

MakeFarm = Callable[..., Farm]


def told(farm: Farm, run: int | None = None, **wanted: object) -> Content:
    """All of a report."""
    with reading(farm.engine) as connection:
        return content_of(connection, Wanted(**wanted), run, utc_now())  # type: ignore[arg-type]


def read_sensor(
    farm: Farm, attempt_id: int, device_id: int, quantity: str, *values: float | None, unit: str = "C"
) -> None:
    """Readings of a sensor during an attempt, one a second."""
    with writing(farm.engine) as connection:
        channel = {"sensor": "zones", "domain": "cpu", "quantity": quantity, "unit": unit}
        made = connection.execute(insert(table_of(SensorChannel)).values(channel)).inserted_primary_key
        assert made is not None
        for second, value in enumerate(values):
            row = {
                "at": datetime.fromtimestamp(second, UTC),
                "attempt_id": attempt_id,
                "device_id": device_id,
                "channel_id": made[0],
                "value": value,
                "quality": "ok" if value is not None else "no_permission",
            }
            connection.execute(insert(table_of(Telemetry)).values(row))


@pytest.fixture
def measured(make_farm: MakeFarm) -> Farm:
    """A model on two devices; one variant crashes."""
    farm = make_farm(devices=2)
    farm.clock.now = utc_now() - timedelta(minutes=10)
    farm.play(only("measure onnx int8-static", CRASHED))
    farm.run(plan_of(farm.devices(), TORCH, INT8))
    return farm


def test_a_report_tells_of_matrix_coverage_failures_and_environment(measured: Farm) -> None:
    content = told(measured)
    [section] = content.sections
    assert (section.model, section.grids[0].columns) == ("net", ("d0", "d1"))
    assert ("2 of 4", "cells valid and fresh") in content.headline
    assert content.coverage is not None
    assert content.coverage.facts is not None
    assert content.coverage.facts.rows == [["cpu", "2", "0", "0", "2", "0", "0"]]
    assert content.reasons is not None
    assert [(row[0], row[2]) for row in content.reasons.rows] == [("failed", "2 devices")]
    assert content.run == "1"
    assert content.epochs is not None
    assert content.epochs.rows == []


def test_a_change_of_environment_is_a_new_epoch(measured: Farm) -> None:
    points = table_of(Point)
    measured.run(plan_of(measured.devices()[:1], TORCH, salt="again"))
    with writing(measured.engine) as connection:
        connection.execute(update(points).where(points.c.sweep_run_id == 2).values(environment_digest="other"))
    content = told(measured)
    assert content.epochs is not None
    assert [row[1:] for row in content.epochs.rows] == [["d0", "net", "torch fp32", "other"]]


def test_telemetry_shows_the_timed_part_and_throttling(make_farm: MakeFarm) -> None:
    farm = make_farm()
    farm.play(in_turn(Succeed(verdict="throttled")))
    farm.run(plan_of(farm.devices(), TORCH))
    [row] = farm.results()
    read_sensor(farm, row.attempt_id, row.device_id, "temperature", 40.0, None, 44.0)
    read_sensor(farm, row.attempt_id, row.device_id, "throttle_events", 0.0, 2.0)
    [chart] = told(farm).telemetry  # of the latest run, though it has no valid value
    assert chart.title == "d0: temperature, C"
    assert chart.figure is not None
    assert chart.figure["data"][0]["y"] == [40.0, None, 44.0]
    shapes = [(shape["x0"], shape["x1"]) for shape in chart.figure["layout"]["shapes"]]
    assert shapes == [(1.0, 2.0), (0.5, 1.5)]  # its timed part, as the scripted host tells it, and the event
    texts = [note["text"] for note in chart.figure["layout"]["annotations"]]
    assert texts == ["throttled", "throttle event"]
    assert "1 no_permission" in chart.caption


def test_a_quantity_in_two_units_has_two_pictures(make_farm: MakeFarm) -> None:
    farm = make_farm()
    farm.run(plan_of(farm.devices(), TORCH))
    [row] = farm.results()
    read_sensor(farm, row.attempt_id, row.device_id, "temperature", 40.0, 44.0)
    read_sensor(farm, row.attempt_id, row.device_id, "temperature", 313.0, 317.0, unit="K")
    drawn = {chart.id: chart.figure for chart in told(farm).telemetry}
    assert [figure["data"][0]["y"] for figure in drawn.values() if figure is not None] == [[40.0, 44.0], [313.0, 317.0]]


def test_the_timed_part_of_a_host_whose_clock_was_ahead_is_moved_as_its_readings_were(make_farm: MakeFarm) -> None:
    farm = make_farm()
    run = farm.run(plan_of(farm.devices(), TORCH))
    [row] = farm.results()
    read_sensor(farm, row.attempt_id, row.device_id, "temperature", 40.0, 41.0)
    attempts = table_of(Attempt)
    with writing(farm.engine) as connection:
        connection.execute(update(attempts).where(attempts.c.id == row.attempt_id).values(clock_offset_s=1000.0))
    [chart] = told(farm, run).telemetry
    assert chart.figure is not None
    assert chart.figure["layout"]["shapes"][0]["x0"] == -999.0


def test_without_sensors_the_report_says_so(measured: Farm) -> None:
    content = told(measured)
    assert content.telemetry == []
    assert "No sensor of its devices gave a value" in content.telemetry_note


def test_a_report_of_some_devices(measured: Farm) -> None:
    content = told(measured, selector="name=d1")
    assert content.sections[0].grids[0].columns[0] == "latency p50"
    assert "on d1" in content.sections[0].grids[0].title
    assert content.scope == "every model, devices name=d1"


def test_refusals(measured: Farm, make_farm: MakeFarm) -> None:
    with pytest.raises(UsageError, match="no run 99"):
        told(measured, 99)
    with pytest.raises(UsageError, match="did you mean net"):
        told(measured, models=("nett",))
    with pytest.raises(UsageError, match="nothing was measured yet"):
        told(make_farm())


def test_the_file_is_written_whole(measured: Farm, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with reading(measured.engine) as connection:
        size = write_report(connection, Wanted(), None, path, utc_now())
    page = path.read_text(encoding="utf-8")
    assert size == path.stat().st_size
    assert page.lstrip().startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    text = page.partition('id="figures">')[2].partition("</script>")[0]
    assert set(json.loads(text)) >= {"freshness", "coverage"}
    assert list(tmp_path.glob(".report*")) == []
