"""Telemetry on both databases: what reports and hosts tell becomes rows, once, and holds up nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from device_registry.database import open_engine, passes, reading, writing
from scheduler import reading_rows
from scheduler.executors.scripted import Succeed
from scheduler.ingest import lose_attempts
from scheduler.reading_rows import Batch, insert_batches
from scheduler.reports import read_readings
from scheduler.states import attempts
from scheduler.tables import SensorChannel
from scheduler.telemetry import channel_ids, channels, telemetry
from tests.unit.scheduler.builders import BROKEN, CRASHED, TORCH, Farm, plan_of
from workers.readings import pack

_MEANING = ("rapl", "package", "energy", "mJ")


def _told(*values: Any, at: float = 1000.0, **changes: Any) -> list[dict[str, Any]]:
    known = dict(zip(("sensor", "domain", "quantity", "unit"), _MEANING, strict=True))
    readings = [{**known, "value": value, "quality": "ok", "at": at + index} for index, value in enumerate(values)]
    return [{**one, "why": None, **changes} for one in readings]


def _measuring(farm: Farm, count: int = 1) -> list[int]:
    """Attempts of measurements that run, and report when they are told."""
    farm.play(lambda order: "silent" if order.convert is None else Succeed())
    farm.submit(plan_of(farm.devices(), TORCH))
    for _ in range(20):
        farm.tick()
        if len(farm.host.running) == count:
            return sorted(farm.host.running)
    raise AssertionError("nothing runs")


def _values(farm: Farm) -> list[Any]:
    return [row.value for row in farm.rows(telemetry)]


def test_a_reading_is_a_row_of_a_channel(farm: Farm) -> None:
    [attempt] = _measuring(farm)
    told = [*_told(7.5, 8.25), *_told(None, at=1002.0, quality="no_permission", why="needs root: \u00e9\n\\N\t")]
    farm.host.finish(attempt, Succeed(), telemetry=told)
    farm.tick()
    [channel] = farm.rows(channels)
    assert tuple(channel)[1:] == _MEANING
    device = farm.devices()[0].id
    assert [tuple(row)[2:] for row in farm.rows(telemetry)] == [
        (device, attempt, channel.id, 7.5, "ok", None),
        (device, attempt, channel.id, 8.25, "ok", None),
        (device, attempt, channel.id, None, "no_permission", "needs root: \u00e9\n\\N\t"),
    ]
    assert [row.at.timestamp() for row in farm.rows(telemetry)] == [1000.0, 1001.0, 1002.0]


def test_times_keep_their_microseconds_and_values_their_bits(farm: Farm) -> None:
    [attempt] = _measuring(farm)
    odd = [0.1 + 0.2, 5e-324, -1.7976931348623157e308, 0.0, 1 / 3]
    farm.host.finish(attempt, Succeed(), telemetry=_told(*odd, at=1_764_532_800.123456))
    farm.tick()
    assert _values(farm) == odd
    assert [row.at.microsecond for row in farm.rows(telemetry)] == [123456] * len(odd)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_fails_nothing(farm: Farm, value: float) -> None:
    [attempt] = _measuring(farm)
    farm.host.finish(attempt, Succeed(), telemetry=_told(1.0, value, 3.0))
    farm.settle()
    assert farm.job("measure").state == "succeeded"
    rows = farm.rows(telemetry)
    assert [row.value for row in rows] == [1.0, None, 3.0]
    assert (rows[1].quality, rows[1].why) == ("implausible", f"the sensor said {value}")


def test_telemetry_that_breaks_the_contract_fails_its_attempt_and_no_other(farm: Farm) -> None:
    [attempt] = _measuring(farm)
    farm.host.finish(attempt, Succeed(), telemetry=_told(1.0))
    farm.host._events[-1]["telemetry"] = '{"anchor": 1}'
    farm.settle()
    job = farm.job("measure")
    assert (job.state, job.failure_code) == ("failed", "bad_report")
    assert _values(farm) == []


@pytest.mark.parametrize("outcome", [CRASHED, BROKEN], ids=lambda one: one.code)
def test_what_was_read_until_an_attempt_failed_is_kept(farm: Farm, outcome: Any) -> None:
    [attempt] = _measuring(farm)
    farm.host.finish(attempt, outcome, telemetry=_told(1.0, 2.0), telemetry_block={"sha256": "b" * 64, "bytes": 7})
    farm.tick()
    assert _values(farm) == [1.0, 2.0]
    [row] = farm.attempts(attempts.c.id == attempt)
    assert (row.state, row.telemetry_sha256) == ("finished", "b" * 64)


def test_what_comes_late_is_kept_once(farm: Farm) -> None:
    [attempt] = _measuring(farm)
    with writing(farm.engine) as connection:
        lose_attempts(connection, [attempt], who="t", why="w", now=farm.clock())
    farm.dispatcher.close()
    for _ in range(2):
        farm.host.finish(attempt, Succeed(), telemetry=_told(1.0))
        farm.tick()
    [row] = farm.attempts(attempts.c.id == attempt)
    assert (row.state, _values(farm)) == ("stale", [1.0])


def test_a_report_told_twice_is_kept_once(farm: Farm) -> None:
    [attempt] = _measuring(farm)
    for _ in range(2):
        farm.host.finish(attempt, Succeed(), telemetry=_told(1.0, 2.0))
    farm.settle()
    assert _values(farm) == [1.0, 2.0]


def test_names_that_are_too_long_are_cut_and_no_text_is_refused(farm: Farm) -> None:
    [attempt] = _measuring(farm)
    told = _told(None, sensor="s" * 300, domain="d\0" * 300, quality="stale", why="\0nul")
    farm.host.finish(attempt, Succeed(), telemetry=told)
    farm.settle()
    [channel] = farm.rows(channels)
    assert (len(channel.sensor), channel.domain) == (50, "d" * 100)
    [row] = farm.rows(telemetry)
    assert row.why.replace("\0", "") == "nul"


# Clocks.


@pytest.mark.parametrize(("ahead_s", "moved_s"), [(3600.0, 3600.0), (-90.0, -90.0), (4.0, 0.0), (-4.9, 0.0)])
def test_readings_of_a_host_whose_clock_is_wrong_are_moved(farm: Farm, ahead_s: float, moved_s: float) -> None:
    [attempt] = _measuring(farm)
    farm.host.now = (farm.clock() + timedelta(seconds=ahead_s)).timestamp()
    began = farm.host.now
    farm.host.finish(attempt, Succeed(), telemetry=_told(1.0, at=began))
    farm.tick()
    [row] = farm.rows(telemetry)
    assert row.at.timestamp() == pytest.approx(began - moved_s, abs=1e-3)
    [tried] = farm.attempts(attempts.c.id == attempt)
    assert tried.clock_offset_s == (pytest.approx(moved_s, abs=1e-3) if moved_s else None)


def test_an_answer_that_lay_about_does_not_make_a_clock_wrong(farm: Farm) -> None:
    """Of the last answers the freshest counts: one that waited here for a minute looks like a clock that is behind."""
    farm.host.now = farm.clock().timestamp()
    farm.tick(seconds=60)  # from now on the host's clock seems to stand still
    farm.tick(seconds=0)
    [host] = farm.dispatcher._roster.hosts.values()
    assert host.heard[-1] == -60.0
    assert host.ahead_s == 0.0


# Between attempts.


def _between(*values: Any, **changes: Any) -> str:
    return pack(_told(*values, **changes))


def test_what_a_host_tells_between_attempts_has_no_attempt(farm: Farm) -> None:
    farm.host.read({"here:0": _between(1.0, 2.0)})
    farm.tick()
    device = farm.devices()[0].id
    assert [(row.device_id, row.attempt_id, row.value) for row in farm.rows(telemetry)] == [
        (device, None, 1.0),
        (device, None, 2.0),
    ]


def test_what_cannot_be_kept_is_dropped_and_holds_up_nothing(make_farm: Callable[..., Farm]) -> None:
    farm = make_farm(devices=2, kind="android")
    attempt, _ = _measuring(farm, 2)
    broken = ['{"anchor": 1}', "[]", "no json", _between(1.0, at=-5.0)]
    for text in broken:
        farm.host.read({"here:0": text, "gone:7": _between(9.0), "here:1": _between(3.0)})
    farm.host.finish(attempt, Succeed(), telemetry=_told(4.0))
    told = farm.host._events[-1]["sequence"]
    farm.tick()
    assert _values(farm) in ([3.0] * 4 + [4.0], [4.0] + [3.0] * 4)
    [host] = farm.dispatcher._roster.hosts.values()
    assert host.cursor == told


def test_a_device_of_another_host_is_not_told_of(farm: Farm) -> None:
    other = farm.add_host("there")
    other.read({"here:0": _between(1.0), "there:0": _between(2.0)})
    farm.tick()
    assert _values(farm) == [2.0]


def test_readings_that_the_database_refuses_are_dropped(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is that no check foresaw: the round that they came with goes on."""
    [attempt] = _measuring(farm)
    _break_rows(monkeypatch, after=1, times=1)
    farm.host.read({"here:0": _between(1.0, 2.0, 3.0)})
    farm.tick()
    assert _values(farm) == []
    farm.host.finish(attempt, Succeed(), telemetry=_told(4.0))
    farm.settle()
    assert _values(farm) == [4.0]


