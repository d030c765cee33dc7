"""A farm's state as series: what is there, under which labels, and what is shown when the database is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, text, update

from device_registry.capabilities import DeviceDescription
from device_registry.database import writing
from device_registry.errors import BenchfarmError
from device_registry.registry import devices, hosts
from exporters.keeper import Keeper
from exporters.prometheus import SHOWN_S, Exposition
from exporters.reader import FarmReader
from scheduler.coverage import cells
from scheduler.executors.scripted import Succeed
from scheduler.points import points
from scheduler.schema import HEAD, SchemaError
from scheduler.telemetry import channels, telemetry
from tests.unit.exporters.test_families import read
from tests.unit.scheduler.builders import CRASHED, ONNX, TORCH, Farm, only, plan_of

Labels = dict[str, str]


class Shown:
    """Looks at a farm, by its own clock."""

    def __init__(self, farm: Farm, **options: Any) -> None:
        self._monotonic_s = 0.0
        self._reader = FarmReader(farm.url, farm.folder, clock=farm.clock, monotonic=self._now, **options)

    def _now(self) -> float:
        return self._monotonic_s

    def look(self, after_s: float = 1000.0) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """All series as Prometheus reads them, after so many seconds."""
        self._monotonic_s += after_s
        self.snapshot = self._reader.read()
        return read(b"".join(family.text for family in self.snapshot.families))

    def close(self) -> None:
        self._reader.close()


@pytest.fixture
def shown(farm: Farm) -> Iterator[Shown]:
    made = Shown(farm)
    yield made
    made.close()


def series(found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str) -> dict[Any, float]:
    """Values of one metric by its labels, or by its one label."""
    values = {tuple(sorted(labels)): value for (known, labels), value in found.items() if known == name}
    return {(labels[0][1] if len(labels) == 1 else labels): value for labels, value in values.items()}


def value(found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    """The one value with exactly these labels."""
    return found[name, frozenset(labels.items())]


def of(found: dict[tuple[str, frozenset[tuple[str, str]]], float], device: str) -> set[str]:
    """Names of metrics that a device has series of."""
    return {name for name, labels in found if ("device", device) in labels}


D0 = {"device": "d0", "device_kind": "cpu"}
WHO = {**D0, "host": "here", "simulated": "false"}
CASE = {**D0, "simulated": "false", "model": "net", "runtime": "torch", "recipe": "fp32", "options": "t1 b1 burst"}


def test_a_farm_without_work(farm: Farm, shown: Shown) -> None:
    found = shown.look()
    assert value(found, "benchfarm_dispatcher_up") == 1
    assert value(found, "benchfarm_host_up", host="here") == 1
    assert value(found, "benchfarm_host_state", host="here", state="online") == 1
    assert value(found, "benchfarm_devices", device_kind="cpu", state="idle") == 1
    assert value(found, "benchfarm_device_up", **WHO) == 1
    assert value(found, "benchfarm_device_state", **D0, state="idle") == 1
    assert value(found, "benchfarm_device_admin", **D0, admin="enabled") == 1
    assert value(found, "benchfarm_device_info", **WHO, device_model="", os="", soc="") == 1
    assert value(found, "benchfarm_jobs", kind="measure", state="queued") == 0
    assert value(found, "benchfarm_database_bytes") > 10_000
    assert value(found, "benchfarm_home_disk_free_bytes") > 0
    assert series(found, "benchfarm_queue_oldest_seconds") == {}
    assert series(found, "benchfarm_result_latency_seconds") == {}


def test_jobs_wait_run_and_rest(farm: Farm, shown: Shown) -> None:
    shown.look()
    farm.play("silent")
    run_id = farm.submit(plan_of(farm.devices(), TORCH, ONNX)).sweep_run_id
    farm.tick(1)
    found = shown.look()
    assert value(found, "benchfarm_jobs", kind="convert", state="running") == 1
    assert value(found, "benchfarm_jobs", kind="convert", state="blocked") == 1
    assert value(found, "benchfarm_jobs", kind="measure", state="blocked") == 2
    assert value(found, "benchfarm_jobs", kind="measure", state="queued") == 0
    farm.submit(plan_of(farm.devices(), TORCH, model="other"))
    farm.clock.advance(8)
    found = shown.look()
    assert value(found, "benchfarm_jobs", kind="convert", state="queued") == 1
    assert value(found, "benchfarm_queue_oldest_seconds", kind="convert") == 8
    farm.leave(run_id)
    found = shown.look()
    assert value(found, "benchfarm_jobs", kind="convert", state="resting") == 1
    assert value(found, "benchfarm_jobs", kind="measure", state="resting") == 2


def test_results_and_coverage(farm: Farm, shown: Shown) -> None:
    farm.play(only("measure onnx", CRASHED))
    farm.run(plan_of(farm.devices(), TORCH, ONNX))
    measured_at = farm.points()[0].at
    found = shown.look()
    assert value(found, "benchfarm_result_latency_seconds", **CASE, quantile="0.5") == 0.001
    assert value(found, "benchfarm_result_timestamp_seconds", **CASE) == measured_at.timestamp()
    assert len(series(found, "benchfarm_result_timestamp_seconds")) == 1
    # No energy, no temperature, no p99 was told: absent, not 0.
    assert of(found, "d0") & {"benchfarm_result_energy_joules", "benchfarm_result_temperature_celsius"} == set()
    assert len(series(found, "benchfarm_result_latency_seconds")) == 1
    assert value(found, "benchfarm_coverage_cells", device_kind="cpu", simulated="false", state="stale") == 1  # in 2026
    assert value(found, "benchfarm_coverage_cells", device_kind="cpu", simulated="false", state="failed") == 1
    with writing(farm.engine) as connection:
        told = {"p99_ms": 2.5, "energy_per_inference_mj": 12.0, "temperature_c": 61.5}
        connection.execute(update(points).values(**told))
    found = shown.look()
    assert value(found, "benchfarm_result_latency_seconds", **CASE, quantile="0.99") == 0.0025
    assert value(found, "benchfarm_result_energy_joules", **CASE) == 0.012
    assert value(found, "benchfarm_result_temperature_celsius", **CASE) == 61.5


def test_a_newer_result_takes_the_place_of_the_older(farm: Farm, shown: Shown) -> None:
    farm.run(plan_of(farm.devices(), TORCH))
    assert value(shown.look(), "benchfarm_result_latency_seconds", **CASE, quantile="0.5") == 0.001
    farm.play(Succeed(p50_ms=3.0))
    farm.run(plan_of(farm.devices(), TORCH, salt="again"))
    assert value(shown.look(1.0), "benchfarm_result_latency_seconds", **CASE, quantile="0.5") == 0.003
    farm.play(Succeed(p50_ms=9.0, verdict="throttled"))
    farm.run(plan_of(farm.devices(), TORCH, salt="hot"))
    assert value(shown.look(1.0), "benchfarm_result_latency_seconds", **CASE, quantile="0.5") == 0.003


def test_threads_and_weights_are_told_apart(farm: Farm, shown: Shown) -> None:
    plan = plan_of(farm.devices(), TORCH, threads=(1, 4))
    [one, four] = plan.measurements
    pretrained = replace(one, task=replace(one.task, weights="pretrained"), case_key="pretrained")
    plan.measurements = [one, four, pretrained]
    farm.run(plan)
    found = series(shown.look(), "benchfarm_result_timestamp_seconds")
    options = {dict(labels)["options"] for labels in found}
    assert options == {"t1 b1 burst", "t4 b1 burst", "t1 b1 burst pretrained"}


def test_series_vanish_with_their_device(make_farm: Callable[..., Farm]) -> None:
    farm = make_farm(devices=2)
    shown = Shown(farm)
    farm.run(plan_of(farm.devices(), TORCH))
    found = shown.look()
    assert of(found, "d0") == of(found, "d1") != set()
    [gone] = [device.id for device in farm.devices() if device.name == "d1"]
    assert gone is not None
    with writing(farm.engine) as connection:
        connection.execute(delete(cells).where(cells.c.device_id == gone))
        farm_tables = ("UPDATE attempt SET device_id = NULL WHERE device_id = :gone",)
        for statement in farm_tables:
            connection.execute(text(statement), {"gone": gone})
        connection.execute(text("DELETE FROM result WHERE device_id = :gone"), {"gone": gone})
        of_series = "(SELECT id FROM series WHERE device_id = :gone)"
        connection.execute(text(f"DELETE FROM point WHERE series_id IN {of_series}"), {"gone": gone})
        connection.execute(text("DELETE FROM series WHERE device_id = :gone"), {"gone": gone})
        connection.execute(text("UPDATE job SET device_id = NULL WHERE device_id = :gone"), {"gone": gone})
        connection.execute(text("UPDATE requirement SET device_id = NULL WHERE device_id = :gone"), {"gone": gone})
        connection.execute(delete(devices).where(devices.c.id == gone))
    found = shown.look(1.0)  # no event tells of it
    assert of(found, "d1") == set()
    assert of(found, "d0") != set()
    shown.close()


def test_states_of_devices(make_farm: Callable[..., Farm]) -> None:
    farm = make_farm(devices=6)
    shown = Shown(farm)
    soon = farm.clock() + timedelta(minutes=1)
    changes: dict[str, dict[str, Any]] = {
        "d1": {"presence": "unauthorized", "admin": "quarantined"},
        "d2": {"admin": "maintenance"},
        "d3": {"not_before": soon},
        "d4": {"presence": "upside down"},
        "d5": {"attributes": {"simulated": True, "model": 'Pixel "8"\n\\', "os": "Android", "os_version": "15"}},
    }
    with writing(farm.engine) as connection:
        for name, changed in changes.items():
            connection.execute(update(devices).where(devices.c.name == name).values(**changed))
    found = shown.look()
    states = {dict(labels)["device"]: dict(labels)["state"] for labels in series(found, "benchfarm_device_state")}
    assert states == {
        "d0": "idle", "d1": "unauthorized", "d2": "maintenance", "d3": "cooling", "d4": "other", "d5": "idle",
    }  # fmt: skip
    assert value(found, "benchfarm_device_up", **(WHO | {"device": "d1"})) == 0
    assert value(found, "benchfarm_device_admin", device="d1", device_kind="cpu", admin="quarantined") == 1
    facts = {"device_model": 'Pixel "8"\n\\', "os": "Android 15", "soc": ""}
    assert value(found, "benchfarm_device_info", **(WHO | {"device": "d5", "simulated": "true"}), **facts) == 1
    assert shown.snapshot.refused == {"benchfarm_device_state.state": 1, "benchfarm_devices.state": 1}
    shown.close()


def test_two_devices_of_one_name_are_two(make_farm: Callable[..., Farm]) -> None:
    farm = make_farm()
    other = farm.add_host("there")
    other.plug([DeviceDescription(key="there:0", name="d0", kind="cpu", driver="scripted")])
    farm.tick()
    shown = Shown(farm)
    found = shown.look()
    assert {dict(labels)["device"] for labels in series(found, "benchfarm_device_up")} == {"d0@here", "d0@there"}
    shown.close()


def test_readings_are_the_latest_and_grow_old(farm: Farm, shown: Shown) -> None:
    [device] = farm.devices()

    def tell(at_s: float, *readings: tuple[str, str, str, float | None, str]) -> None:
        with writing(farm.engine) as connection:
            known = {tuple(row)[1:]: row.id for row in connection.execute(channels.select())}
            for domain, quantity, unit, number, quality in readings:
                meaning = ("test", domain, quantity, unit)
                if meaning not in known:
                    names = ("sensor", "domain", "quantity", "unit")
                    row = connection.execute(
                        insert(channels).values(**dict(zip(names, meaning, strict=True))).returning(channels.c.id)
                    )
                    known[meaning] = row.scalar_one()
                connection.execute(
                    insert(telemetry).values(
                        at=farm.clock() + timedelta(seconds=at_s),
                        device_id=device.id,
                        channel_id=known[meaning],
                        value=number,
                        quality=quality,
                    )
                )

    tell(-20, ("zone", "temperature", "C", 40.0, "ok"), ("battery", "level", "%", 80.0, "ok"))
    tell(-10, ("zone", "temperature", "C", 50.0, "partial"), ("disk", "free", "bytes", 5e9, "ok"))
    tell(-5, ("zone", "temperature", "C", None, "no_permission"), ("skin", "temperature", "C", 33.0, "ok"))
    tell(-5, ("odd", "temperature", "K", 300.0, "ok"), ("odd", "temperature", "C", 1e9, "implausible"))
    found = shown.look()
    assert value(found, "benchfarm_device_temperature_celsius", **D0, domain="zone") == 50
    assert value(found, "benchfarm_device_temperature_celsius", **D0, domain="skin") == 33
    assert len(series(found, "benchfarm_device_temperature_celsius")) == 2
    assert value(found, "benchfarm_device_battery_ratio", **D0) == 0.8
    assert value(found, "benchfarm_host_disk_free_bytes", host="here") == 5e9
    tell(0, ("zone", "temperature", "C", 45.0, "ok"))
    farm.clock.advance(592)
    found = shown.look()
    temperatures = series(found, "benchfarm_device_temperature_celsius")
    assert sorted(temperatures.values()) == [33, 45]
    assert of(found, "d0") & {"benchfarm_device_battery_ratio"} == set()  # 20 s older than ten minutes allow
    farm.clock.advance(600)
    assert series(shown.look(), "benchfarm_device_temperature_celsius") == {}


def test_a_host_that_left_and_one_that_is_lost(farm: Farm, shown: Shown) -> None:
    with writing(farm.engine) as connection:
        connection.execute(update(hosts).values(presence="left"))
        again = {**farm.rows(hosts)[0]._mapping, "id": 99, "key": "again", "presence": "lost"}
        connection.execute(insert(hosts).values(**again))
        connection.execute(insert(hosts).values(**{**again, "id": 98, "key": "third", "presence": "online"}))
    found = shown.look()
    assert series(found, "benchfarm_host_up") == {"here": 1}  # of three rows of one name the one that is there
    assert len(series(found, "benchfarm_host_state")) == 1


def test_the_budget_leaves_out_devices_and_says_so(make_farm: Callable[..., Farm]) -> None:
    farm = make_farm(devices=6)
    shown = Shown(farm)
    everything = shown.look()
    shown.close()
    small = Shown(farm, budget=len(everything) - 4)
    found = small.look()
    assert len(found) == small.snapshot.series == len(everything) - 4
    assert small.snapshot.dropped["benchfarm_device_used_seconds"] == 4
    assert {dict(labels)["device"] for labels in series(found, "benchfarm_device_used_seconds")} == {"d0", "d1"}
    assert len(series(found, "benchfarm_device_up")) == 6
    small.close()


def test_what_did_not_change_is_not_written_again(farm: Farm, shown: Shown) -> None:
    farm.run(plan_of(farm.devices(), TORCH))
    shown.look()
    before = shown.snapshot.families
    shown.look(1.0)
    anew = {family.name for family, old in zip(shown.snapshot.families, before, strict=True) if family is not old}
    assert anew <= {"benchfarm_database_bytes", "benchfarm_home_disk_free_bytes"}


def test_another_schema_is_not_read(farm: Farm, shown: Shown) -> None:
    shown.look()
    with writing(farm.engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match=f"schema 9999, this exporter reads {HEAD}"):
        shown.look()
    with writing(farm.engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :head"), {"head": HEAD})
    assert shown.look()


def test_a_look_takes_no_longer_than_it_may(farm: Farm) -> None:
    reader = FarmReader(farm.url, farm.folder, look_s=0.2)
    slow = {
        "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
        "postgresql": "SELECT pg_sleep(600)",
    }[farm.engine.dialect.name]
    reader._first.read = lambda connection, *_: connection.execute(text(slow))
    with pytest.raises(Exception, match=r"interrupted|statement timeout"):
        reader.read()
    reader.close()


def test_without_a_database_the_exporter_says_so(tmp_path: Path) -> None:
    file = tmp_path / "none.db"
    reader = FarmReader(f"sqlite:///{file}", tmp_path)
    with pytest.raises(BenchfarmError, match="no database at"):
        reader.read()
    assert not file.exists()  # looking makes none
    keeper = Keeper(reader)
    text_ = Exposition(keeper).text()
    assert read(text_)["benchfarm_exporter_scrape_success", frozenset()] == 0
    keeper.close()


def test_an_old_picture_is_shown_with_its_age_and_then_no_more(farm: Farm) -> None:
    now = [0.0]
    keeper = Keeper(FarmReader(farm.url, farm.folder, clock=farm.clock), monotonic=lambda: now[0])
    exposition = Exposition(keeper, wait_s=30)
    found = read(exposition.text())
    assert value(found, "benchfarm_exporter_scrape_success") == 1
    assert value(found, "benchfarm_exporter_snapshot_age_seconds") == 0
    assert value(found, "benchfarm_exporter_series_budget") == 50_000
    own = {name for name, _ in found if name.startswith("benchfarm_exporter_")}
    assert value(found, "benchfarm_exporter_series") == len([name for name, _ in found if name not in own])
    with writing(farm.engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    now[0] = 100.0
    found = read(exposition.text())
    assert value(found, "benchfarm_exporter_scrape_success") == 0
    assert value(found, "benchfarm_exporter_snapshot_age_seconds") == 100
    assert value(found, "benchfarm_device_up", **WHO) == 1
    now[0] = SHOWN_S + 1
    found = read(exposition.text())
    assert of(found, "d0") == set()
    assert value(found, "benchfarm_exporter_snapshot_age_seconds") == SHOWN_S + 1
    assert value(found, "benchfarm_exporter_series") == 0
    with writing(farm.engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :head"), {"head": HEAD})
    keeper.close()
