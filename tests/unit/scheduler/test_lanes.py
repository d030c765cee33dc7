"""Lanes, requirements and wake-ups: which jobs a round sees, and when it looks."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from device_registry.database import reading, writing
from scheduler.executors.scripted import Succeed
from scheduler.lanes import RESTING, Lanes, backlog_s
from scheduler.request import Request
from scheduler.requirements import load, requirement_id, requirements
from scheduler.states import jobs
from scheduler.wakeups import Watcher, announce
from tests.unit.scheduler.builders import ONNX, TORCH, Farm, check_counts, check_history, only, plan_of

MakeFarm = Callable[..., Farm]


def test_jobs_that_want_the_same_share_a_requirement(farm: Farm) -> None:
    with writing(farm.engine) as connection:
        before = connection.execute(select(func.count()).select_from(requirements)).scalar_one()
        same = {requirement_id(connection, "device", "kind=cpu", needs=needs) for needs in (["b", "a"], ["a", "b"])}
        other = requirement_id(connection, "slot", "kind=cpu", needs=["a", "b"])
        assert len(same) == 1
        assert other not in same
        assert connection.execute(select(func.count()).select_from(requirements)).scalar_one() == before + 2
        found = {one.id: one for one in load(connection, min(same) - 1)}
    assert found[min(same)].needs == {"a", "b"}
    assert str(found[min(same)].selector) == "kind=cpu"


def test_a_lane_is_seen_by_its_first_job_alone_however_many_wait_behind_it(make_farm: MakeFarm) -> None:
    farm = make_farm(kind="phone", devices=2)
    farm.run(plan_of(farm.devices(), TORCH))
    farm.submit(plan_of(farm.devices(), TORCH, repeats=50, salt="many"))
    lanes = Lanes()
    roster = farm.dispatcher._roster
    with reading(farm.engine) as connection:
        lanes.refresh(connection, roster.fleet)
        heads = lanes.heads(connection, roster.fleet, roster.open_places(farm.clock()), frozenset(), farm.clock())
        first = connection.execute(
            select(func.min(jobs.c.position)).where(jobs.c.state == "queued").group_by(jobs.c.requirement_id)
        )
        assert sorted(head.position for head in heads) == sorted(first.scalars())
        assert lanes.heads(connection, roster.fleet, frozenset(), frozenset(), farm.clock()) == []
        assert sum(backlog_s(connection, lanes.requirements).values()) > 0


def test_a_job_that_waited_for_too_long_fails_and_says_so(make_farm: MakeFarm) -> None:
    farm = make_farm(kind="phone")
    farm.run(plan_of(farm.devices(), TORCH))
    farm.submit(plan_of(farm.devices(), TORCH, repeats=2, salt="again"))
    with writing(farm.engine) as connection:
        until = farm.clock() + timedelta(seconds=5)
        connection.execute(update(jobs).where(jobs.c.state == "queued").values(queue_until=until))
    farm.play(only("measure", "silent"))
    for _ in range(8):
        farm.tick()
    running, waiting = farm.jobs(jobs.c.kind == "measure")[1:]
    assert running.state == "running"  # it has begun: nothing is too late for it
    assert (waiting.state, waiting.failure_cause, waiting.failure_code) == ("failed", "infrastructure", "queue_timeout")
    check_history(farm)


def test_a_job_that_has_begun_is_never_too_late(farm: Farm) -> None:
    farm.play(only("measure", "silent"))
    farm.submit(plan_of(farm.devices(), TORCH), Request(models=("net",), queue_timeout_s=60.0))
    for _ in range(70):
        farm.tick()
    farm.host.restart()
    farm.play(Succeed())
    farm.settle()
    measured = farm.job("measure")
    assert (measured.state, measured.attempts) == ("succeeded", 2)


def test_a_conversion_ends_with_the_last_job_that_waited_for_it(farm: Farm) -> None:
    farm.hosts[0].state = "lost"
    farm.tick()
    made = plan_of(farm.devices(), TORCH, ONNX)
    run_id = farm.submit(made, Request(models=("net",), queue_timeout_s=60.0)).sweep_run_id
    patient = farm.submit(plan_of(farm.devices(), TORCH, salt="patient")).sweep_run_id
    for _ in range(70):
        farm.tick()
    assert farm.states(run_id) == [
        ("convert", "queued"),  # the other run's program
        ("convert", "cancelled"),
        ("measure", "failed"),
        ("measure", "failed"),
    ]
    assert farm.states(patient) == [("measure", "blocked")]
    check_history(farm)
    check_counts(farm)


def test_what_rests_is_behind_all_others_until_it_is_resumed(farm: Farm) -> None:
    made = plan_of(farm.devices(), TORCH, repeats=3)
    run_id = farm.submit(made).sweep_run_id
    before = [row.rank for row in farm.jobs()]
    farm.leave(run_id)
    for _ in range(2):
        farm.tick()
    assert all(row.rank >= RESTING for row in farm.jobs())
    assert farm.run_row(run_id).resting
    assert farm.submit(made).resumed
    assert [row.rank for row in farm.jobs()] == pytest.approx(before, abs=0.001)
    farm.followed.discard(run_id)  # it sleeps for a while, and goes on to follow
    farm.clock.advance(20)
    farm.tick()
    assert farm.run_row(run_id).resting
    farm.followed.add(run_id)
    farm.settle()
    assert {state for _, state in farm.states()} == {"succeeded"}


def test_a_canary_goes_to_a_quarantined_device_and_nothing_else_does(make_farm: MakeFarm) -> None:
    farm = make_farm(kind="phone")
    farm.run(plan_of(farm.devices(), TORCH))
    with writing(farm.engine) as connection:
        connection.exec_driver_sql("UPDATE device SET admin = 'quarantined'")
    farm.submit(plan_of(farm.devices(), TORCH, repeats=2, salt="again"))
    with writing(farm.engine) as connection:
        probe = select(func.max(jobs.c.id)).scalar_subquery()
        connection.execute(update(jobs).where(jobs.c.id == probe).values(canary=True, owner="benchfarm"))
    farm.play(Succeed())
    for _ in range(5):
        farm.tick()
    assert [(row.canary, row.state) for row in farm.jobs(jobs.c.kind == "measure")[1:]] == [
        (False, "queued"),
        (True, "succeeded"),
    ]


def test_a_watcher_hears_of_others(farm: Farm) -> None:
    watcher = Watcher(farm.engine)
    try:
        watcher.changed()
        assert not watcher.changed()
        with writing(farm.engine) as connection:
            requirement_id(connection, "slot", "kind=other")
            announce(connection)
        for _ in range(500):  # a server tells a moment after the commit
            if heard := watcher.changed():
                break
            time.sleep(0.01)
        assert heard
        assert not watcher.changed()
    finally:
        watcher.close()