# Faults.


def _break_rows(monkeypatch: pytest.MonkeyPatch, *, after: int, times: int) -> None:
    """Some rows are good, then one is none that a database takes; so often, then all are good again."""
    left = [times]
    binary, values = reading_rows._binary, reading_rows._values

    def broken(made: Callable[[Batch], Iterator[Any]], bad: Any) -> Callable[[Batch], Iterator[Any]]:
        def rows(batch: Batch) -> Iterator[Any]:
            breaks, left[0] = left[0] > 0, left[0] - 1
            for number, row in enumerate(made(batch)):
                yield bad if breaks and number == after else row

        return rows

    monkeypatch.setattr(reading_rows, "_binary", broken(binary, b"\x00\x03nonsense"))
    monkeypatch.setattr(reading_rows, "_values", broken(values, (None, 1, 1, 1, 1.0, "ok", None)))


def test_a_copy_that_fails_half_way_leaves_nothing_of_it_and_fails_its_attempt_alone(
    make_farm: Callable[..., Farm], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken together first, then apart: the good one is whole, the bad one is a failure that says so."""
    farm = make_farm(devices=2, kind="android")  # two CPUs of one host are never measured at once
    first, second = _measuring(farm, 2)
    binary, values = reading_rows._binary, reading_rows._values

    def breaking(made: Callable[[Batch], Iterator[Any]], broken: Any) -> Callable[[Batch], Iterator[Any]]:
        return lambda batch: (
            broken if batch.attempt_id == second and number == 1 else row for number, row in enumerate(made(batch))
        )

    monkeypatch.setattr(reading_rows, "_binary", breaking(binary, b"\x00\x03nonsense"))
    monkeypatch.setattr(reading_rows, "_values", breaking(values, (None, 1, 1, 1, 1.0, "ok", None)))
    for attempt in (first, second):
        farm.host.finish(attempt, Succeed(), telemetry=_told(1.0, 2.0, 3.0))
    farm.tick()
    assert [(row.attempt_id, row.value) for row in farm.rows(telemetry)] == [(first, 1.0), (first, 2.0), (first, 3.0)]
    [broken] = farm.attempts(attempts.c.id == second)
    assert broken.message.startswith("the agent's report cannot be kept (")
    assert len(farm.results()) == 1


def test_many_rows_go_in_portions_and_none_is_lost(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_rows, "_ROWS_AT_ONCE", 7)
    [attempt] = _measuring(farm)
    farm.host.finish(attempt, Succeed(), telemetry=_told(*(float(number) for number in range(100))))
    farm.tick()
    assert _values(farm) == [float(number) for number in range(100)]


# Channels.


def test_channels_of_an_undone_transaction_are_made_again(farm: Farm) -> None:
    """Ids that were never committed are not kept: another's channel may have them by then."""
    other = ("other", "d", "q", "u")
    with pytest.raises(ZeroDivisionError), writing(farm.engine) as connection:  # noqa: PT012
        assert len(channel_ids(connection, [[_MEANING]])[0]) == 1
        assert len(channel_ids(connection, [[_MEANING]])[0]) == 1  # read again, in the same transaction
        raise ZeroDivisionError
    with writing(farm.engine) as connection:
        [[first]] = channel_ids(connection, [[other]])
    with writing(farm.engine) as connection:
        [[mine, again]] = channel_ids(connection, [[_MEANING, other]])
    assert again == first != mine
    assert {row.id: tuple(row)[1:] for row in farm.rows(channels)} == {first: other, mine: _MEANING}


def test_known_channels_cost_no_statement(farm: Farm) -> None:
    for _ in range(2):
        with writing(farm.engine) as connection:
            channel_ids(connection, [[_MEANING]])
    with reading(farm.engine) as connection:  # where nothing could be made
        assert channel_ids(connection, [[_MEANING]]) == [[farm.rows(channels)[0].id]]


def test_two_that_make_a_channel_at_once_share_it(farm: Farm) -> None:
    """The second waits for the first, and finds what it made."""

    def make() -> int:
        other = open_engine(farm.url)
        with writing(other) as connection:
            [[found]] = channel_ids(connection, [[_MEANING]])
        other.dispose()
        return found

    with ThreadPoolExecutor(1) as threads:
        with writing(farm.engine) as connection:
            [[first]] = channel_ids(connection, [[_MEANING]])
            second = threads.submit(make)
            assert not wait([second], timeout=0.2).done
        assert second.result() == first
    assert len(farm.rows(channels)) == 1


# Speed, as far as a test may look at it.


_DAY = "at >= '2026-01-01 00:00:00' AND at < '2026-01-02 00:00:00'"


@pytest.mark.parametrize(
    ("index", "where"),
    [
        ("telemetry_by_attempt", "attempt_id = 7"),
        ("telemetry_by_device", f"device_id = 7 AND {_DAY}"),
        ("telemetry_by_time", _DAY),
    ],
)
def test_telemetry_is_found_by_attempt_by_device_and_day_and_by_time(farm: Farm, index: str, where: str) -> None:
    began = farm.clock().timestamp() - 19 * 86400
    days = [read_readings(_between(*map(float, range(40)), at=began + day * 86400)) for day in range(20)]
    with writing(farm.engine) as connection:
        [[channel]] = channel_ids(connection, [[_MEANING]])
        batches = [Batch(columns, [channel], device, device) for columns in days for device in range(40)]
        insert_batches(connection, batches)
        connection.exec_driver_sql("ANALYZE telemetry")
    with reading(farm.engine) as connection:
        if farm.engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # the table is too small for an index to pay
        explain = "EXPLAIN" if farm.engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
        plan = connection.exec_driver_sql(f"{explain} SELECT value FROM telemetry WHERE {where}").all()
    text = "\n".join(str(part) for row in plan for part in row)
    assert index in text, text


def test_a_server_that_is_gone_in_the_middle_of_a_copy_is_said_to_pass(farm: Farm) -> None:
    if farm.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no server")
    columns = read_readings(_between(1.0, 2.0))
    with pytest.raises(DBAPIError) as told, writing(farm.engine) as connection:  # noqa: PT012
        own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with farm.engine.connect() as other:
            other.exec_driver_sql(f"SELECT pg_terminate_backend({own}, 5000)")
        insert_batches(connection, [Batch(columns, [1], None, None)])
    assert passes(told.value)
    with reading(farm.engine) as connection:  # the pool has given the dead connection up
        assert connection.execute(select(telemetry)).all() == []


def test_every_column_of_the_table_is_written(farm: Farm) -> None:
    assert {"id", *reading_rows._NAMES} == set(telemetry.c.keys())
    assert set(SensorChannel.model_fields) == {"id", "sensor", "domain", "quantity", "unit"}
