"""Reports become rows: only for the live token, once; damaged artifacts are made again; points from repeats."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from device_registry.database import reading, writing
from scheduler.executors.scripted import Outcome, Succeed
from scheduler.ingest import lose_attempts, results
from scheduler.points import points, series
from scheduler.queue import MOST_ATTEMPTS, artifacts
from scheduler.states import attempts, events, jobs
from scheduler.telemetry import telemetry
from tests.unit.scheduler.builders import (
    BROKEN,
    CRASHED,
    INT8,
    ONNX,
    TORCH,
    Farm,
    check_counts,
    check_history,
    describe,
    in_turn,
    of_invocations_in_turn,
    only,
    plan_of,
)
from workers.codec import from_dict
from workers.contract import Failure, Order
from workers.report import Report

MakeFarm = Callable[..., Farm]


def _measuring(farm: Farm, *cases: tuple[str, str, str], repeats: int = 1) -> int:
    """Submit, and work until a measurement runs that says nothing; returns its attempt."""
    farm.play(only("measure", "silent"))
    farm.submit(plan_of(farm.devices(), *cases, repeats=repeats))
    for _ in range(20):
        farm.tick()
        if found := [row.id for row in farm.live() if row.device_id is not None and row.state == "running"]:
            return int(found[0])
    raise AssertionError(farm.states())


def _lost(farm: Farm) -> int:
    """An attempt that was given up while its job runs again, silently, under another."""
    first = _measuring(farm)
    with writing(farm.engine) as connection:
        lose_attempts(connection, [first], who="test", why="its lease ran out", now=farm.clock())
    farm.host.running.discard(first)
    for _ in range(8):
        farm.tick()
    [second] = farm.live()
    assert second.id != first
    return first


def _everything(farm: Farm) -> list[Any]:
    tables = (jobs, attempts, events, results, points, series, artifacts, telemetry)
    return [farm.rows(table) for table in tables]


def test_a_report_under_a_token_that_is_not_the_attempts_changes_nothing(farm: Farm) -> None:
    attempt = _measuring(farm)
    before = _everything(farm)
    farm.host.finish(attempt, Succeed(), token="0" * 32)
    farm.host.running.add(attempt)
    farm.tick()
    after = _everything(farm)
    before[1] = after[1] = []  # the lease is renewed all the same
    assert after == before
    assert len(farm.live()) == 1


def test_a_report_of_an_attempt_of_another_database_changes_nothing(farm: Farm) -> None:
    attempt = _measuring(farm)
    farm.host.finish(attempt, Succeed(), attempt_id=4711)
    farm.host.running.add(attempt)
    farm.tick()
    assert farm.results() == []
    assert len(farm.live()) == 1


def test_a_result_after_the_lease_was_lost_is_kept_and_never_counted(farm: Farm) -> None:
    first = _lost(farm)
    farm.host.finish(first, Succeed(p50_ms=100.0))
    farm.tick()
    assert [(row.attempt_id, row.stale) for row in farm.results()] == [(first, True)]
    assert farm.points() == []
    assert farm.job("measure").state == "running"
    assert farm.attempts(attempts.c.id == first)[0].state == "stale"
    farm.host.finish(farm.live()[0].id, Succeed(p50_ms=2.0))
    farm.settle()
    assert [row.value for row in farm.points()] == [2.0]
    check_history(farm)
    check_counts(farm)


def test_a_late_result_that_comes_twice_is_kept_once(farm: Farm) -> None:
    first = _lost(farm)
    for _ in range(2):
        farm.host.finish(first, Succeed())
    farm.tick()
    farm.host.finish(first, Succeed())
    farm.tick()
    assert len(farm.results()) == 1


def test_a_late_failure_fails_nothing(farm: Farm) -> None:
    first = _lost(farm)
    farm.host.finish(first, CRASHED)
    farm.tick()
    assert farm.job("measure").state == "running"
    assert farm.results() == []


def test_a_late_conversion_is_not_taken(farm: Farm) -> None:
    farm.play("silent")
    farm.submit(plan_of(farm.devices(), TORCH))
    farm.tick()
    farm.tick()
    [first] = farm.live()
    with writing(farm.engine) as connection:
        lose_attempts(connection, [first.id], who="test", why="its lease ran out", now=farm.clock())
    farm.host.finish(first.id, Succeed())
    farm.tick()
    assert farm.rows(artifacts) == []
    farm.play(Succeed())
    for _ in range(4):
        farm.tick()
    farm.settle()
    assert len(farm.rows(artifacts)) == 1


def test_an_event_that_comes_twice_is_taken_once(farm: Farm) -> None:
    attempt = _measuring(farm)
    for _ in range(2):
        farm.host.finish(attempt, Succeed())
    farm.tick()
    farm.host.finish(attempt, Succeed(p50_ms=9.0))
    farm.tick()
    assert [row.p50_ms for row in farm.results()] == [1.0]
    assert [row.repeats for row in farm.points()] == [1]
    check_history(farm)


def test_a_failure_reported_twice_costs_one_try(farm: Farm) -> None:
    attempt = _measuring(farm)
    for _ in range(MOST_ATTEMPTS):
        farm.host.finish(attempt, BROKEN)
    farm.tick()
    assert farm.job("measure").attempts == 1
    assert farm.job("measure").state == "queued"


@pytest.mark.parametrize(
    "broken",
    [
        {"result": {}},
        {"result": None},
        {"judgement": {"verdict": "splendid"}},
        {"environment": 7},
        {"wall_s": "1.5"},
        {"wall_s": float("nan")},
        {"child_s": float("-inf")},
    ],
    ids=str,
)
def test_a_report_that_breaks_the_contract_fails_its_job_loudly(farm: Farm, broken: dict[str, Any]) -> None:
    attempt = _measuring(farm)
    farm.host.finish(attempt, Succeed(), **broken)
    farm.settle()
    job = farm.job("measure")
    assert (job.state, job.failure_cause, job.failure_code) == ("failed", "bug", "bad_report")


@pytest.mark.parametrize("kind", ["convert", "measure"])
@pytest.mark.parametrize("content", ["nothing", "the other"])
def test_a_report_without_what_was_asked_for_fails_its_job_and_not_the_dispatcher(
    farm: Farm, kind: str, content: str
) -> None:
    """The agent's successor would report it again and again: one bad document must not stop a farm."""
    farm.run(plan_of(farm.devices(), TORCH, model="other"))
    documents = [order.attempt_id for order in farm.host.orders.values()]
    farm.play(only(kind, "silent"))
    farm.submit(plan_of(farm.devices(), TORCH))
    while not farm.host.running:
        farm.tick()
    [attempt] = farm.host.running
    order = farm.host.orders[attempt]
    names = {"attempt_id": attempt, "token": order.token}
    result = {**names, "started_at": 0.0, "finished_at": 1.0}
    if content == "the other":
        other = documents[1 if kind == "convert" else 0]
        farm.host.finish(other, Succeed())
        made = json.loads(farm.host.poll(0)["events"][-1]["report"])["result"]
        result |= {"measurement": made["measurement"], "conversion": made["conversion"]}
    farm.host.finish(attempt, Succeed(), result=result)
    farm.settle()
    job = farm.job(kind, 1)
    assert (job.state, job.failure_cause) == ("failed", "bug")
    check_history(farm)


