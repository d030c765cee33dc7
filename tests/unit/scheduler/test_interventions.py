"""Cancelling and trying again: never at the cost of somebody else's run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import pytest
from sqlalchemy import Connection, event

from device_registry.database import reading, writing
from device_registry.errors import UsageError
from scheduler import expiry, interventions, queue
from scheduler.comparisons import run_results
from scheduler.request import Request
from scheduler.states import jobs
from scheduler.status import run_status
from tests.unit.scheduler.builders import (
    CRASHED,
    ONNX,
    TORCH,
    Farm,
    check_counts,
    check_history,
    in_turn,
    only,
    plan_of,
)

Found = TypeVar("Found")


def change(farm: Farm, do: Callable[[Connection], Found]) -> Found:
    with writing(farm.engine) as connection:
        return do(connection)


def cancel(farm: Farm, *ids: int) -> list[int]:
    return change(farm, lambda c: interventions.cancel(c, ids, who="tester", now=farm.clock()))


def cancel_run(farm: Farm, run_id: int) -> int:
    return change(farm, lambda c: interventions.cancel_run(c, run_id, who="tester", now=farm.clock()))


def retry(farm: Farm, *ids: int) -> dict[int, int]:
    return change(farm, lambda c: interventions.retry(c, ids, who="tester", now=farm.clock()))


def test_several_jobs_are_cancelled_or_none(farm: Farm) -> None:
    farm.submit(plan_of(farm.devices(), TORCH, ONNX))
    with pytest.raises(UsageError, match="no job 99"):
        cancel(farm, 1, 99)
    assert {state for _, state in farm.states()} == {"queued", "blocked"}
    assert cancel(farm, 1, 2, 3) == []
    assert {state for _, state in farm.states()} == {"cancelled"}
    with pytest.raises(UsageError, match="job 1 is cancelled already"):
        cancel(farm, 1)
    check_history(farm)


def test_a_conversion_that_others_wait_for_outlives_its_run(farm: Farm) -> None:
    first = farm.submit(plan_of(farm.devices(), ONNX, salt="a")).sweep_run_id
    second = farm.submit(plan_of(farm.devices(), ONNX, salt="b")).sweep_run_id
    assert cancel_run(farm, first) == 1
    assert farm.states(first) == [("measure", "cancelled")]
    farm.followed.discard(first)
    farm.settle()
    assert farm.states(second) == [("convert", "succeeded"), ("convert", "succeeded"), ("measure", "succeeded")]
    check_history(farm)
    check_counts(farm)


def test_a_cancelled_conversion_goes_on_for_others_only(farm: Farm) -> None:
    first = farm.submit(plan_of(farm.devices(), TORCH, salt="a")).sweep_run_id
    second = farm.submit(plan_of(farm.devices(), TORCH, salt="b")).sweep_run_id
    assert cancel(farm, 1) == [1]
    assert farm.states(first) == [("measure", "cancelled")]
    assert farm.states(second) == [("convert", "queued"), ("measure", "blocked")]


def test_conversions_that_others_wait_for_outlive_their_cancelling_together(farm: Farm) -> None:
    farm.submit(plan_of(farm.devices(), ONNX, salt="a"))
    second = farm.submit(plan_of(farm.devices(), ONNX, salt="b")).sweep_run_id
    assert cancel(farm, 1, 2) == [1, 2]
    assert farm.states(second) == [("convert", "queued"), ("convert", "blocked"), ("measure", "blocked")]
    check_counts(farm)


def test_the_conversion_of_a_cancelled_run_goes_to_one_that_is_worked_on(farm: Farm) -> None:
    first = farm.submit(plan_of(farm.devices(), ONNX, salt="a")).sweep_run_id
    resting = farm.submit(plan_of(farm.devices(), ONNX, salt="b")).sweep_run_id
    last = farm.submit(plan_of(farm.devices(), ONNX, salt="c")).sweep_run_id
    farm.leave(resting)
    cancel_run(farm, first)
    farm.followed.discard(first)
    assert farm.states(last) == [("convert", "queued"), ("convert", "blocked"), ("measure", "blocked")]
    cancel_run(farm, last)  # it is kept even for one that rests, if nobody else wants it
    assert farm.states(resting) == [("convert", "queued"), ("convert", "blocked"), ("measure", "blocked")]
    farm.followed.discard(last)
    farm.followed.add(farm.submit(plan_of(farm.devices(), ONNX, salt="b")).sweep_run_id)
    farm.settle()
    assert farm.states(resting)[-1] == ("measure", "succeeded")
    check_history(farm)
    check_counts(farm)


@pytest.mark.parametrize("end", ["cancel", "fail", "expire"])
def test_what_waits_for_a_conversion_ends_with_it_in_few_statements_however_much_it_is(farm: Farm, end: str) -> None:
    def statements(repeats: int) -> int:
        seen: list[str] = []

        def see(_connection: object, _cursor: object, text: str, *_: object) -> None:
            seen.append(text)

        made = plan_of(farm.devices(), ONNX, model=f"net{repeats}", repeats=repeats)
        run_id = farm.submit(made, Request(models=("net",), queue_timeout_s=5.0)).sweep_run_id
        first = farm.jobs(jobs.c.sweep_run_id == run_id)[0].id
        now = farm.clock() + timedelta(seconds=6)
        event.listen(farm.engine, "before_cursor_execute", see)
        with writing(farm.engine) as connection:
            if end == "cancel":
                queue.cancel_job(connection, first, who="tester", now=now)
            elif end == "fail":
                queue.fail_job(connection, first, "queued", "model", "crashed", "it crashed", who="tester", now=now)
            else:
                assert expiry.expire_queued(connection, who="tester", now=now) == repeats
        event.remove(farm.engine, "before_cursor_execute", see)
        assert {state for _, state in farm.states(run_id)} <= {"cancelled", "failed"}
        return len(seen)

    assert statements(2) == statements(40)
    check_history(farm)


def test_what_runs_of_a_cancelled_run_is_ended(farm: Farm) -> None:
    farm.play(only("measure", "silent"))
    run_id = farm.submit(plan_of(farm.devices(), TORCH, repeats=3)).sweep_run_id
    while not farm.host.running:
        farm.tick()
    assert cancel_run(farm, run_id) == 3
    for _ in range(3):
        farm.tick()
    assert farm.host.running == set()
    assert farm.live() == []
    with reading(farm.engine) as connection:
        assert run_status(connection, run_id, farm.clock()).done
    check_history(farm)


def test_what_failed_is_tried_again_in_its_run_and_counts_no_more(farm: Farm) -> None:
    farm.play(in_turn(CRASHED))
    run_id = farm.run(plan_of(farm.devices(), TORCH))
    failed = farm.job("measure")
    with writing(farm.engine) as connection:
        assert interventions.failed_of(connection, run_id) == [failed.id]
    made = retry(farm, failed.id)
    farm.settle()
    again = farm.jobs(jobs.c.id == made[failed.id])[0]
    assert (again.state, again.case_key, again.sweep_run_id) == ("succeeded", failed.case_key, run_id)
    with reading(farm.engine) as connection:
        found = run_results(connection, run_id)
        counts = run_status(connection, run_id, farm.clock()).counts
    assert (found.failed, len(found.results)) == ([], 1)
    assert {state: count for state, count in counts.items() if count} == {"succeeded": 2}
    with writing(farm.engine) as connection, pytest.raises(UsageError, match="nothing of run"):
        interventions.failed_of(connection, run_id)
    check_history(farm)
    check_counts(farm)


def test_a_conversion_that_failed_is_made_again_for_what_needs_it(farm: Farm) -> None:
    farm.play(only("convert onnx", CRASHED))
    run_id = farm.run(plan_of(farm.devices(), ONNX))
    farm.play(only("nothing", CRASHED))
    measure = farm.job("measure")
    assert measure.state == "failed"
    retry(farm, measure.id)
    assert farm.states(run_id)[-2:] == [("convert", "queued"), ("measure", "blocked")]
    farm.settle()
    assert farm.states(run_id)[-2:] == [("convert", "succeeded"), ("measure", "succeeded")]
    with pytest.raises(UsageError, match="only failed and cancelled"):
        retry(farm, farm.jobs()[-1].id)


def test_a_retry_in_a_run_that_nobody_follows_is_worked_on(farm: Farm) -> None:
    farm.play(in_turn(CRASHED))
    run_id = farm.run(plan_of(farm.devices(), TORCH))
    farm.leave(run_id)
    farm.clock.advance(60)
    retry(farm, farm.job("measure").id)
    for _ in range(5):
        farm.tick()
    assert farm.jobs()[-1].state == "succeeded"


def test_tags_are_set_and_taken_away(farm: Farm) -> None:
    def tag(add: tuple[str, ...], remove: tuple[str, ...] = ()) -> None:
        change(farm, lambda c: interventions.tag_device(c, 1, add, remove, who="tester", now=farm.clock()))

    tag(("canary", "old"))
    tag((), ("old",))
    assert farm.devices()[0].tags == ("canary",)
    with pytest.raises(UsageError, match="tag 'a b'"):
        tag(("a b",))
