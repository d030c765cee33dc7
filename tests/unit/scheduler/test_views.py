"""The views: what the database says is what the tables of runs say, on either database, and every column is told of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text, update

from device_registry.database import reading, writing
from device_registry.registry import devices
from device_registry.tables import utc_now
from scheduler import schema
from scheduler.comparisons import run_results
from scheduler.executors.scripted import Succeed
from scheduler.points import points, series
from scheduler.states import events, record
from scheduler.views import AVAILABILITY_DAYS, VIEWS, fingerprint, page, view_of
from tests.unit.scheduler.builders import (
    CRASHED,
    INT8,
    ONNX,
    TORCH,
    Farm,
    in_turn,
    of_invocations_in_turn,
    plan_of,
)
from workers.contract import Order

MakeFarm = Callable[..., Farm]

#: What the newest revision's views are. Whoever changes one writes a migration, be it an empty one, and both lines.
_FINGERPRINT = ("0008", "28120232c16cad8abd6e35a37c9896f2c700ff8eac9c2034adb99e4a970fe3f1")


def _rows(farm: Farm, view: str, *order: str, **where: Any) -> list[Any]:
    table = view_of(view)
    query = select(table).where(*(table.c[name] == value for name, value in where.items()))
    with reading(farm.engine) as connection:
        return list(connection.execute(query.order_by(*(table.c[name] for name in order))))


def _times(times: dict[tuple[str, str, int], list[float]], **changes: Any) -> Callable[[Order], Any]:
    """Process medians of each runtime, recipe and thread count, one after the other."""
    left = {key: list(values) for key, values in times.items()}

    def play(order: Order) -> Any:
        if order.measure is None:
            return Succeed()
        task = order.measure
        return Succeed(p50_ms=left[task.runtime, task.recipe, task.options.threads].pop(0))

    return play


def test_every_view_has_the_columns_that_its_page_tells_of(farm: Farm) -> None:
    farm.run(plan_of(farm.devices(), TORCH))
    with reading(farm.engine) as connection:
        for view in VIEWS:
            found = connection.execute(text(f"SELECT * FROM {view.name}"))
            assert list(found.keys()) == [column.name for column in view.columns]
            connection.execute(select(view_of(view.name))).all()  # and values of the kinds that it says
    names = [view.name for view in VIEWS]
    assert len(names) == len(set(names))


def test_the_page_of_views_is_what_the_code_says() -> None:
    assert (Path(__file__).parents[3] / "docs" / "views.md").read_text(encoding="utf-8") == page()


def test_views_change_with_a_revision() -> None:
    assert (schema.HEAD, fingerprint()) == _FINGERPRINT


def test_a_migration_makes_the_views_anew(farm: Farm) -> None:
    """A column that a view reads could not be changed beneath it."""
    with writing(farm.engine) as connection:
        connection.execute(text("DROP VIEW job_outcome"))
        connection.execute(text("CREATE VIEW job_outcome AS SELECT 1 AS outdated"))
        connection.execute(text("CREATE VIEW somebodys_own AS SELECT 2 AS kept"))
    try:
        schema.upgrade(farm.engine)
        assert _rows(farm, "job_outcome") == []
        with reading(farm.engine) as connection:
            assert connection.execute(text("SELECT kept FROM somebodys_own")).scalar_one() == 2
    finally:
        with writing(farm.engine) as connection:
            connection.execute(text("DROP VIEW somebodys_own"))


def test_the_latest_results_are_those_of_the_last_run(farm: Farm) -> None:
    """Row by row what `comparisons` says of the run, which reads the documents."""
    times = {("torch", "fp32", 1): [2.0, 2.1, 2.2, 2.3, 2.4], ("onnxruntime", "fp32", 1): [1.0, 1.1, 1.2, 1.3, 1.4]}
    farm.run(plan_of(farm.devices(), TORCH, ONNX, salt="before"))
    farm.play(_times(times))
    run_id = farm.run(plan_of(farm.devices(), TORCH, ONNX, repeats=5))
    with reading(farm.engine) as connection:
        told = {row["runtime"]: row for row in run_results(connection, run_id).results}
    found = {row.runtime: row for row in _rows(farm, "latest_result")}
    assert set(found) == set(told) == {"torch", "onnxruntime"}
    alike = [
        *("device", "model", "weights", "format", "recipe", "threads", "batch", "mode", "precision", "compute_unit"),
        *("p50_ms", "p90_ms", "p95_ms", "p99_ms", "load_ms", "compile_ms", "first_inference_ms", "peak_rss_bytes"),
        *("energy_per_inference_mj", "quantised_flop_share", "delegated_share", "artifact_bytes", "artifact_sha256"),
    ]
    for runtime, row in found.items():
        expected = told[runtime]
        assert {name: getattr(row, name) for name in alike} == {name: expected[name] for name in alike}
        assert [row.p50_ci_low_ms, row.p50_ci_high_ms] == expected["p50_ci_ms"]
        assert (row.sweep_run_id, row.processes, row.flags, row.options_text) == (run_id, 5, "", "")
        assert row.flags.split(", ") == (expected["flags"] or [""])
    assert found["torch"].throughput_per_s == pytest.approx(1000 / 2.2)
    assert (found["torch"].unconverted, found["onnxruntime"].unconverted) == (True, False)


def test_speedups_are_those_of_a_run(farm: Farm) -> None:
    times: dict[tuple[str, str, int], list[float]] = {}
    for threads in (1, 2):
        times |= {("torch", "fp32", threads): [4.0 / threads], ("onnxruntime", "fp32", threads): [2.0 * threads]}
        times[("onnxruntime", "int8-static", threads)] = [1.0]
    farm.play(_times(times))
    run_id = farm.run(plan_of(farm.devices(), TORCH, ONNX, INT8, threads=(1, 2)))
    with reading(farm.engine) as connection:
        told = {
            (row["runtime"], row["recipe"], row["threads"]): row["speedup"]
            for row in run_results(connection, run_id).results
        }
    rows = _rows(farm, "variant_vs_baseline")
    assert {(row.runtime, row.recipe, row.threads): row.speedup for row in rows} == told
    assert set(told.values()) == {1.0, 2.0, 4.0, 0.5}
    assert {(row.baseline_runtime, row.baseline_recipe) for row in rows} == {("torch", "fp32")}
    assert {row.size_ratio for row in rows if row.runtime == "torch"} == {1.0}


def test_on_a_phone_what_was_converted_in_fp32_is_the_baseline(
    make_farm: MakeFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm = make_farm(kind="phone")
    of_invocations_in_turn(monkeypatch, "mean", "mean")
    farm.play(_times({("onnxruntime", "fp32", 1): [3.0], ("onnxruntime", "int8-static", 1): [1.0]}))
    farm.run(plan_of(farm.devices(), ONNX, INT8))
    assert [(row.recipe, row.baseline_recipe, row.speedup) for row in _rows(farm, "variant_vs_baseline", "recipe")] == [
        ("fp32", "fp32", 1.0),
        ("int8-static", "fp32", 3.0),
    ]


def test_wrong_outputs_are_compared_with_nothing(farm: Farm) -> None:
    farm.play(_times({("torch", "fp32", 1): [1.0], ("onnxruntime", "fp32", 1): [2.0]}))
    farm.run(plan_of(farm.devices(), TORCH, ONNX))
    with writing(farm.engine) as connection:
        connection.execute(update(points).where(points.c.value == 1.0).values(flags="noisy, outputs_wrong"))
    assert [(row.runtime, row.speedup) for row in _rows(farm, "variant_vs_baseline", "runtime")] == [
        ("onnxruntime", None),
        ("torch", None),
    ]
    rows = _rows(farm, "device_vs_device", "runtime")
    assert [(row.runtime, row.fastest_device, row.slowdown) for row in rows] == [
        ("onnxruntime", "d0", 1.0),
        ("torch", None, None),
    ]


def _devices_farm(make_farm: MakeFarm, simulated: set[str]) -> Farm:
    farm = make_farm(kind="phone", devices=4)
    found = farm.host.devices
    farm.host.plug([replace(one, attributes={"simulated": one.name in simulated, "model": "M"}) for one in found])
    farm.tick()
    farm.tick()
    return farm


def test_devices_are_ranked_by_intervals_and_simulated_ones_apart(make_farm: MakeFarm) -> None:
    farm = _devices_farm(make_farm, {"d3"})
    medians = {"here:0": 1.0, "here:1": 1.01, "here:2": 2.0, "here:3": 0.1}

    def play(order: Order) -> Any:
        if order.measure is None:
            return Succeed()
        return Succeed(p50_ms=medians[order.place] + 0.02 * (order.attempt_id % 3))

    farm.play(play)
    farm.run(plan_of(farm.devices(), TORCH, repeats=5))
    rows = _rows(farm, "device_vs_device", "device")
    assert [(row.device, row.simulated, row.place) for row in rows] == [
        ("d0", False, 1),
        ("d1", False, 1),
        ("d2", False, 3),
        ("d3", True, None),
    ]
    fastest = min(rows[:3], key=lambda row: row.p50_ms)
    assert {row.fastest_device for row in rows[:3]} == {fastest.device}
    assert [row.slowdown for row in rows] == pytest.approx(
        [row.p50_ms / fastest.p50_ms for row in rows[:3]] + [1.0], rel=1e-9
    )
    assert (rows[3].fastest_device, rows[0].device_model, rows[0].host) == ("d3", "M", "here")


def test_few_processes_have_no_place(make_farm: MakeFarm) -> None:
    farm = _devices_farm(make_farm, set())
    farm.run(plan_of(farm.devices(), TORCH, repeats=4))
    assert {row.place for row in _rows(farm, "device_vs_device")} == {None}


def test_the_pareto_front_is_what_nothing_beats(farm: Farm) -> None:
    cases = {(1, 1.0): 9.0, (2, 2.0): 5.0, (3, 3.0): 5.0, (4, 4.0): 1.0, (5, 4.0): 1.0, (6, 4.0): 2.0, (7, 9.0): None}
    farm.play(_times({("torch", "fp32", threads): [p50_ms] for threads, p50_ms in cases}))
    farm.run(plan_of(farm.devices(), TORCH, threads=range(1, 8)))
    with writing(farm.engine) as connection:
        for (threads, _), energy_mj in cases.items():
            mine = points.c.series_id.in_(select(series.c.id).where(series.c.threads == threads))
            connection.execute(update(points).where(mine).values(energy_per_inference_mj=energy_mj))
    rows = _rows(farm, "energy_vs_latency", "threads")
    assert [(row.threads, row.on_pareto_front) for row in rows] == [
        (1, True),
        (2, True),
        (3, False),
        (4, True),
        (5, True),
        (6, False),
    ]
    assert rows[0].power_mw == 9000.0


def test_a_history_tells_invalid_points_and_new_epochs(farm: Farm) -> None:
    for verdict in ("valid", "contaminated", "valid", "valid"):
        farm.play(in_turn(Succeed(verdict=verdict)))
        farm.run(plan_of(farm.devices(), TORCH))
    with writing(farm.engine) as connection:
        connection.execute(update(points).where(points.c.sweep_run_id == 3).values(environment_digest="e"))
    rows = _rows(farm, "point_history", "at")
    assert [(row.sweep_run_id, row.verdict, row.new_epoch) for row in rows] == [
        (1, "valid", False),
        (2, "contaminated", False),
        (3, "valid", True),
        (4, "valid", True),
    ]
    assert [row.point_id for row in rows] == [row.id for row in farm.points()]
    assert _rows(farm, "latest_result")[0].point_id == rows[-1].point_id


def test_jobs_tell_how_long_they_waited_and_ran(farm: Farm) -> None:
    began = farm.clock.now
    farm.play(lambda order: "silent" if order.measure is not None else Succeed())
    farm.submit(plan_of(farm.devices(), TORCH))
    while not farm.live() or farm.live()[0].job_id != farm.job("measure").id:
        farm.tick()
    started = farm.live()[0].started_at
    farm.clock.advance(7)
    farm.host.finish(farm.live()[0].id, CRASHED)
    farm.settle()
    convert, measure = _rows(farm, "job_outcome", "job_id")
    assert (convert.kind, convert.state, convert.device, convert.host) == ("convert", "succeeded", None, "here")
    assert (measure.state, measure.device, measure.device_kind, measure.host) == ("failed", "d0", "cpu", "here")
    assert (measure.failure_cause, measure.failure_code) == ("model", "crashed")
    assert measure.queue_wait_s == pytest.approx((started - began).total_seconds(), abs=1e-3)
    assert measure.run_s == pytest.approx((measure.finished_at - started).total_seconds(), abs=1e-3)
    assert measure.run_s > 6.9
    assert (measure.created_at, measure.started_at) == (began, started)


def test_a_job_that_never_began_has_no_times(farm: Farm) -> None:
    farm.play("silent")
    farm.submit(plan_of(farm.devices(), TORCH))
    row = _rows(farm, "job_outcome", kind="measure")[0]
    assert (row.state, row.started_at, row.finished_at, row.queue_wait_s, row.run_s) == (
        "blocked",
        None,
        None,
        None,
        None,
    )
    assert row.device == "d0"


# ---- availability ----------------------------------------------------------------------------------------------------


def _midnight(days_ago: int) -> datetime:
    now = utc_now()
    return datetime(now.year, now.month, now.day, tzinfo=UTC) - timedelta(days=days_ago)


def _presence(farm: Farm, device: str, *changes: tuple[datetime, str]) -> None:
    """What a device's events say, instead of what they said, and its row with them."""
    device_id = next(one.id for one in farm.devices() if one.name == device)
    before = None
    with writing(farm.engine) as connection:
        mine = (events.c.entity == "device", events.c.entity_id == device_id)
        connection.execute(events.delete().where(*mine))
        for at, after in changes:
            record(connection, "device", device_id, before, after, who="farm", why=None, now=at)
            before = after
            if after != "tagged":
                connection.execute(update(devices).where(devices.c.id == device_id).values(presence=after))