def test_a_report_says_which_log_belongs_to_the_attempt(farm: Farm) -> None:
    attempt = _measuring(farm)
    farm.host.finish(attempt, CRASHED, log_sha256="a" * 64)
    farm.tick()
    [row] = farm.attempts(attempts.c.id == attempt)
    assert (row.log_sha256, row.message) == ("a" * 64, CRASHED.message)


def test_readings_become_rows_and_the_document_keeps_the_rest(farm: Farm) -> None:
    attempt = _measuring(farm)
    known = {"sensor": "rapl", "domain": "package", "quantity": "energy", "unit": "mJ"}
    readings = [
        {**known, "value": 7.5, "quality": "ok", "at": 1000.0},
        {**known, "value": None, "quality": "no_permission", "at": 1001.0, "why": "needs root"},
    ]
    farm.host.finish(attempt, Succeed(), telemetry=readings)
    farm.tick()
    rows = farm.rows(telemetry)
    assert [(row.attempt_id, row.value, row.quality, row.at.timestamp()) for row in rows] == [
        (attempt, 7.5, "ok", 1000.0),
        (attempt, None, "no_permission", 1001.0),
    ]
    assert rows[0].device_id == farm.devices()[0].id
    [result] = farm.results()
    assert "telemetry" not in result.document
    assert from_dict(Report, result.document).result.measurement is not None


