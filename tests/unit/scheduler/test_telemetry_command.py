"""`benchfarm telemetry` and `prune`: what sensors told of a job, printed and written, and what is deleted."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchfarm.cli.app import app
from benchfarm.config import telemetry_days
from device_registry.database import reading
from device_registry.errors import UsageError
from device_registry.tables import utc_now
from scheduler import retention
from scheduler.executors.scripted import Succeed
from scheduler.states import attempts
from scheduler.telemetry import telemetry
from scheduler.telemetry_of import export_rows_of, full_rate_of, rows_of, source_of, summaries
from tests.unit.scheduler.builders import BROKEN, TORCH, Farm, plan_of
from tests.unit.scheduler.databases import SqliteDatabases
from workers.report import Reading
from workers.telemetry_block import write_block

_HEAT: dict[str, Any] = {"sensor": "zones", "domain": "cpu", "quantity": "temperature", "unit": "C"}
_ENERGY: dict[str, Any] = {"sensor": "rapl", "domain": "package", "quantity": "energy", "unit": "mJ"}


def _readings(began: float) -> list[Reading]:
    warm = [Reading(**_HEAT, value=40.0 + tenth, quality="ok", at=began + tenth / 10) for tenth in range(5)]
    why = {"value": None, "quality": "no_permission", "why": "only root may read energy_uj"}
    return [*warm, Reading(**_ENERGY, **why, at=began + 0.5)]  # type: ignore[arg-type]


def _measured(farm: Farm, *, outcome: Any = None, block: bool = True, **changes: Any) -> float:
    """A measurement with telemetry, thinned as an agent would; returns when it began."""
    farm.play(lambda order: "silent" if order.convert is None else Succeed())
    farm.submit(plan_of(farm.devices(), TORCH))
    while not farm.host.running:
        farm.tick()
    [attempt] = farm.host.running
    began = farm.clock().timestamp()
    full = _readings(began)
    sha256 = farm.store.put_bytes(write_block(full, began), farm.folder)
    told = {"telemetry": [vars(full[0]), vars(full[4]), vars(full[5])]}
    if block:
        told["telemetry_block"] = {"sha256": sha256, "bytes": 1}  # type: ignore[assignment]
    farm.host.finish(attempt, outcome or Succeed(), **told | changes)
    farm.tick()
    return began


@pytest.fixture
def command_farm(tmp_path: Path, sqlite_databases: SqliteDatabases, monkeypatch: pytest.MonkeyPatch) -> Iterator[Farm]:
    """A farm that commands open, too; they close no connection of their own, so it is on SQLite."""
    farm = Farm(tmp_path / "farm", sqlite_databases)
    farm.clock.now = utc_now() - timedelta(minutes=10)
    monkeypatch.setenv("BENCHFARM_DATABASE_URL", farm.url)
    monkeypatch.setenv("BENCHFARM_STORE_URL", f"file://{farm.folder / 'store'}")
    monkeypatch.setenv("COLUMNS", "200")
    yield farm
    farm.close()


def _printed(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def _refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert isinstance(result.exception, UsageError), result.output
    return str(result.exception)


# What is read back.


def test_each_channel_says_what_it_told_and_what_is_missing_and_why(farm: Farm) -> None:
    _measured(farm)
    with reading(farm.engine) as connection:
        source = source_of(connection, farm.job("measure").id)
        [energy, heat] = summaries(rows_of(connection, source))
    assert (source.device, source.simulated, source.clock_offset_s) == ("d0", False, None)
    assert {name: heat[name] for name in ("first", "last", "min", "median", "max", "count")} == {
        "first": 40.0,
        "last": 44.0,
        "min": 40.0,
        "median": 42.0,
        "max": 44.0,
        "count": 2,
    }
    assert (heat["quality"], heat["missing"], heat["seconds"]) == ({"ok": 2}, [], pytest.approx(0.4))
    assert (energy["count"], energy["first"], energy["median"]) == (0, None, None)
    assert energy["missing"] == [{"quality": "no_permission", "why": "only root may read energy_uj", "count": 1}]


def test_the_full_rate_comes_from_the_store(farm: Farm) -> None:
    began = _measured(farm)
    with reading(farm.engine) as connection:
        source = source_of(connection, farm.job("measure").id)
    full = full_rate_of(farm.store, source)
    assert [one.value for one in full] == [40.0, 41.0, 42.0, 43.0, 44.0, None]
    rows = list(export_rows_of(source, full))
    assert [row["value"] for row in rows] == [one.value for one in full]
    assert datetime.fromisoformat(rows[0]["at"]).timestamp() == pytest.approx(began, abs=1e-5)
    assert rows[3]["offset_s"] - rows[0]["offset_s"] == pytest.approx(0.3, abs=1e-5)


def test_the_full_rate_is_told_by_the_heads_clock_as_its_rows_are(farm: Farm) -> None:
    farm.play(lambda order: "silent" if order.convert is None else Succeed())
    farm.host.now = farm.clock().timestamp() + 3600
    farm.submit(plan_of(farm.devices(), TORCH))
    while not farm.host.running:
        farm.host.now += 1
        farm.tick()
    [attempt] = farm.host.running
    began = farm.host.now
    sha256 = farm.store.put_bytes(write_block(_readings(began), began), farm.folder)
    told = {"telemetry": [vars(one) for one in _readings(began)], "telemetry_block": {"sha256": sha256, "bytes": 1}}
    farm.host.finish(attempt, Succeed(), **told)
    farm.tick()
    with reading(farm.engine) as connection:
        source = source_of(connection, farm.job("measure").id)
        thinned = rows_of(connection, source)
    assert source.clock_offset_s == pytest.approx(3600, abs=2)
    full = full_rate_of(farm.store, source)
    assert [one.at for one in full] == pytest.approx([one.at for one in thinned], abs=1e-5)
    assert abs(full[0].at - farm.clock().timestamp()) < 60


def test_of_several_attempts_the_last_that_told_any_counts(farm: Farm) -> None:
    _measured(farm, outcome=BROKEN)
    while not farm.host.running:
        farm.tick()
    [attempt] = farm.host.running
    farm.host.finish(attempt, Succeed())
    farm.tick()
    with reading(farm.engine) as connection:
        source = source_of(connection, farm.job("measure").id)
    first, second = farm.attempts(attempts.c.job_id == source.job_id)
    assert (source.attempt_id, attempt) == (first.id, second.id)


def _silent(farm: Farm) -> int:
    farm.play(lambda order: "silent" if order.convert is None else Succeed())
    farm.submit(plan_of(farm.devices(), TORCH))
    while not farm.host.running:
        farm.tick()
    return int(farm.job("measure").id)


def _queued(farm: Farm) -> int:
    farm.submit(plan_of(farm.devices(), TORCH))
    return int(farm.job("measure").id)


def _converted(farm: Farm) -> int:
    farm.run(plan_of(farm.devices(), TORCH))
    return int(farm.job("convert").id)


def _told_none(farm: Farm) -> int:
    farm.run(plan_of(farm.devices(), TORCH))
    return int(farm.job("measure").id)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda farm: 77, "there is no job 77"),
        (_queued, "it has not run yet"),
        (_silent, "it runs, and tells when it ends"),
        (_converted, "a conversion is measured by no sensor"),
        (_told_none, "told none, or what they told is pruned by now"),
    ],
    ids=["unknown", "queued", "running", "conversion", "none"],
)
def test_a_job_without_telemetry_says_why(farm: Farm, make: Callable[[Farm], int], why: str) -> None:
    job_id = make(farm)
    with reading(farm.engine) as connection, pytest.raises(UsageError, match=why):
        source_of(connection, job_id)


# The commands.


def test_show_prints_a_line_for_each_channel(command_farm: Farm) -> None:
    _measured(command_farm)
    job = str(command_farm.job("measure").id)
    text = _printed("telemetry", "show", job)
    assert "zones" in text
    assert "40.000" in text
    assert "no value of rapl package energy: 1 x no_permission: only root may read energy_uj" in text
    told = json.loads(_printed("telemetry", "show", job, "--json"))
    assert (told["job"], told["device"]) == (int(job), "d0")
    assert [channel["count"] for channel in told["channels"]] == [0, 2]


def test_export_writes_each_reading(command_farm: Farm, tmp_path: Path) -> None:
    _measured(command_farm)
    job = str(command_farm.job("measure").id)
    rows = list(csv.DictReader(io.StringIO(_printed("telemetry", "export", job))))
    assert [row["value"] for row in rows] == ["40.0", "44.0", ""]
    assert len(json.loads(_printed("telemetry", "export", job, "--format", "json", "--full-rate"))) == 6
    file = tmp_path / "told.parquet"
    _printed("telemetry", "export", job, "--format", "parquet", "--full-rate", "-o", str(file))
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    assert table.column("value").to_pylist() == [40.0, 41.0, 42.0, 43.0, 44.0, None]
    assert str(table.schema.field("value").type) == "double"


def test_what_has_no_block_says_so(command_farm: Farm) -> None:
    _measured(command_farm, block=False)
    job = str(command_farm.job("measure").id)
    assert "has no telemetry at full rate: its agent stored none, or it is pruned" in _refused(
        "telemetry", "export", job, "--full-rate"
    )


def test_a_block_that_is_damaged_is_said_to_be(command_farm: Farm) -> None:
    _measured(command_farm)
    job = command_farm.job("measure")
    [row] = command_farm.attempts(attempts.c.job_id == job.id)
    command_farm.damage(row.telemetry_sha256)
    result = CliRunner().invoke(app, ["telemetry", "export", str(job.id), "--full-rate"])
    assert "cannot be read: artifact" in str(result.exception)


def test_prune_says_what_it_deleted(command_farm: Farm) -> None:
    _measured(command_farm)
    assert "would delete 3 readings and 1 files of 1 attempts" in _printed("prune", "--older-than", "0d", "--dry-run")
    assert "deleted 0 readings and 0 files" in _printed("prune")
    told = json.loads(_printed("prune", "--older-than", "5m", "--json"))
    assert (told["rows"], told["files"], told["dry_run"]) == (3, 1, False)
    assert command_farm.rows(telemetry) == []
    assert len(command_farm.results()) == 1
    assert "pruned by now" in _refused("telemetry", "show", str(command_farm.job("measure").id))


def test_an_interrupted_prune_says_how_far_it_came(command_farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, observe: Callable[[Any], None], **__: Any) -> None:
        observe(retention.Pruned(rows=7))
        raise KeyboardInterrupt

    monkeypatch.setattr(retention, "prune", interrupted)
    result = CliRunner().invoke(app, ["prune"])
    assert result.exit_code == 130
    assert "interrupted: 7 readings and 0 files" in result.stderr


@pytest.mark.parametrize("text", ["", "90", "d", "-1d", "1e3d", "999999999d"])
def test_a_span_that_is_none_is_refused(text: str) -> None:
    assert _refused("prune", f"--older-than={text}")


@pytest.mark.parametrize(("text", "days"), [("", 90), ("0", 0), ("365", 365)])
def test_how_long_a_service_keeps_things(monkeypatch: pytest.MonkeyPatch, text: str, days: int) -> None:
    monkeypatch.setenv("BENCHFARM_TELEMETRY_DAYS", text)
    assert telemetry_days() == days


@pytest.mark.parametrize("text", ["-1", "1.5", "ninety", "99999", "\u0661"])
def test_a_number_of_days_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("BENCHFARM_TELEMETRY_DAYS", text)
    with pytest.raises(UsageError, match="write a number of days"):
        telemetry_days()
