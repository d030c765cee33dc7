"""Lanes, requirements and wake-ups: which jobs a round sees, and when it looks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import func, select, update

from device_registry.database import reading, writing
from scheduler.executors.scripted import Succeed
from scheduler.lanes import Lanes, backlog_s
from scheduler.requirements import load, requirement_id, requirements
from scheduler.states import jobs
from scheduler.wakeups import Watcher, announce
from tests.unit.scheduler.builders import TORCH, Farm, check_history, only, plan_of

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
        assert watcher.changed()
        assert not watcher.changed()
    finally:
        watcher.close()
