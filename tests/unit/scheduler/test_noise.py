"""Noise of series: what is known, what the farm learns by itself within its minutes, what comparisons make of it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, update

from device_registry.database import reading, writing
from device_registry.registry import devices
from scheduler import queue
from scheduler.cells import Wanted
from scheduler.matrix import matrix
from scheduler.queue import sweep_runs
from scheduler.regressions.noise import cost_s, due_noise, learn, noise_ends, running_noise
from scheduler.regressions.series_noise import STALE_AFTER, series_noise
from scheduler.states import jobs
from scheduler.trials import trials
from scheduler.trials.floors import floors
from tests.unit.scheduler.builders import INT8, ONNX, Farm, plan_of
from tests.unit.scheduler.trial_rows import CONTAMINATED, by_recipe, steady, work

_DAY_S = 86_400.0
#: What follows from the rows alone is the same on any database.
on_sqlite = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)


@pytest.fixture
def watched(farm: Farm) -> Farm:
    """A farm that measured two variants of a model five times in a watched run, at 10 and 10.6 ms."""
    farm.play(by_recipe(steady(10.0), steady(10.6)))
    farm.run(plan_of(farm.devices(), ONNX, INT8, repeats=5))
    with writing(farm.engine) as connection:
        connection.execute(update(sweep_runs).values(watched=True))
    return farm


def due(farm: Farm, minutes_per_day: float | None = 60.0) -> int:
    with writing(farm.engine) as connection:
        return due_noise(connection, farm.clock(), minutes_per_day)


def pass_time(farm: Farm, days: float) -> None:
    """Time goes by, and the series were measured again meanwhile."""
    farm.clock.advance(days * _DAY_S)
    farm.tick()
    farm.play(by_recipe(steady(10.0), steady(10.6)))
    farm.run(plan_of(farm.devices(), ONNX, INT8, salt=str(farm.clock())))
    with writing(farm.engine) as connection:
        connection.execute(update(sweep_runs).where(sweep_runs.c.purpose.is_(None)).values(watched=True))


def test_one_series_of_a_device_at_a_time_is_learnt(watched: Farm) -> None:
    assert due(watched) == 1
    assert due(watched) == 0  # one is under way
    work(watched)
    assert due(watched) == 1
    work(watched)
    assert due(watched) == 0
    known = watched.rows(trials)
    assert [(row.purpose, row.state, row.wanted) for row in known] == [("noise", "done", 10)] * 2
    assert known[0].series_id != known[1].series_id
    assert {row.priority for row in watched.jobs(jobs.c.trial_id.is_not(None))} == {-3}
    with reading(watched.engine) as connection:
        found = series_noise(connection)
    assert [one.processes for one in found] == [20, 20]
    assert all(one.sees_5_percent and one.noise is not None and one.noise < 0.01 for one in found)
    pass_time(watched, STALE_AFTER.days / 2)
    assert due(watched) == 0
    pass_time(watched, STALE_AFTER.days / 2 + 1)
    assert due(watched) == 1


@on_sqlite
def test_its_minutes_per_day_are_kept(watched: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    with reading(watched.engine) as connection:
        found = series_noise(connection)
        costs = cost_s(connection, found)
    minutes = max(costs.values()) / 60
    assert minutes == pytest.approx(20 / 60, rel=0.01)  # twenty of a second each
    assert due(watched, minutes / 2) == 0
    assert due(watched, minutes) == 1
    work(watched)
    assert due(watched, minutes) == 0
    watched.clock.advance(_DAY_S + 1)
    watched.tick()
    assert due(watched, minutes) == 1
    monkeypatch.setenv("BENCHFARM_NOISE_MINUTES", "0")
    work(watched)
    assert due(watched, None) == 0


@on_sqlite
def test_what_nobody_watches_or_is_away_is_left_alone(watched: Farm) -> None:
    with writing(watched.engine) as connection:
        connection.execute(update(devices).values(admin="maintenance"))
    assert due(watched) == 0
    with writing(watched.engine) as connection:
        connection.execute(update(devices).values(admin="enabled"))
        connection.execute(update(sweep_runs).values(watched=False))
    assert due(watched) == 0


def test_what_cannot_be_learnt_is_told_and_tried_once_a_day(watched: Farm) -> None:
    watched.play(by_recipe(lambda _: CONTAMINATED, lambda _: CONTAMINATED))
    with writing(watched.engine) as connection:
        wanted = series_noise(connection)
        begun = learn(connection, wanted, owner="ann", processes=5, now=watched.clock())
        again = learn(connection, wanted, owner="ann", processes=5, now=watched.clock())
        running = running_noise(connection, list(begun))
    assert len(begun) == 2
    assert again == {}
    assert len(set(running.values())) == 1
    work(watched)
    with reading(watched.engine) as connection:
        told = noise_ends(connection, list(running.values()), list(begun))
        assert {one.noise for one in series_noise(connection)} == {None}
    assert [one["why"].partition(":")[0] for one in told] == [
        "only 0 + 0 of 10 + 10 processes count, 5 + 5 are the fewest"
    ] * 2
    assert due(watched) == 0
    watched.clock.advance(_DAY_S + 1)
    watched.tick()
    assert due(watched) == 1


@on_sqlite
def test_an_artifact_that_nothing_can_make_again_is_left_out(watched: Farm) -> None:
    with writing(watched.engine) as connection:
        [gone] = [row for row in watched.rows(queue.artifacts) if row.recipe == "int8-static"]
        queue.forget(connection, gone, "missing", who="x", now=watched.clock())
        connection.execute(update(jobs).where(jobs.c.makes_key == gone.key).values(makes_key=None))
        assert len(cost_s(connection, series_noise(connection))) == 1
    assert due(watched) == 1
    work(watched)
    assert due(watched) == 0


@on_sqlite
def test_series_are_found_by_device_and_model(watched: Farm) -> None:
    with reading(watched.engine) as connection:
        assert len(series_noise(connection, models=["net"])) == 2
        assert series_noise(connection, models=["other"]) == []
        assert series_noise(connection, device_ids=[99]) == []
        one = series_noise(connection)[0]
    assert one.title == "net on onnxruntime fp32, d0, 1 thread"


@on_sqlite
@pytest.mark.parametrize(
    ("noise", "detectable", "answer", "sees"), [(0.07, 0.09, "same", False), (0.01, 0.03, "slower", True)]
)
def test_comparisons_know_the_floor(
    watched: Farm, noise: float, detectable: float | None, answer: str, sees: bool
) -> None:
    ids = [row.id for row in watched.series()]
    with writing(watched.engine) as connection:
        at = {"at": watched.clock(), "processes": 20, "noise": noise, "detectable": detectable}
        begun = learn(connection, series_noise(connection), owner="ann", now=watched.clock())
        rows: list[dict[str, Any]] = [{"series_id": one, "trial_id": begun[one], **at} for one in ids]
        connection.execute(insert(floors), rows)
    with reading(watched.engine) as connection:
        [(_, found)] = matrix(connection, Wanted(baseline=("onnxruntime", "fp32")), watched.clock())
    [int8] = [row for row in found if row["recipe"] == "int8-static"]
    assert int8["answer"] == answer  # 6 %
    assert int8["bound"] == max(0.02, 2 * noise)
    assert int8["noise_floor"] == noise
    assert int8["sees_5_percent"] is sees