def _shares(farm: Farm, device: str) -> dict[date, tuple[float | None, int]]:
    return {
        row.day: (row.online_share, row.changes) for row in _rows(farm, "device_availability", "day", device=device)
    }


def test_availability_is_what_events_tell(make_farm: MakeFarm) -> None:
    farm = make_farm(kind="phone", devices=5)
    long_ago = utc_now() - timedelta(days=AVAILABILITY_DAYS + 40)
    _presence(farm, "d0", (long_ago, "online"))
    _presence(farm, "d1", (long_ago, "online"), (long_ago + timedelta(days=1), "offline"))
    came = _midnight(3) + timedelta(hours=18)
    _presence(farm, "d2", (came, "online"))
    noon = _midnight(5) + timedelta(hours=12)
    back = noon + timedelta(days=1, hours=6)
    _presence(farm, "d3", (long_ago, "online"), (noon, "offline"), (back, "unauthorized"), (back, "online"))
    _presence(farm, "d4")
    days = [_midnight(ago).date() for ago in reversed(range(AVAILABILITY_DAYS))]
    assert _shares(farm, "d0") == dict.fromkeys(days, (1.0, 0))
    assert _shares(farm, "d1") == dict.fromkeys(days, (0.0, 0))
    assert _shares(farm, "d2") == dict.fromkeys(days[-4:], (1.0, 0))
    found = _shares(farm, "d3")
    assert list(found) == days
    assert [found[days[-6]][0], found[days[-5]][0]] == pytest.approx([0.5, 0.25])
    assert [found[days[-6]][1], found[days[-5]][1]] == [1, 2]
    assert {share for day, share in found.items() if day not in (days[-6], days[-5])} == {(1.0, 0)}
    assert _shares(farm, "d4") == dict.fromkeys(days, (1.0, 0))  # as it is now