def test_a_document_is_kept_as_it_came_whatever_its_text_says(farm: Farm) -> None:
    attempt = _measuring(farm)
    said = {"driver": "NaN and Infinity", "quote": '"\\ \u00e9 \U0001f600'}
    farm.host.finish(attempt, Succeed(p50_ms=0.1 + 0.2), environment=said, wall_s=1 / 3)
    farm.settle()
    [result] = farm.results()
    assert (result.document["environment"], result.document["wall_s"]) == (said, 1 / 3)
    assert result.p50_ms == result.document["result"]["measurement"]["timings"]["p50_ms"] == 0.1 + 0.2
    assert [row.value for row in farm.points()] == [0.1 + 0.2]


def test_a_result_knows_its_run_case_device_and_artifact(farm: Farm) -> None:
    run_id = farm.run(plan_of(farm.devices(), ONNX))
    [result] = farm.results()
    assert (result.sweep_run_id, result.device_id) == (run_id, farm.devices()[0].id)
    assert result.case_key == farm.job("measure").case_key
    assert result.artifact_sha256 == farm.artifact().sha256


def test_a_converted_artifact_shares_the_companions_of_its_program(farm: Farm) -> None:
    farm.run(plan_of(farm.devices(), ONNX))
    assert farm.artifact().companions == farm.artifact("pt2 fp32").companions
    assert farm.artifact().provenance["versions"] == {"scripted": "1"}


@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_damaged_calibration_is_made_again_for_the_conversion_that_needs_it(farm: Farm, how: str) -> None:
    """What measures does not need it, and does not look."""
    farm.run(plan_of(farm.devices(), ONNX))
    again = farm.submit(plan_of(farm.devices(), ONNX, salt="again")).sweep_run_id
    (farm.damage if how == "damaged" else farm.lose)(farm.artifact().companions["calibration"])
    farm.settle()
    assert not farm.jobs(jobs.c.sweep_run_id == again, jobs.c.kind == "convert")
    run_id = farm.submit(plan_of(farm.devices(), INT8)).sweep_run_id
    farm.settle()
    made_again = [row.title for row in farm.jobs(jobs.c.sweep_run_id == run_id, jobs.c.kind == "convert")]
    assert "pt2 fp32 of net" in made_again
    assert {state for _, state in farm.states(run_id)} == {"succeeded"}


@pytest.mark.parametrize("role", ["artifact", "examples"])
@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_a_damaged_file_is_made_again_and_then_measured(farm: Farm, role: str, how: str) -> None:
    """Whether the artifact itself or a companion that it shares with its program."""
    farm.run(plan_of(farm.devices(), TORCH, ONNX))
    stored = farm.artifact()
    run_id = farm.submit(plan_of(farm.devices(), TORCH, ONNX, salt="again")).sweep_run_id
    (farm.damage if how == "damaged" else farm.lose)({"artifact": stored.sha256, **stored.companions}[role])
    farm.settle()
    assert {state for _, state in farm.states(run_id)} == {"succeeded"}
    made_again = [row.title for row in farm.jobs(jobs.c.sweep_run_id == run_id, jobs.c.kind == "convert")]
    assert made_again == (["onnx fp32 of net"] if role == "artifact" else ["pt2 fp32 of net", "onnx fp32 of net"])
    assert all(farm.store.has(row.sha256) for row in farm.rows(artifacts))
    dropped = farm.rows(events, events.c.entity == "artifact", events.c.after == "damaged")
    assert len(dropped) == len(made_again)
    check_history(farm)
    check_counts(farm)


def test_a_measurement_waits_while_its_damaged_artifact_is_made_again(farm: Farm) -> None:
    farm.run(plan_of(farm.devices(), TORCH))
    farm.submit(plan_of(farm.devices(), TORCH, salt="again"))
    farm.damage(farm.artifact("pt2 fp32").sha256)
    farm.play(only("convert", "silent"))
    for _ in range(4):
        farm.tick()
    assert farm.states()[2:] == [("measure", "blocked"), ("convert", "running")]
    assert farm.rows(artifacts) == []
    farm.host.finish(farm.live()[0].id, Succeed())
    farm.settle()
    assert farm.states()[2:] == [("measure", "succeeded"), ("convert", "succeeded")]


