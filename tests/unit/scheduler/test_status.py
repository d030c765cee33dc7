"""How far a run is, and what can be asked of jobs."""

from __future__ import annotations

from typing import Any

import pytest

from device_registry.database import reading
from device_registry.errors import UsageError
from scheduler.executors.scripted import Outcome, Succeed
from scheduler.records import job_record, list_jobs
from scheduler.states import attempts
from scheduler.status import RunStatus, known_run, run_is_done, run_status
from tests.unit.scheduler.builders import BROKEN, CRASHED, ONNX, TORCH, Farm, in_turn, only, plan_of


def _status(farm: Farm, run_id: int) -> RunStatus:
    with reading(farm.engine) as connection:
        return run_status(connection, run_id, farm.clock())


def test_a_run_is_done_when_nothing_of_it_is_open(farm: Farm) -> None:
    run_id = farm.submit(plan_of(farm.devices(), TORCH)).sweep_run_id
    assert not _status(farm, run_id).done
    farm.settle()
    status = _status(farm, run_id)
    assert status.done
    assert status.left_s == 0
    assert [(job.kind, job.state, job.retries) for job in status.jobs] == [
        ("convert", "succeeded", 0),
        ("measure", "succeeded", 0),
    ]
    with reading(farm.engine) as connection:
        assert run_is_done(connection, run_id)


def test_failed_jobs_say_why_and_tries_are_told(farm: Farm) -> None:
    farm.play(in_turn(BROKEN, CRASHED))
    run_id = farm.run(plan_of(farm.devices(), TORCH))
    job = _status(farm, run_id).jobs[-1]
    assert (job.state, job.failure_code, job.failure_message) == ("failed", "crashed", CRASHED.message)
    assert job.retries == 1


def test_each_job_is_told_once_by_its_last_attempt(farm: Farm) -> None:
    farm.play(in_turn(BROKEN, BROKEN, "silent"))
    run_id = farm.submit(plan_of(farm.devices(), TORCH)).sweep_run_id
    while not [row for row in farm.live() if row.id > 3]:
        farm.tick()
    [convert, measure] = _status(farm, run_id).jobs
    assert convert.took_s is not None
    assert measure.since == farm.attempts(attempts.c.id == 4)[0].started_at
    assert measure.took_s is None


def test_the_time_left_comes_from_what_such_jobs_took(farm: Farm) -> None:
    farm.play(only("measure", "silent"))
    run_id = farm.submit(plan_of(farm.devices(), TORCH, repeats=3)).sweep_run_id
    while not farm.host.running:
        farm.tick(seconds=1)
    farm.clock.advance(100)
    [running] = farm.host.running
    farm.host.finish(running, Succeed())
    farm.tick(seconds=0)
    took = _status(farm, run_id).jobs[1].took_s
    assert took is not None
    assert took >= 100
    assert _status(farm, run_id).left_s == pytest.approx(2 * took)
    farm.clock.advance(took / 2)
    assert _status(farm, run_id).left_s == pytest.approx(1.5 * took)
    farm.clock.advance(5 * took)  # longer than expected: the one that runs is about to be done
    assert _status(farm, run_id).left_s == pytest.approx(took)


def test_the_time_left_is_known_from_earlier_runs(farm: Farm) -> None:
    def slow(order: Any) -> Outcome:
        farm.clock.advance(50)
        return Succeed()

    farm.play(slow)
    farm.run(plan_of(farm.devices(), TORCH, model="a"))
    run_id = farm.submit(plan_of(farm.devices(), TORCH, model="b")).sweep_run_id
    assert _status(farm, run_id).left_s >= 100


def test_a_run_that_waits_behind_another_says_so(farm: Farm) -> None:
    farm.play(only("measure", "silent"))
    first = farm.submit(plan_of(farm.devices(), TORCH, model="a")).sweep_run_id
    while not farm.host.running:
        farm.tick()
    second = farm.submit(plan_of(farm.devices(), TORCH, model="b")).sweep_run_id
    assert _status(farm, second).others_running == ("a on torch fp32, d0",)
    assert _status(farm, first).others_running == ()


def test_runs_are_known_by_number_or_as_the_latest(farm: Farm) -> None:
    with reading(farm.engine) as connection, pytest.raises(UsageError, match="nothing was run yet"):
        known_run(connection, None)
    runs = [farm.run(plan_of(farm.devices(), TORCH)) for _ in range(2)]
    with reading(farm.engine) as connection:
        assert known_run(connection, None) == runs[1]
        assert known_run(connection, runs[0]) == runs[0]
        with pytest.raises(UsageError, match="no run 77"):
            known_run(connection, 77)


def test_jobs_are_listed_newest_first_and_by_state(farm: Farm) -> None:
    farm.play(only("measure onnx", CRASHED))
    farm.run(plan_of(farm.devices(), TORCH, ONNX))
    with reading(farm.engine) as connection:
        assert [job["id"] for job in list_jobs(connection, None, 3, farm.clock())] == [4, 3, 2]
        assert [job["state"] for job in list_jobs(connection, "failed", 10, farm.clock())] == ["failed"]
        with pytest.raises(UsageError, match="no state 'fine'; states are blocked"):
            list_jobs(connection, "fine", 10, farm.clock())


def test_jobs_of_a_run_that_nobody_waits_for_say_that_it_can_be_resumed(farm: Farm) -> None:
    run_id = farm.submit(plan_of(farm.devices(), TORCH)).sweep_run_id
    farm.leave(run_id)
    with reading(farm.engine) as connection:
        whys = {job["why"] for job in list_jobs(connection, None, 10, farm.clock())}
    assert whys == {f"run {run_id} was interrupted; the same command resumes it"}


def test_a_jobs_record_tells_its_whole_history_and_no_token(farm: Farm) -> None:
    farm.play(in_turn(BROKEN))
    farm.run(plan_of(farm.devices(), TORCH))
    job_id = farm.job("measure").id
    with reading(farm.engine) as connection:
        found = job_record(connection, job_id, farm.clock())
        with pytest.raises(UsageError, match="no job 77"):
            job_record(connection, 77, farm.clock())
    changes = [(event["before"], event["after"]) for event in found["events"] if event["entity"] == "job"]
    assert changes == [
        (None, "blocked"),
        ("blocked", "queued"),
        ("queued", "running"),
        ("running", "queued"),
        ("queued", "running"),
        ("running", "succeeded"),
    ]
    assert [attempt["message"] for attempt in found["attempts"]] == [BROKEN.message, None]
    tokens = [row.token for row in farm.attempts()]
    assert not any(token in str(found) for token in tokens)


def test_what_an_attempt_says_of_itself_is_shown_while_it_runs(farm: Farm) -> None:
    farm.play(only("convert", "silent"))
    run_id = farm.submit(plan_of(farm.devices(), TORCH)).sweep_run_id
    while not farm.host.running:
        farm.tick()
    (attempt_id,) = farm.host.running
    for text in ("epoch 1/2, loss 0.5", "epoch 2/2, loss 0.4"):
        farm.host.says = {attempt_id: text, 77: "never heard of"}
        farm.tick()
        farm.tick()
        convert, measure = _status(farm, run_id).jobs
        assert (convert.progress, measure.progress) == (text, None)
        with reading(farm.engine) as connection:
            assert [job["progress"] for job in list_jobs(connection, None, 9, farm.clock())] == [None, text]
            assert job_record(connection, convert.id, farm.clock())["progress"] == text
    farm.host.finish(attempt_id, Succeed())
    farm.settle()
    assert [job.progress for job in _status(farm, run_id).jobs] == [None, None]
    assert [row.message for row in farm.attempts()] == [None, None]
