"""Submitting is inserting: what a farm's queue holds afterwards, and what becomes of what may move."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from device_registry.capabilities import DeviceDescription
from device_registry.database import reading, writing
from device_registry.errors import BenchfarmError, UsageError
from device_registry.registry import record_hello, set_host_presence
from device_registry.tables import utc_now
from scheduler import clones, runs
from scheduler.comparisons import run_results
from scheduler.farm import Farm as UserFarm
from scheduler.farm import WaitTimeoutError
from scheduler.glance import farm_status
from scheduler.home import Home
from scheduler.payloads import payloads
from scheduler.placement import rank_of
from scheduler.plan import Plan
from scheduler.queue import artifacts, sweep_runs
from scheduler.records import list_jobs
from scheduler.request import Request
from scheduler.requirements import requirements
from scheduler.states import events, jobs
from tests.unit.scheduler.builders import CRASHED, ONNX, TORCH, Farm, check_counts, check_history, in_turn, plan_of
from tests.unit.scheduler.databases import Databases
from workers.host import describe_host

SIM = Request(models=("sim/mobilenet",), recipes=("fp32",), selector="kind=sim")


@pytest.fixture
def lab(tmp_path: Path, databases: Databases) -> Iterator[UserFarm]:
    """A farm with two simulated phones of one model and one of another, on this machine; nobody dispatches."""
    url = databases.fresh(tmp_path)
    farm = UserFarm(Home(tmp_path / "home", url, f"file://{tmp_path / 'store'}"))
    found = [
        DeviceDescription(
            key=f"sim:{number}",
            name=f"p{number}",
            kind="sim",
            driver="sim",
            attributes={"simulated": True, "model": model},
        )
        for number, model in enumerate(("Pixel", "Pixel", "Galaxy"))
    ]
    with writing(farm.engine) as connection:
        record_hello(connection, describe_host("lab-1", {"rack": "a"}), found, "3", utc_now())
    yield farm
    farm.engine.dispose()
    databases.drop(url)


def rows(farm: UserFarm, table: Any = jobs) -> list[Any]:
    with reading(farm.engine) as connection:
        return list(connection.execute(table.select().order_by(table.c.id)))


def test_a_queue_holds_what_was_asked_for(lab: UserFarm) -> None:
    asked = replace(SIM, spread="any", priority=3, owner="ci", queue_timeout_s=60.0, run_timeout_s=30.0, repeats=2)
    submitted = lab.submit(asked)
    [convert, *measure] = rows(lab)
    assert (convert.kind, convert.state, convert.position) == ("convert", "queued", 0)
    assert [(row.kind, row.state, row.position) for row in measure] == [("measure", "blocked", n) for n in (1, 2)]
    told = {row.id: row.document for row in rows(lab, payloads)}
    assert len(told) == 2  # both repeats are told the same
    for row in (convert, *measure):
        assert (row.owner, row.priority, row.device_id, told[row.payload_id]["deadline_s"]) == ("ci", 3, None, 30.0)
        assert row.rank == pytest.approx(rank_of(row.created_at.timestamp(), 3))
        assert row.expected_s > 0
        assert row.duration_key
    assert [row.queue_until - row.created_at for row in measure] == [timedelta(seconds=60)] * 2
    assert convert.queue_until is None  # another run may wait for what it makes
    wanted = {row.id: row for row in rows(lab, requirements)}
    assert wanted[convert.requirement_id].place == "slot"
    assert wanted[convert.requirement_id].needs[0].startswith("source:sim@")
    assert len({row.requirement_id for row in measure}) == 1
    assert wanted[measure[0].requirement_id].selector == "kind=sim"
    assert wanted[measure[0].requirement_id].needs == ["runtime:sim"]
    [run] = rows(lab, sweep_runs)
    assert (run.id, run.owner, run.followed_until) == (submitted.sweep_run_id, "ci", None)
    told = [(row.entity_id, row.after) for row in rows(lab, events) if row.entity == "job"]
    assert sorted(told) == [(row.id, row.state) for row in (convert, *measure)]


def test_each_is_pinned_and_per_model_is_one_of_each(lab: UserFarm) -> None:
    lab.submit(SIM)
    assert sorted(row.device_id for row in rows(lab) if row.kind == "measure") == [1, 2, 3]
    lab.submit(replace(SIM, spread="per-model"))
    wanted = {row.id: row.selector for row in rows(lab, requirements)}
    moving = [row for row in rows(lab) if row.kind == "measure" and row.device_id is None]
    assert sorted(wanted[row.requirement_id] for row in moving) == ["kind=sim,model=Galaxy", "kind=sim,model=Pixel"]
    assert sorted(row.title.rpartition(", ")[2] for row in moving) == [
        "any Galaxy (simulated)",
        "any Pixel (simulated)",
    ]


def test_runs_share_a_conversion_and_the_more_urgent_one_decides_when(lab: UserFarm) -> None:
    lab.submit(SIM)
    before = rows(lab)[0]
    lab.submit(replace(SIM, priority=10, owner="urgent"))
    conversions = [row for row in rows(lab) if row.kind == "convert"]
    assert [row.id for row in conversions] == [before.id]
    assert conversions[0].rank < before.rank
    assert conversions[0].sweep_run_id == before.sweep_run_id


def test_a_file_is_converted_where_it_lies_and_nowhere_else(lab: UserFarm, tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes(b"model")
    mine = Request(models=(str(tmp_path / "mine.onnx"),), runtimes=("onnxruntime",))
    with writing(lab.engine) as connection:
        host = describe_host("lab-1")
        cpu = DeviceDescription(key="cpu:1", name="cpu-1", kind="cpu", driver="cpu")
        able = [replace(item, why_not=None) for item in host.runtimes]
        host_id = record_hello(connection, replace(host, runtimes=tuple(able)), [cpu], "3", utc_now())
    lab.submit(mine)
    wanted = {row.id: row.host_id for row in rows(lab, requirements)}
    [made_here] = [row for row in rows(lab) if row.kind == "convert" and row.needs_key is None]
    assert wanted[made_here.requirement_id] == host_id
    others = [row for row in rows(lab) if row.kind == "convert" and row.needs_key is not None]
    assert {wanted[row.requirement_id] for row in others} <= {None}
    with writing(lab.engine) as connection:
        record_hello(connection, replace(host, key="elsewhere", runtimes=tuple(able)), [cpu], "3", utc_now())
        set_host_presence(connection, host_id, "left", None, utc_now())
    with pytest.raises(UsageError, match="this machine is no host of the farm"):
        lab.submit(replace(mine, seed=1))
    stands = {"sha256": "0" * 64, "bytes": 1, "format": "onnx", "recipe": "original", "model": "mine.onnx"}
    stands |= {"companions": {}, "provenance": {"versions": {}}, "created_at": utc_now()}
    with writing(lab.engine) as connection:
        connection.execute(artifacts.insert().values(key=made_here.makes_key, **stands))
    assert lab.submit(mine).reused == 1


def test_a_farm_that_is_down_takes_submissions_and_says_so_to_who_waits(lab: UserFarm) -> None:
    run_id = lab.submit(SIM).sweep_run_id
    said: list[str] = []
    with pytest.raises(WaitTimeoutError, match=f"run {run_id} is not done after 0.1 s"):
        lab.wait(run_id, timeout_s=0.1, say=said.append)
    assert len(said) == 1
    with pytest.raises(WaitTimeoutError, match="job 1 is not done"):
        lab.wait_for_jobs([1], timeout_s=0.1)
    with reading(lab.engine) as connection:
        seen = farm_status(connection, utc_now())
    assert seen["dispatcher"]["alive"] is False
    assert seen["devices"] == {"idle": 3}
    assert [(group["wants"], group["jobs"]) for group in seen["queue"]] == [("a host to convert on", 1)]
    assert seen["blocked"] == 3


def test_the_same_again_is_the_run_or_one_case_of_it(lab: UserFarm) -> None:
    run_id = lab.submit(replace(SIM, repeats=2, priority=2)).sweep_run_id
    measured = next(row for row in rows(lab) if row.kind == "measure")
    with reading(lab.engine) as connection:
        assert clones.request_of_run(connection, run_id) == replace(SIM, repeats=2, priority=2)
        one = clones.request_of_job(connection, measured.id)
        with pytest.raises(UsageError, match="job 1 is a conversion"):
            clones.request_of_job(connection, 1)
    lab.submit(one)
    again = [row for row in rows(lab) if row.sweep_run_id != run_id]
    assert [(row.case_key, row.device_id, row.priority) for row in again] == [
        (measured.case_key, measured.device_id, 2)
    ]
    with writing(lab.engine) as connection:
        connection.execute(sweep_runs.update().values(request={"models": ["x"], "unknown": 1}))
    with reading(lab.engine) as connection, pytest.raises(BenchfarmError, match="another version"):
        clones.request_of_run(connection, run_id)


def moving(made: Plan) -> Plan:
    """The same measurements, on whichever device is free."""
    made.measurements = [
        replace(item, device=None, where="any device", case_key=f"moving {item.task.recipe}")
        for item in made.measurements
    ]
    return made


def test_what_may_move_is_counted_where_it_ran(farm: Farm) -> None:
    farm.add_host("there", kind="phone")
    [here, there] = farm.devices()
    run_id = farm.run(moving(plan_of([here], TORCH, repeats=4)))
    assert {row.device_id for row in farm.results()} <= {here.id, there.id}
    with reading(farm.engine) as connection:
        found = run_results(connection, run_id)
        listed = list_jobs(connection, "succeeded", 10, farm.clock(), run_id=run_id)
    assert sum(len(row["processes"]) for row in found.results) == 4
    assert len(farm.points()) == len(found.results) == len({row.device_id for row in farm.results()})
    assert {job["device"] for job in listed if job["kind"] == "measure"} == {row["device"] for row in found.results}
    check_history(farm)
    check_counts(farm)


def test_a_failure_of_what_may_move_names_where_it_failed(farm: Farm) -> None:
    farm.play(in_turn(CRASHED))
    run_id = farm.run(moving(plan_of(farm.devices(), ONNX)))
    with reading(farm.engine) as connection:
        [failed] = run_results(connection, run_id).failed
    assert (failed["device"], failed["code"]) == ("d0", "crashed")


def test_a_run_that_nobody_follows_is_worked_on(farm: Farm) -> None:
    made = plan_of(farm.devices(), TORCH)
    with writing(farm.engine) as connection:
        run_id = runs.submit(
            connection,
            made,
            Request(models=("net",)),
            None,
            owner="tester",
            this_host_id=1,
            now=farm.clock(),
            follow=False,
        ).sweep_run_id
    farm.clock.advance(3600)
    for _ in range(20):
        farm.tick()
    assert {state for _, state in farm.states(run_id)} == {"succeeded"}


def test_a_machine_is_the_host_that_was_seen_last(lab: UserFarm) -> None:
    """The row of a run that was killed may stand beside that of the host that joined."""
    with writing(lab.engine) as connection:
        stale = record_hello(connection, describe_host(), [], "3", utc_now() - timedelta(days=1))
        joined = record_hello(connection, describe_host("lab-2"), [], "3", utc_now() + timedelta(seconds=1))
    assert stale != joined
    assert lab.fleet().this_host_id == joined