def test_a_conversion_whose_program_is_damaged_waits_for_it(farm: Farm) -> None:
    farm.run(plan_of(farm.devices(), TORCH))
    farm.submit(plan_of(farm.devices(), ONNX))
    farm.damage(farm.artifact("pt2 fp32").sha256)
    farm.settle()
    assert {state for _, state in farm.states()} == {"succeeded"}
    assert farm.started()[-3:] == ["convert pt2 fp32", "convert onnx fp32", "measure onnx fp32"]


@pytest.mark.parametrize("kind", ["cpu", "phone"])
def test_all_that_need_a_damaged_artifact_wait_for_it(make_farm: MakeFarm, kind: str) -> None:
    """Those that have not met the damage yet too: there is nothing to give them until it is made again."""
    farm = make_farm(kind=kind, devices=2)
    farm.run(plan_of(farm.devices(), TORCH))
    farm.submit(plan_of(farm.devices(), TORCH, repeats=4, salt="again"))
    farm.damage(farm.artifact("pt2 fp32").sha256)
    for _ in range(60):
        farm.tick()
        check_counts(farm)
    assert {state for _, state in farm.states()} == {"succeeded"}
    check_history(farm)


def _dropped_beside(farm: Farm, second: str) -> int:
    """The program's examples turn out to be damaged at one attempt while another, begun before, still has them whole.

    Returns the other attempt, of which nothing is known yet.
    """
    farm.run(plan_of(farm.devices()[:1], TORCH))
    farm.play(lambda order: "silent")
    farm.submit(plan_of(farm.devices(), TORCH, ONNX, salt="again"))
    farm.tick()
    farm.tick()
    running = {describe(order): attempt for attempt, order in farm.host.orders.items()}
    first = farm.attempts(attempts.c.state == "running", attempts.c.device_id == farm.devices()[0].id)[0].id
    assert running[second] in farm.host.running
    assert running[second] != first
    stored = farm.artifact("pt2 fp32").companions["examples"]
    whole = farm.store.fetch(stored).read_bytes()
    farm.damage(stored)
    farm.host.finish(first, Succeed())
    (farm.folder / "store" / stored[:2] / stored).write_bytes(whole)
    return running[second]


@pytest.mark.parametrize("second", ["measure pt2 fp32", "convert onnx fp32"])
@pytest.mark.parametrize("outcome", [Succeed(), BROKEN], ids=["succeeds", "breaks"])
def test_what_ran_beside_the_discovery_of_damage_comes_to_its_end(
    make_farm: MakeFarm, second: str, outcome: Succeed | Failure
) -> None:
    farm = make_farm(kind="phone", devices=2)
    farm.host.finish(_dropped_beside(farm, second), outcome)
    for other in sorted(farm.host.running):
        farm.host.finish(other, Succeed())
    farm.play(Succeed())
    for _ in range(30):
        farm.tick()
        check_counts(farm)
    assert {state for _, state in farm.states()} == {"succeeded"}
    check_history(farm)


def test_a_result_names_the_artifact_that_was_measured_though_it_was_dropped_meanwhile(make_farm: MakeFarm) -> None:
    farm = make_farm(kind="phone", devices=2)
    attempt = _dropped_beside(farm, "measure pt2 fp32")
    measured = farm.host.orders[attempt].inputs["artifact"]
    farm.host.finish(attempt, Succeed())
    farm.tick()
    assert [row.artifact_sha256 for row in farm.results() if row.attempt_id == attempt] == [measured]


def test_all_that_need_a_damaged_artifact_fail_with_its_second_conversion(farm: Farm) -> None:
    farm.run(plan_of(farm.devices(), TORCH))
    farm.submit(plan_of(farm.devices(), TORCH, repeats=3, salt="again"))
    farm.damage(farm.artifact("pt2 fp32").sha256)
    farm.play(only("convert", CRASHED))
    farm.settle()
    failed = farm.jobs(jobs.c.state == "failed")
    assert [row.kind for row in failed] == ["measure"] * 3 + ["convert"]
    assert all(CRASHED.message in row.failure_message for row in failed)
    check_history(farm)


def test_an_artifact_that_is_damaged_every_time_is_given_up(farm: Farm) -> None:
    def damage(order: Order) -> Outcome:
        if order.measure is not None:
            farm.damage(order.inputs["artifact"])
        return Succeed()

    farm.play(damage)
    farm.run(plan_of(farm.devices(), TORCH))
    job = farm.job("measure")
    assert (job.state, job.failure_code) == ("failed", "gave_up")
    check_history(farm)


