"""What is old goes, in portions, and nothing else: on both databases, with a real store."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from device_registry.database import writing
from device_registry.errors import BenchfarmError
from device_registry.tables import utc_now
from scheduler import retention
from scheduler.executors.scripted import Succeed
from scheduler.outcomes import results
from scheduler.points import points
from scheduler.queue import artifacts
from scheduler.reading_rows import Batch, insert_batches
from scheduler.reports import read_readings
from scheduler.retention import Pruned, Retention, prune
from scheduler.states import attempts, events
from scheduler.telemetry import channel_ids, telemetry
from tests.unit.scheduler.builders import CRASHED, TORCH, Farm, plan_of
from workers.readings import pack

_DAY = 86_400.0
_MEANING = ("s", "d", "q", "u")


def _rows(farm: Farm, *days_ago: float) -> None:
    """A reading for each of these ages, in this order."""
    known = dict(zip(("sensor", "domain", "quantity", "unit"), _MEANING, strict=True))
    now = farm.clock().timestamp()
    told = [{**known, "value": days, "quality": "ok", "at": now - days * _DAY} for days in days_ago]
    with writing(farm.engine) as connection:
        [ids] = channel_ids(connection, [[_MEANING]])
        insert_batches(connection, [Batch(read_readings(pack(told)), ids, 1, None)])


def _ages(farm: Farm) -> list[float]:
    return [row.value for row in farm.rows(telemetry)]


def _measured(farm: Farm, *names: str, outcome: Any = None, salt: str = "") -> int:
    """A measurement that left files of these contents: log, block, raw times; returns its attempt."""
    log, block, raw = (farm.store.put_bytes(name.encode(), farm.folder) for name in names)
    farm.play(lambda order: "silent" if order.convert is None else Succeed())
    farm.submit(plan_of(farm.devices(), TORCH, salt=salt))
    while not farm.host.running:
        farm.tick()
    [attempt] = farm.host.running
    told = {"log_sha256": log, "telemetry_block": {"sha256": block, "bytes": 1}}
    farm.host.finish(attempt, outcome or Succeed(), **told)
    farm.settle()
    with writing(farm.engine) as connection:
        connection.execute(attempts.update().where(attempts.c.id == attempt).values(raw_sha256=raw))
    return attempt


def _files(farm: Farm, attempt: int) -> tuple[Any, ...]:
    [row] = farm.attempts(attempts.c.id == attempt)
    return row.log_sha256, row.telemetry_sha256, row.raw_sha256


def _prune(farm: Farm, days: float, **how: Any) -> Pruned:
    return prune(farm.engine, farm.store, farm.clock() - timedelta(days=days), **how)


def test_old_readings_go_and_young_ones_stay(farm: Farm) -> None:
    _rows(farm, 100, 91, 90.5, 89.5, 95, 1, 0)  # one came late
    assert _prune(farm, 90).rows == 4
    assert _ages(farm) == [89.5, 1, 0]
    assert _prune(farm, 90) == Pruned()


def test_a_dry_run_counts_and_deletes_nothing(farm: Farm) -> None:
    _rows(farm, 100, 95, 1)
    attempt = _measured(farm, "log", "block", "raw")
    farm.clock.advance(100 * _DAY)
    counted = _prune(farm, 90, dry_run=True)
    assert (counted.rows, counted.files, counted.attempts) == (3, 3, 1)
    assert counted.bytes == len("logblockraw")
    assert len(_ages(farm)) == 3
    assert all(farm.store.has(sha256) for sha256 in _files(farm, attempt))
    assert _prune(farm, 90) == counted


def test_rows_go_in_portions_and_an_interrupted_prune_goes_on(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_ROWS", 10)
    _rows(farm, *(100.0 for _ in range(35)), *(1.0 for _ in range(35)))
    seen: list[int] = []

    def observe(done: Pruned) -> None:
        seen.append(done.rows)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _prune(farm, 90, observe=observe)
    assert seen == [10, 20]
    assert len(_ages(farm)) == 50
    seen = [0, 0]
    assert _prune(farm, 90, observe=observe).rows == 15
    assert _ages(farm) == [1.0] * 35


def test_young_rows_are_not_read_from_end_to_end(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_ROWS", 10)
    _rows(farm, *(1.0 for _ in range(200)))
    seen: list[Pruned] = []
    _prune(farm, 90, observe=seen.append)
    assert len(seen) == retention._EMPTY_PORTIONS


@pytest.mark.parametrize("dry_run", [True, False])
def test_old_rows_behind_young_ones_go_too(farm: Farm, monkeypatch: pytest.MonkeyPatch, dry_run: bool) -> None:
    """Readings of a clock that was years ahead stand before all others, and are young for years."""
    monkeypatch.setattr(retention, "_ROWS", 10)
    _rows(farm, *(-3650.0 for _ in range(100)), *(100.0 for _ in range(15)), *(1.0 for _ in range(5)))
    assert _prune(farm, 90, dry_run=dry_run).rows == 15
    assert sorted(set(_ages(farm))) == ([-3650.0, 1.0, 100.0] if dry_run else [-3650.0, 1.0])


def test_files_of_old_attempts_go_and_what_was_found_out_stays(farm: Farm) -> None:
    old = _measured(farm, "old log", "old block", "old raw")
    named = _files(farm, old)
    farm.clock.advance(100 * _DAY)
    young = _measured(farm, "young log", "young block", "young raw", salt="again")
    before = {table.name: farm.rows(table) for table in (results, points, artifacts, events)}
    done = _prune(farm, 90)
    assert (done.files, done.bytes) == (3, len("old logold blockold raw"))
    assert _files(farm, old) == (None, None, None)
    assert not any(farm.store.has(sha256) for sha256 in named)
    assert all(farm.store.has(sha256) for sha256 in _files(farm, young))
    assert {table.name: farm.rows(table) for table in (results, points, artifacts, events)} == before
    for row in farm.rows(artifacts):
        assert farm.store.has(row.sha256)
        assert all(farm.store.has(sha256) for sha256 in row.companions.values())


def test_failed_attempts_leave_files_that_go_too(farm: Farm) -> None:
    attempt = _measured(farm, "log", "block", "raw", outcome=CRASHED)
    named = _files(farm, attempt)
    farm.clock.advance(100 * _DAY)
    assert _prune(farm, 90).files == 3
    assert not any(farm.store.has(sha256) for sha256 in named)


def test_a_file_that_a_younger_attempt_names_stays(farm: Farm) -> None:
    """Equal logs are one file."""
    old = _measured(farm, "same log", "old block", "old raw")
    farm.clock.advance(100 * _DAY)
    young = _measured(farm, "same log", "young block", "young raw", salt="again")
    assert _prune(farm, 90).files == 2
    assert _files(farm, old) == (None, None, None)
    assert all(farm.store.has(sha256) for sha256 in _files(farm, young))


def test_a_file_that_is_an_artifact_stays(farm: Farm) -> None:
    attempt = _measured(farm, "log", "block", "raw")
    artifact = farm.rows(artifacts)[0]
    with writing(farm.engine) as connection:
        values = {"raw_sha256": artifact.sha256, "telemetry_sha256": next(iter(artifact.companions.values()))}
        connection.execute(attempts.update().where(attempts.c.id == attempt).values(**values))
    farm.clock.advance(100 * _DAY)
    assert _prune(farm, 90).files == 1
    assert farm.store.has(artifact.sha256)
    assert farm.store.has(values["telemetry_sha256"])


def test_what_is_gone_already_is_no_error(farm: Farm) -> None:
    attempt = _measured(farm, "log", "block", "raw")
    farm.lose(_files(farm, attempt)[0])
    farm.clock.advance(100 * _DAY)
    assert _prune(farm, 90).files == 2


def test_a_store_that_refuses_is_said_and_nothing_is_forgotten(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = _measured(farm, "log", "block", "raw")
    named = _files(farm, attempt)
    farm.clock.advance(100 * _DAY)

    def refuse(sha256: str) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(farm.store, "remove", refuse)
    with pytest.raises(BenchfarmError, match=r"cannot be deleted: .*Permission denied"):
        _prune(farm, 90)
    assert _files(farm, attempt) == named
    monkeypatch.undo()
    assert _prune(farm, 90).files == 3


def test_a_service_prunes_by_itself_and_ends_at_once(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "scheduler.retention")
    monkeypatch.setattr(retention, "_FIRST_S", 0.0)
    farm.clock.now = utc_now()
    _rows(farm, 100, 1)
    pruned = threading.Event()
    real = retention.prune

    def note(*given: Any, **how: Any) -> Pruned:
        done = real(*given, **how)
        pruned.set()
        return done

    monkeypatch.setattr(retention, "prune", note)
    with Retention(farm.engine, farm.store, 90).kept():
        assert pruned.wait(30)
    assert _ages(farm) == [1]
    assert "pruned 1 readings and 0 files (0 bytes)" in caplog.text


def test_a_service_that_is_to_keep_all_prunes_nothing(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_FIRST_S", 0.0)
    monkeypatch.setattr(retention, "prune", lambda *_, **__: pytest.fail("pruned"))
    with Retention(farm.engine, farm.store, 0).kept():
        assert not [thread for thread in threading.enumerate() if thread.name == "retention"]


def test_a_service_outlives_a_prune_that_fails(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = [threading.Event(), threading.Event()]
    monkeypatch.setattr(retention, "_FIRST_S", 0.0)
    monkeypatch.setattr(retention, "_EVERY_S", 0.0)

    def fail(*_: Any, **__: Any) -> Pruned:
        next((event for event in tried if not event.is_set()), tried[0]).set()
        raise BenchfarmError("the store is away")

    monkeypatch.setattr(retention, "prune", fail)
    with Retention(farm.engine, farm.store, 90).kept():
        assert all(event.wait(30) for event in tried)
    assert "what is old was not pruned: the store is away" in caplog.text


def test_a_copy_of_a_remote_file_goes_with_it(tmp_path: Path) -> None:
    from workers.artifacts import ArtifactStore

    store = ArtifactStore("memory://bench-retention", tmp_path / "cache")
    sha256 = store.put_bytes(b"block", tmp_path)
    copy = store.fetch(sha256)
    assert copy.exists()
    assert (store.size(sha256), store.remove(sha256), store.remove(sha256), store.size(sha256)) == (5, 5, None, None)
    assert not copy.exists()
