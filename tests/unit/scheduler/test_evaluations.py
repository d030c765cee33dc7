"""Evaluations: ordered with their examples only, kept apart from latencies, shown beside them, and compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from device_registry.database import reading, writing
from device_registry.errors import UsageError
from scheduler.comparisons import run_cases
from scheduler.evaluations import compare_evaluations, evaluation_record, list_evaluations
from scheduler.executors.scripted import Outcome, Succeed
from scheduler.outcomes import evaluations
from scheduler.plan import Plan, Request
from scheduler.queue import artifacts
from scheduler.states import jobs
from scheduler.status import known_run
from scheduler.sweeps.cells import run_cells
from tests.unit.scheduler.builders import INT8, ONNX, Farm, check_counts, check_history, only, plan_of
from workers.contract import Order

MakeFarm = Callable[..., Farm]
_REQUEST = Request(models=("net",), kind="evaluate")


def evaluating(made: Plan, *, beside: bool = False) -> Plan:
    """A plan that evaluates each case once, instead of measuring it or beside that."""
    first: dict[Any, Any] = {}
    for item in made.measurements:
        first.setdefault(item.variant.key, item)
    wanted = [replace(item, kind="evaluate", case_key=f"evaluate {item.case_key}"[:64]) for item in first.values()]
    made.measurements = [*(made.measurements if beside else []), *wanted]
    return made


def answering(outcomes: dict[str, str]) -> Callable[[Order], Outcome]:
    """A script: which examples each recipe answers right."""

    def play(order: Order) -> Outcome:
        return Succeed(outcomes=outcomes[order.evaluate.recipe]) if order.evaluate is not None else Succeed()

    return play


def record(outcomes: str = "1110", **changed: Any) -> dict[str, Any]:
    """An evaluation as `evaluation_record` gives it, as far as comparing reads it."""
    alike = {"evaluation": 1, "task": "classification", "data": "digits", "data_sha256": "d"}
    return {**alike, "examples": len(outcomes), "outcomes": outcomes, **changed}


def test_an_evaluation_is_kept_and_makes_neither_result_nor_point(make_farm: MakeFarm) -> None:
    farm = make_farm()
    farm.play(answering({"fp32": "1111111011", "int8-static": "1101111011"}))
    run_id = farm.submit(evaluating(plan_of(farm.devices(), ONNX, INT8)), _REQUEST).sweep_run_id
    farm.settle()
    check_history(farm)
    assert not farm.results()
    assert not farm.points()
    with reading(farm.engine) as connection:
        made = list_evaluations(connection, run_id=run_id)
        whole = evaluation_record(connection, made[1]["evaluation"])
        latest = evaluation_record(connection, None)
        with pytest.raises(UsageError, match="made evaluations"):
            known_run(connection, run_id)
    assert [(row["recipe"], row["top1"], row["correct"], row["examples"]) for row in made] == [
        ("fp32", 0.9, 9, 10),
        ("int8-static", 0.8, 8, 10),
    ]
    low, high = made[0]["top1_ci"]
    assert 0 < low < 0.9 < high < 1
    assert whole == latest
    assert whole["outcomes"] == "1101111011"


def test_what_is_evaluated_gets_its_examples_and_nothing_else_does(make_farm: MakeFarm) -> None:
    farm = make_farm()
    farm.submit(evaluating(plan_of(farm.devices(), ONNX), beside=True))
    farm.settle()
    inputs = {kind: set(order.inputs) for order in farm.host.orders.values() for kind in _kinds(order)}
    assert inputs["measure"] == {"artifact", "examples"}
    assert inputs["evaluate"] == {"artifact", "examples", "test"}


def test_accuracy_stands_beside_every_latency_of_its_artifact(make_farm: MakeFarm) -> None:
    farm = make_farm(devices=2)
    farm.play(answering({"fp32": "1100", "int8-static": "1000"}))
    made = plan_of(farm.devices()[:1], ONNX, INT8, threads=(1, 2), repeats=2)
    made.measurements += plan_of(farm.devices()[1:], ONNX).measurements
    first = {item.variant.key: item for item in reversed(made.measurements) if item.task.options.threads == 1}
    here = [item for item in first.values() if item.device is not None and item.device.name == "d0"]
    made.measurements += [replace(item, kind="evaluate", case_key=f"e{number}") for number, item in enumerate(here)]
    run_id = farm.submit(made, Request(models=("net",), evaluate=True)).sweep_run_id
    farm.settle()
    check_counts(farm)
    took = {kind: {row.duration_key for row in farm.jobs(jobs.c.kind == kind)} for kind in ("measure", "evaluate")}
    assert not took["measure"] & took["evaluate"], "how long one takes says nothing of the other"
    with reading(farm.engine) as connection:
        rows = run_cases(connection, run_id)
        shown = run_cells(connection, run_id)
    cells = [(cell["device"], cell["evaluation"], (cell["accuracy"] or {}).get("top1")) for cell in shown]
    assert Counter(cells) == {("d0", "done", 0.5): 2, ("d0", "done", 0.25): 2, ("d1", None, None): 1}
    found = {(row["device"], row["recipe"], row["threads"]): (row["accuracy"] or {}).get("top1") for row in rows}
    assert found == {
        ("d0", "fp32", 1): 0.5,
        ("d0", "fp32", 2): 0.5,
        ("d0", "int8-static", 1): 0.25,
        ("d0", "int8-static", 2): 0.25,
        ("d1", "fp32", 1): None,  # nobody evaluated it there
    }


def test_what_of_the_data_was_skipped_is_told_of_it_alone(make_farm: MakeFarm) -> None:
    farm = make_farm()
    farm.submit(evaluating(plan_of(farm.devices(), ONNX)), _REQUEST)
    farm.settle()
    with writing(farm.engine) as connection:
        connection.execute(update(evaluations).values(skipped=1))
        facts = {"data": {"skipped_files": ["cat/1.png is no image"]}}
        connection.execute(update(artifacts).values(provenance={"facts": facts}))
    with reading(farm.engine) as connection:
        assert evaluation_record(connection, None)["skipped_files"] == ["cat/1.png is no image"]


def test_a_list_of_one_model_looks_further_back_than_it_is_long(make_farm: MakeFarm) -> None:
    farm = make_farm()
    for number in range(2):
        farm.submit(evaluating(plan_of(farm.devices(), ONNX, salt=str(number))), _REQUEST)
        farm.settle()
    with reading(farm.engine) as connection:
        newest, oldest = list_evaluations(connection)
        assert list_evaluations(connection, limit=1) == [newest]
        assert list_evaluations(connection, model=oldest["model"], limit=1) == [newest]
        assert not list_evaluations(connection, model="another")


def test_the_latest_evaluation_of_an_artifact_counts(make_farm: MakeFarm) -> None:
    farm = make_farm()
    for number, outcomes in enumerate(("1000", "1110")):
        farm.play(answering({"fp32": outcomes}))
        made = evaluating(plan_of(farm.devices(), ONNX, salt=str(number)), beside=True)
        run_id = farm.submit(made, Request(models=("net",), evaluate=True)).sweep_run_id
        farm.settle()
    with reading(farm.engine) as connection:
        (row,) = run_cases(connection, run_id)
        newest, oldest = list_evaluations(connection)
        (before,) = run_cases(connection, oldest["run"])
    assert (row["accuracy"]["top1"], row["accuracy"]["evaluation"]) == (0.75, newest["evaluation"])
    assert before["accuracy"]["evaluation"] == oldest["evaluation"], "a run's own goes before what came later"


def test_a_failed_evaluation_fails_its_job_and_leaves_the_latency(make_farm: MakeFarm) -> None:
    farm = make_farm()
    farm.play(only("evaluate", Succeed(outcomes="")))  # no examples at all
    farm.submit(evaluating(plan_of(farm.devices(), ONNX), beside=True))
    farm.settle()
    (failed,) = farm.jobs(jobs.c.state == "failed")
    assert (failed.kind, failed.failure_code) == ("evaluate", "bad_report")
    assert not farm.rows(evaluations)
    assert len(farm.results()) == 1
    with reading(farm.engine) as connection:
        (cell,) = run_cells(connection, failed.sweep_run_id)
    assert (cell["state"], cell["evaluation"]) == ("done", "failed")
    assert cell["why"].startswith("evaluation: the report does not show")


def test_two_variants_are_told_apart_by_the_examples_they_part_on() -> None:
    found = compare_evaluations(record("1" * 90 + "0" * 10), record("1" * 70 + "0" * 30, evaluation=2))
    assert [found[name] for name in ("both_right", "only_before_right", "only_after_right", "neither_right")] == [
        70,
        20,
        0,
        10,
    ]
    assert found["difference"] == pytest.approx(-0.2)
    assert found["p"] == pytest.approx(2 * 0.5**20)
    assert found["answer"] == "differ"
    low, high = found["difference_ci"]
    assert low < -0.2 < high < 0


def test_no_difference_shown_says_what_could_have_been() -> None:
    found = compare_evaluations(record("1110" * 25), record("1101" * 25, evaluation=2))
    assert (found["difference"], found["p"], found["answer"]) == (0, 1, "no difference shown")
    low, high = found["difference_ci"]
    assert low < 0 < high


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"data": "npz:other.npz"}, "another data set: digits and npz:other.npz"),
        ({"data_sha256": "e"}, "other examples of digits"),
        ({"task": "ctc"}, "another task"),
    ],
)
def test_answers_to_other_questions_are_not_compared(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        compare_evaluations(record(), record(evaluation=2, **changed))
    assert refused.value.exit_code == 2


def test_there_is_no_such_evaluation(make_farm: MakeFarm) -> None:
    with reading(make_farm().engine) as connection, pytest.raises(UsageError, match="no evaluation 7"):
        evaluation_record(connection, 7)


def _kinds(order: Order) -> list[str]:
    return [kind for kind in ("convert", "measure", "profile", "evaluate") if getattr(order, kind) is not None]