def test_a_point_is_the_median_of_the_valid_repeats(farm: Farm) -> None:
    farm.play(
        in_turn(
            Succeed(p50_ms=3.0),
            Succeed(p50_ms=100.0, verdict="contaminated"),
            Succeed(p50_ms=1.0),
            Succeed(p50_ms=2.0),
        )
    )
    farm.run(plan_of(farm.devices(), TORCH, repeats=4))
    [point] = farm.points()
    assert (point.value, point.verdict, point.repeats) == (2.0, "valid", 3)
    assert len(farm.results()) == 4
    assert farm.series()[0].latest_valid_point_id == point.id


def test_a_point_without_a_valid_repeat_says_the_worst_and_is_no_latest(farm: Farm) -> None:
    farm.play(in_turn(Succeed(p50_ms=3.0, verdict="throttled"), Succeed(p50_ms=1.0, verdict="unusable")))
    farm.run(plan_of(farm.devices(), TORCH, repeats=2))
    [point] = farm.points()
    assert (point.value, point.verdict, point.repeats) == (2.0, "throttled", 2)
    assert farm.series()[0].latest_valid_point_id is None


def test_runs_of_a_case_make_one_series_whose_latest_valid_point_is_kept(farm: Farm) -> None:
    for outcome in (Succeed(p50_ms=1.0), Succeed(p50_ms=2.0), Succeed(p50_ms=9.0, verdict="contaminated")):
        farm.play(in_turn(outcome))
        farm.run(plan_of(farm.devices(), TORCH))
    [found] = farm.series()
    assert [(row.series_id, row.value) for row in farm.points()] == [(found.id, 1.0), (found.id, 2.0), (found.id, 9.0)]
    assert found.latest_valid_point_id == farm.points()[1].id


def test_means_and_medians_of_one_case_make_two_series(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    of_invocations_in_turn(monkeypatch, "median", "mean", "median", "mean")
    farm.play(in_turn(*[Succeed(p50_ms=p50_ms) for p50_ms in (1.0, 10.0, 3.0, 30.0)]))
    farm.run(plan_of(farm.devices(), TORCH, repeats=4))
    assert sorted((row.value, row.repeats) for row in farm.points()) == [(2.0, 2), (20.0, 2)]
    assert sorted(row.statistic for row in farm.series()) == [
        "median of process medians of invocation means",
        "median of process medians of invocation medians",
    ]


def test_cases_and_devices_have_series_of_their_own(make_farm: MakeFarm) -> None:
    farm = make_farm(kind="phone", devices=2)
    farm.run(plan_of(farm.devices(), TORCH, ONNX, threads=(1, 2)))
    assert len(farm.series()) == 2 * 2 * 2
    assert len({row.key for row in farm.series()}) == 8


def test_a_new_environment_makes_a_new_epoch_of_the_same_series(farm: Farm) -> None:
    for version in ("1", "1", "2"):
        farm.play(only("measure", "silent"))
        farm.submit(plan_of(farm.devices(), TORCH))
        while not farm.host.running:
            farm.tick()
        farm.host.finish(max(farm.host.running), Succeed(), environment={"torch": version})
        farm.settle()
    digests = [row.environment_digest for row in farm.points()]
    assert digests[0] == digests[1] != digests[2]
    assert len(farm.series()) == 1


def test_a_result_and_its_change_of_state_are_one_transaction(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = _measuring(farm)
    farm.host.finish(attempt, Succeed())

    def break_(*args: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr("scheduler.ingest.update_points", break_)
        with pytest.raises(OSError, match="disk full"):
            farm.tick()
    assert farm.results() == []
    assert farm.job("measure").state == "running"


def test_a_failure_names_its_cause_to_the_user(farm: Farm) -> None:
    farm.play(in_turn(Failure(cause="user", code="bad_model", message="the file is no model")))
    farm.run(plan_of(farm.devices(), TORCH))
    with reading(farm.engine) as connection:
        row = connection.execute(select(jobs).where(jobs.c.state == "failed")).one()
    assert (row.failure_cause, row.failure_code, row.failure_message) == ("user", "bad_model", "the file is no model")