def test_a_tag_is_no_change_of_presence(make_farm: MakeFarm) -> None:
    farm = make_farm(kind="phone")
    _presence(farm, "d0", (_midnight(2), "offline"), (_midnight(2) + timedelta(hours=1), "tagged"))
    assert set(_shares(farm, "d0").values()) == {(0.0, 0)}


def test_a_clock_that_was_set_back_gives_no_negative_time(make_farm: MakeFarm) -> None:
    farm = make_farm(kind="phone")
    _presence(farm, "d0", (_midnight(1), "online"), (_midnight(2), "offline"), (_midnight(1), "online"))
    assert all(0 <= (share or 0) <= 1 for share, _ in _shares(farm, "d0").values())


def test_days_are_utc_whatever_zone_a_session_is_in(make_farm: MakeFarm) -> None:
    farm = make_farm(kind="phone")
    _presence(farm, "d0", (_midnight(2), "online"))
    expected = _shares(farm, "d0")
    if farm.engine.dialect.name != "postgresql":
        return
    table = view_of("device_availability")
    with farm.engine.connect() as connection:
        connection.execute(text("SET LOCAL timezone = 'Pacific/Auckland'"))
        rows = connection.execute(select(table.c.day, table.c.online_share, table.c.changes)).all()
    assert {row.day: (row.online_share, row.changes) for row in rows} == expected


