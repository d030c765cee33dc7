"""Submitting, waiting, resuming, cancelling: what becomes of jobs as rows."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, insert, update
from sqlalchemy.exc import IntegrityError

from device_registry.database import insert_row, writing
from device_registry.errors import UsageError
from scheduler import queue, runs
from scheduler.executors.scripted import Succeed
from scheduler.ingest import results
from scheduler.placement import Assignment, Place
from scheduler.queue import artifacts, sweep_runs
from scheduler.request import Request
from scheduler.states import (
    ATTEMPT_CHANGES,
    JOB_CHANGES,
    IllegalChangeError,
    LostRaceError,
    attempts,
    change_attempts,
    change_job,
    change_jobs,
    jobs,
)
from tests.unit.scheduler.builders import (
    CRASHED,
    INT8,
    ONNX,
    TORCH,
    Farm,
    check_counts,
    check_history,
    only,
    plan_of,
)
from workers.devices.cpu import machine_key
from workers.processes import this_process

MakeFarm = Callable[..., Farm]


def test_a_request_goes_from_rows_to_results(farm: Farm) -> None:
    run_id = farm.submit(plan_of(farm.devices(), TORCH, ONNX)).sweep_run_id
    assert farm.states() == [
        ("convert", "queued"),
        ("convert", "blocked"),
        ("measure", "blocked"),
        ("measure", "blocked"),
    ]
    farm.settle()
    assert {state for _, state in farm.states(run_id)} == {"succeeded"}
    assert farm.started() == ["convert pt2 fp32", "convert onnx fp32", "measure pt2 fp32", "measure onnx fp32"]
    assert [row.verdict for row in farm.results()] == ["valid", "valid"]
    assert all(farm.store.has(row.sha256) for row in farm.rows(artifacts))
    check_history(farm)
    check_counts(farm)


def test_a_measurement_is_queued_when_its_own_artifact_stands(farm: Farm) -> None:
    farm.submit(plan_of(farm.devices(), TORCH, ONNX))
    farm.play(only("convert onnx", "silent"))
    for _ in range(3):
        farm.tick()
    assert [row.title.split(" on ")[1] for row in farm.jobs(jobs.c.state == "blocked")] == [
        "onnxruntime fp32, d0",
    ]
    assert farm.job("measure").state == "queued"  # its host must be quiet first


def test_an_order_names_the_artifact_and_what_belongs_to_its_program(farm: Farm) -> None:
    farm.run(plan_of(farm.devices(), ONNX))
    order = list(farm.host.orders.values())[-1]
    program, made = farm.artifact("pt2 fp32"), farm.artifact("onnx fp32")
    # What it does not need stays where it is: a data set is large.
    assert order.inputs == {"artifact": made.sha256, "examples": program.companions["examples"]}
    assert set(program.companions) == {"examples", "calibration", "test"}


def test_a_failed_conversion_fails_all_that_waits_for_it_and_says_why(farm: Farm) -> None:
    farm.play(only("convert pt2", CRASHED))
    farm.run(plan_of(farm.devices(), TORCH, ONNX, repeats=2))
    assert {state for _, state in farm.states()} == {"failed"}
    assert all(CRASHED.message in row.failure_message and row.failure_cause == "model" for row in farm.jobs())
    assert farm.started() == ["convert pt2 fp32"]
    check_history(farm)


def test_a_failed_conversion_fails_nothing_else(farm: Farm) -> None:
    farm.play(only("convert onnx int8", CRASHED))
    farm.run(plan_of(farm.devices(), TORCH, ONNX, INT8))
    failed = {row.title for row in farm.jobs(jobs.c.state == "failed")}
    assert failed == {"onnx int8-static of net", "net on onnxruntime int8-static, d0"}
    assert len(farm.results()) == 2


def test_what_was_made_once_is_not_made_again(farm: Farm) -> None:
    farm.run(plan_of(farm.devices(), TORCH, ONNX))
    before = len(farm.host.orders)
    submitted = farm.submit(plan_of(farm.devices(), TORCH, ONNX))
    farm.settle()
    assert submitted.reused == 2
    assert farm.started()[before:] == ["measure pt2 fp32", "measure onnx fp32"]


@pytest.mark.parametrize("role", ["artifact", "examples"])
def test_an_artifact_whose_bytes_are_gone_is_made_again(farm: Farm, role: str) -> None:
    farm.run(plan_of(farm.devices(), TORCH))
    stored = farm.artifact("pt2 fp32")
    farm.lose(stored.sha256 if role == "artifact" else stored.companions[role])
    assert farm.submit(plan_of(farm.devices(), TORCH)).reused == 0
    farm.settle()
    assert farm.started() == ["convert pt2 fp32", "measure pt2 fp32"] * 2
    assert len(farm.rows(artifacts)) == 1


def test_bytes_gone_under_a_queued_job_of_another_run_are_made_again_for_both(make_farm: MakeFarm) -> None:
    """A submit that finds bytes missing drops the row: who was queued to use it must wait again, not break a tick."""
    farm = make_farm(kind="phone")
    farm.run(plan_of(farm.devices(), TORCH))
    first = farm.submit(plan_of(farm.devices(), TORCH, repeats=2)).sweep_run_id
    farm.lose(farm.artifact("pt2 fp32").sha256)
    second = farm.submit(plan_of(farm.devices(), TORCH, salt="another")).sweep_run_id
    farm.settle()
    assert {state for _, state in farm.states(first) + farm.states(second)} == {"succeeded"}
    check_history(farm)


def test_two_runs_that_need_the_same_artifact_make_it_once(farm: Farm) -> None:
    first = farm.submit(plan_of(farm.devices(), ONNX)).sweep_run_id
    second = farm.submit(plan_of(farm.devices(), TORCH, ONNX, salt="another")).sweep_run_id
    farm.settle()
    assert [what for what in farm.started() if what.startswith("convert")] == ["convert pt2 fp32", "convert onnx fp32"]
    assert farm.states(first)[-1:] == [("measure", "succeeded")]
    assert farm.states(second) == [("measure", "succeeded")] * 2


def test_runs_go_in_the_order_they_came(farm: Farm) -> None:
    runs = [farm.submit(plan_of(farm.devices(), TORCH, model=name)).sweep_run_id for name in ("a", "b")]
    farm.settle()
    measured = [row.sweep_run_id for row in farm.results()]
    assert measured == runs


def test_a_run_that_nobody_follows_rests(farm: Farm) -> None:
    run_id = farm.submit(plan_of(farm.devices(), TORCH)).sweep_run_id
    farm.leave(run_id)
    farm.tick()
    assert farm.host.orders == {}
    assert farm.states(run_id) == [("convert", "queued"), ("measure", "blocked")]


def test_a_run_whose_follower_fell_silent_rests(farm: Farm) -> None:
    run_id = farm.submit(plan_of(farm.devices(), TORCH)).sweep_run_id
    farm.followed.discard(run_id)  # killed: it says goodbye to nobody
    farm.clock.advance(runs.FOLLOW_S + 1)
    farm.tick()
    assert farm.host.orders == {}


def test_a_scheduled_run_needs_no_follower(farm: Farm) -> None:
    run_id = farm.submit(plan_of(farm.devices(), TORCH)).sweep_run_id
    farm.followed.discard(run_id)
    with writing(farm.engine) as connection:
        connection.execute(update(sweep_runs).values(followed_until=None, follower_pid=None))
    farm.clock.advance(3600)
    for _ in range(4):
        farm.tick()
    assert {state for _, state in farm.states(run_id)} == {"succeeded"}


def test_the_same_request_resumes_what_was_left_and_redoes_nothing(farm: Farm) -> None:
    made = plan_of(farm.devices(), TORCH, ONNX)
    first = farm.submit(made)
    for _ in range(2):
        farm.tick()
    farm.leave(first.sweep_run_id)
    before = farm.states()
    assert ("convert", "succeeded") in before
    again = farm.submit(made)
    assert (again.sweep_run_id, again.resumed) == (first.sweep_run_id, True)
    farm.settle()
    assert sorted(farm.started()) == sorted(set(farm.started()))
    assert {state for _, state in farm.states()} == {"succeeded"}
    check_history(farm)


def test_the_same_request_beside_a_run_that_is_followed_is_a_run_of_its_own(farm: Farm) -> None:
    made = plan_of(farm.devices(), TORCH)
    runs = {farm.submit(made).sweep_run_id for _ in range(2)}
    farm.settle()
    assert len(runs) == 2
    assert len(farm.results()) == 2


def test_a_run_whose_follower_was_killed_is_resumed_at_once(farm: Farm) -> None:
    """On the same host its death is known; the follower of another host must first fall silent."""
    made = plan_of(farm.devices(), TORCH)
    first = farm.submit(made).sweep_run_id
    with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
        started = this_process().started
    with writing(farm.engine) as connection:
        gone = {"follower_pid": dead.pid, "follower_started": started}
        connection.execute(update(sweep_runs).values(**gone, follower_host="another host"))
    assert not farm.submit(made).resumed
    with writing(farm.engine) as connection:
        connection.execute(
            update(sweep_runs).where(sweep_runs.c.id == first).values(**gone, follower_host=machine_key())
        )
    assert farm.submit(made).sweep_run_id == first


def test_a_finished_request_is_measured_anew(farm: Farm) -> None:
    made = plan_of(farm.devices(), TORCH)
    first = farm.run(made)
    farm.leave(first)
    again = farm.submit(made)
    assert not again.resumed
    assert again.sweep_run_id != first


@pytest.mark.parametrize("when", ["before", "after"])
def test_conversions_of_an_abandoned_run_are_adopted_by_a_run_that_needs_them(farm: Farm, when: str) -> None:
    """Two links of a chain, left before or after the run that needs them was submitted."""
    left = farm.submit(plan_of(farm.devices(), ONNX)).sweep_run_id
    if when == "before":
        farm.leave(left)
    needing = farm.submit(plan_of(farm.devices(), ONNX, salt="another")).sweep_run_id
    if when == "after":
        farm.leave(left)
    farm.settle()
    assert farm.states(needing)[-1] == ("measure", "succeeded")
    assert farm.states(left) == [("measure", "queued")]
    assert farm.started() == ["convert pt2 fp32", "convert onnx fp32", "measure onnx fp32"]


def test_conversions_of_an_abandoned_run_are_made_for_one_that_nobody_follows(farm: Farm) -> None:
    left = farm.submit(plan_of(farm.devices(), ONNX)).sweep_run_id
    with writing(farm.engine) as connection:
        made = plan_of(farm.devices(), ONNX, salt="another")
        asked = Request(models=("net",))
        runs.submit(connection, made, asked, None, owner="ci", this_host_id=1, now=farm.clock(), follow=False)
    farm.leave(left)
    for _ in range(10):
        farm.tick()
    assert farm.states(left) == [("measure", "queued")]
    assert farm.jobs()[-1].state == "succeeded"


def test_a_conversion_left_while_it_ran_is_adopted_and_made(farm: Farm) -> None:
    left = farm.submit(plan_of(farm.devices(), TORCH)).sweep_run_id
    farm.play("silent")
    farm.tick()
    farm.dispatcher.stop()
    farm.leave(left)
    farm.dispatcher = farm.new_dispatcher()
    needing = farm.submit(plan_of(farm.devices(), TORCH, salt="another")).sweep_run_id
    farm.play(Succeed())
    farm.settle()
    assert farm.states(needing)[-1] == ("measure", "succeeded")
    check_history(farm)


def test_cancelling_a_queued_job_keeps_it_from_running(farm: Farm) -> None:
    farm.submit(plan_of(farm.devices(), TORCH, repeats=2))
    farm.play(only("measure", "silent"))
    farm.tick()
    farm.tick()
    assert farm.cancel(farm.job("measure", 1).id) is None
    farm.host.finish(farm.live()[0].id, Succeed())
    farm.settle()
    assert [state for _, state in farm.states()] == ["succeeded", "succeeded", "cancelled"]
    assert len(farm.results()) == 1


def test_cancelling_a_conversion_cancels_what_waits_for_it(farm: Farm) -> None:
    farm.submit(plan_of(farm.devices(), TORCH, ONNX))
    farm.cancel(farm.job("convert", 1).id)
    farm.settle()
    assert [(row.title, row.state) for row in farm.jobs(jobs.c.state == "cancelled")] == [
        ("onnx fp32 of net", "cancelled"),
        ("net on onnxruntime fp32, d0", "cancelled"),
    ]
    assert farm.started() == ["convert pt2 fp32", "measure pt2 fp32"]
    check_history(farm)


def test_cancelling_a_running_job_ends_its_attempt_and_counts_no_report_of_it(farm: Farm) -> None:
    farm.submit(plan_of(farm.devices(), TORCH))
    farm.play(only("measure", "silent"))
    farm.tick()
    farm.tick()
    [attempt] = farm.live()
    assert farm.cancel(farm.job("measure").id) == attempt.id
    farm.tick()
    assert farm.host.running == set()
    farm.host.finish(attempt.id, Succeed())  # it had finished in the same moment
    farm.tick()
    assert farm.states()[-1] == ("measure", "cancelled")
    assert farm.results() == []
    assert farm.points() == []
    assert farm.attempts()[-1].state == "cancelled"
    check_history(farm)


@pytest.mark.parametrize("state", ["succeeded", "cancelled"])
def test_what_is_over_cannot_be_cancelled(farm: Farm, state: str) -> None:
    farm.submit(plan_of(farm.devices(), TORCH))
    job_id = farm.job("measure").id
    if state == "succeeded":
        farm.settle()
    else:
        farm.cancel(job_id)
    with pytest.raises(UsageError, match=f"job {job_id} is {state} already"):
        farm.cancel(job_id)


def test_cancelling_an_unknown_job_is_wrong_usage(farm: Farm) -> None:
    with pytest.raises(UsageError, match="no job 77"):
        farm.cancel(77)


def test_priority_goes_before_age(farm: Farm) -> None:
    for name in ("a", "b"):
        farm.run(plan_of(farm.devices(), TORCH, model=name))
    old, new = (farm.submit(plan_of(farm.devices(), TORCH, model=name)).sweep_run_id for name in ("a", "b"))
    with writing(farm.engine) as connection:
        connection.execute(update(jobs).where(jobs.c.sweep_run_id == new).values(priority=1, rank=jobs.c.rank - 60))
    farm.settle()
    assert [row.sweep_run_id for row in farm.results()][-2:] == [new, old]


def test_claiming_a_job_that_is_taken_already_takes_nothing(farm: Farm) -> None:
    farm.submit(plan_of(farm.devices(), TORCH))
    host_id = farm.devices()[0].host_id
    later = farm.clock() + timedelta(seconds=60)

    def claim(connection: Connection, slot: int) -> list[queue.Claimed]:
        place = Place(key=f"slot:1:{slot}", host_id=host_id, kind="slot")
        given = [Assignment(farm.job("convert").id, place)]
        return queue.claim(
            connection, given, {host_id: 10**9}, who="d", lease_until=later, own_pids={}, now=farm.clock()
        )

    with writing(farm.engine) as connection:
        assert len(claim(connection, 0)) == 1
    with writing(farm.engine) as connection:
        assert claim(connection, 1) == []
    assert len(farm.attempts()) == 1
    check_history(farm)


@pytest.mark.parametrize(
    ("table", "same"),
    [
        (attempts, "device_id"),
        (attempts, "job_id"),
        (attempts, "place"),
        (artifacts, "key"),
        (results, "attempt_id"),
        (sweep_runs, "due_at"),
        (jobs, "makes_key"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_database_itself_refuses_two_where_there_may_be_one(make_farm: MakeFarm, table: Any, same: str) -> None:
    farm = make_farm(kind="phone", devices=2)
    filled = _filled(farm)
    with writing(farm.engine) as connection:
        insert_row(connection, table, **filled[table.name, "other"])  # apart in all that counts: no objection
    with pytest.raises(IntegrityError), writing(farm.engine) as connection:
        insert_row(connection, table, **filled[table.name, "third"] | {same: filled[table.name, "first"][same]})


@pytest.mark.parametrize("state", ["finished", "lost", "cancelled", "stale"])
def test_a_dead_attempt_holds_neither_job_nor_place(farm: Farm, state: str) -> None:
    filled = _filled(farm)
    with writing(farm.engine) as connection:
        connection.execute(update(attempts).values(state=state))
        insert_row(connection, attempts, **filled["attempt", "first"])


def test_a_finished_conversion_may_be_made_again(farm: Farm) -> None:
    filled = _filled(farm)
    with writing(farm.engine) as connection:
        connection.execute(update(jobs).where(jobs.c.kind == "convert").values(state="succeeded"))
        insert_row(connection, jobs, **filled["job", "first"])


def _filled(farm: Farm) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows that live, and for each table two others that differ in all that must be unique."""
    farm.submit(plan_of(farm.devices()[:1], TORCH, INT8, repeats=2))
    farm.play(only("measure", "silent"))
    while not (taken := farm.attempts(attempts.c.device_id.is_not(None))):
        farm.tick()
    device, now = farm.devices()[0], farm.clock()
    first = {name: value for name, value in taken[0]._mapping.items() if name != "id"}
    spare = [row.id for row in farm.jobs(jobs.c.state != "running", jobs.c.id != first["job_id"])]
    rows: dict[tuple[str, str], dict[str, Any]] = {("attempt", "first"): first}
    for name, job_id in zip(("other", "third"), spare, strict=False):
        rows["attempt", name] = first | {"job_id": job_id, "device_id": None, "place": name}
    run = {
        "schedule": "nightly",
        "due_at": now,
        "request": {},
        "request_digest": "d",
        "unsupported": [],
        "owner": "tester",
        "created_at": now,
    }
    made = {
        "sha256": "s",
        "bytes": 1,
        "format": "f",
        "recipe": "r",
        "model": "m",
        "companions": {},
        "provenance": {},
        "created_at": now,
    }
    job = {
        "sweep_run_id": 1,
        "kind": "convert",
        "state": "queued",
        "position": 0,
        "requirement_id": farm.job("convert").requirement_id,
        "owner": "tester",
        "title": "t",
        "payload_id": farm.job("convert").payload_id,
        "created_at": now,
        "changed_at": now,
    }
    result = {
        "job_id": spare[0],
        "sweep_run_id": 1,
        "device_id": device.id,
        "case_key": "c",
        "verdict": "valid",
        "p50_ms": 1.0,
        "artifact_sha256": "s",
        "document": {},
        "created_at": now,
    }
    with writing(farm.engine) as connection:
        tries = [row.id for row in farm.attempts()]
        for index, name in enumerate(("first", "other", "third")):
            rows["sweep_run", name] = run | {"due_at": now + timedelta(hours=index)}
            rows["artifact", name] = made | {"key": f"key-{index}"}
            rows["job", name] = job | {"makes_key": f"made-{index}"}
            rows["result", name] = result | {"attempt_id": tries[index]}
        for table in (sweep_runs, artifacts, jobs, results):
            connection.execute(insert(table).values(**rows[table.name, "first"]))
    return rows


@pytest.mark.parametrize("entity", ["job", "attempt"])
def test_only_changes_in_the_table_of_changes_are_made(farm: Farm, entity: str) -> None:
    farm.submit(plan_of(farm.devices(), TORCH))
    farm.tick()
    legal, change = (JOB_CHANGES, change_jobs) if entity == "job" else (ATTEMPT_CHANGES, change_attempts)
    for before, afters in legal.items():
        for after in set(legal) - set(afters):
            refused = pytest.raises(IllegalChangeError, match=f"{entity} 1: {before} -> {after}")
            with refused, writing(farm.engine) as connection:
                change(connection, [1], before, after, who="t", why=None, now=farm.clock())


def test_a_change_from_a_state_that_has_passed_is_refused_and_leaves_no_event(farm: Farm) -> None:
    farm.submit(plan_of(farm.devices(), TORCH))
    with pytest.raises(LostRaceError), writing(farm.engine) as connection:
        change_job(connection, farm.job("convert").id, "running", "succeeded", who="t", why=None, now=farm.clock())
    check_history(farm)