def test_telemetry_is_told_with_its_device_and_job(farm: Farm) -> None:
    from device_registry.database import table_of
    from scheduler.tables import SensorChannel, Telemetry  # what the farm keeps: made by hand, for hosts here have none

    farm.run(plan_of(farm.devices(), TORCH))
    attempt = farm.attempts()[-1]
    channels, telemetry = table_of(SensorChannel), table_of(Telemetry)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    with writing(farm.engine) as connection:
        connection.execute(insert(channels).values(id=1, sensor="zone", domain="soc", quantity="temperature", unit="C"))
        common = {"device_id": attempt.device_id, "channel_id": 1}
        connection.execute(insert(telemetry).values(at=at, attempt_id=attempt.id, value=41.0, quality="ok", **common))
        later = at + timedelta(seconds=1)
        connection.execute(
            insert(telemetry).values(at=later, attempt_id=None, value=None, quality="stale", why="gone", **common)
        )
    during, between = _rows(farm, "telemetry_reading", "at")
    assert (during.at, during.device, during.attempt_id, during.job_id) == (at, "d0", attempt.id, attempt.job_id)
    assert (during.domain, during.quantity, during.unit, during.value) == ("soc", "temperature", "C", 41.0)
    assert (between.attempt_id, between.job_id, between.value, between.quality, between.why) == (
        None,
        None,
        None,
        "stale",
        "gone",
    )
