"""From what two sides showed to answers and the exit code."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.gates.case import EXIT_CODES, Answer
from scheduler.gates.judging import FALSE_SHARE, differences, judged, less_right
from tests.unit.gates.gate_rows import case, evidence, gate, side
from workers.judge import OUTPUTS_WRONG

ANSWERS: tuple[Answer, ...] = get_args(Answer)


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        (["same"], 0),
        (["same", "faster"], 0),
        (["same", "slower", "failed", "inconclusive"], 4),
        (["wrong", "failed"], 4),
        (["lost"], 4),
        (["failed", "inconclusive"], 1),
        (["same", "inconclusive"], 3),
        (["same", "missing"], 3),
        ([], 3),
    ],
)
def test_the_worst_case_decides(answers: list[Answer], code: int) -> None:
    assert gate([case(answer) for answer in answers]).exit_code == code


@given(st.lists(st.sampled_from(ANSWERS), max_size=8), st.randoms())
def test_order_and_good_news_change_nothing(answers: list[Answer], random: object) -> None:
    before = gate([case(answer) for answer in answers])
    assert before.exit_code in EXIT_CODES.values()
    shuffled = [*answers]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert gate([case(answer) for answer in shuffled]).answer == before.answer
    if answers:
        assert gate([case(answer) for answer in [*answers, "faster", "same"]]).answer == before.answer
    assert (before.answer == "passed") == (bool(answers) and set(answers) <= {"same", "faster"})


@pytest.mark.parametrize(("ratio", "answer"), [(1.0, "same"), (1.05, "slower"), (0.95, "faster")])
def test_speed_is_judged_as_everywhere(ratio: float, answer: Answer) -> None:
    [one] = judged([evidence(side(ratio, seed=3))])
    assert one.answer == answer
    assert one.verdict is not None
    assert one.adjusted_p == one.verdict.p  # there is one case
    assert one.verdict.detectable is not None


def test_an_effect_that_nobody_cares_for_is_none() -> None:
    [slower] = judged([evidence(side(1.03, seed=3))])
    [same] = judged([evidence(side(1.03, seed=3))], least_effect=0.05)
    assert (slower.answer, same.answer) == ("slower", "same")


def test_of_many_cases_one_may_look_slower_by_luck() -> None:
    # Five against five, all of one side slower: p is 2 of 252 orders, which one case may be told by, and 40 may not.
    few = [10.0, 10.01, 10.02, 10.03, 10.04]
    slow = evidence(side(values_ms=tuple(1.05 * value for value in few)), side(values_ms=tuple(few)), alternated=True)
    assert judged([slow])[0].answer == "slower"
    alike = [evidence(side(seed=number), side(seed=100 + number)) for number in range(39)]
    first = judged([slow, *alike])[0]
    assert first.answer == "inconclusive"
    assert first.adjusted_p is not None
    assert first.adjusted_p >= FALSE_SHARE
    assert "of 40 cases one may look so by luck" in first.why
    # Ten against ten show it among as many.
    assert judged([evidence(side(1.05, seed=3)), *alike])[0].answer == "slower"


def test_what_was_not_compared_takes_no_part_in_the_adjustment() -> None:
    slow = evidence(side(1.05, seed=3))
    alone = judged([slow])[0].adjusted_p
    others = [evidence(one_artifact=True), evidence(settled=("failed", "crashed"))] * 20
    assert judged([slow, *others])[0].adjusted_p == alone


def test_few_processes_show_nothing() -> None:
    [one] = judged([evidence(side(1.5, values_ms=(15.0, 15.1, 15.2)))])
    assert one.answer == "inconclusive"
    assert "10 + 3 processes show nothing" in one.why


def test_a_clock_that_changed_is_no_slower_model() -> None:
    [one] = judged([evidence(side(1.05, seed=3), clock_agrees=False)])
    assert one.answer == "inconclusive"
    assert "the clock changed, not the work" in one.why
    assert judged([evidence(side(1.05, seed=3), clock_agrees=True)])[0].answer == "slower"


def test_one_artifact_is_the_same_as_itself() -> None:
    [one] = judged([evidence(one_artifact=True, baseline=None, candidate=None)])
    assert (one.answer, one.verdict) == ("same", None)


def test_a_settled_answer_stays() -> None:
    [one] = judged([evidence(settled=("lost", "no kernel"))])
    assert (one.answer, one.why) == ("lost", "no kernel")


@pytest.mark.parametrize(
    ("before", "after", "answer"),
    [
        ({"snr_db": 90.0}, {"snr_db": 70.0}, None),  # right enough
        ({"snr_db": 41.0}, {"snr_db": 36.0}, None),  # less than a bit
        ({"snr_db": 41.0}, {"snr_db": 32.0}, "wrong"),
        ({"identical": True, "snr_db": None}, {"snr_db": 30.0}, "wrong"),
        ({"identical": True, "snr_db": None}, {"snr_db": 110.0}, None),
        ({"snr_db": 32.0}, {"snr_db": 41.0}, None),
        ({"snr_db": None}, {"snr_db": 10.0}, None),
        ({}, {"flags": (OUTPUTS_WRONG,), "finite": False}, "wrong"),
        ({"flags": (OUTPUTS_WRONG,)}, {"flags": (OUTPUTS_WRONG,)}, "inconclusive"),
        ({"flags": (OUTPUTS_WRONG,)}, {}, "inconclusive"),
    ],
)
def test_outputs_must_be_as_right(before: dict[str, object], after: dict[str, object], answer: str | None) -> None:
    found = less_right(side(**before), side(**after))  # type: ignore[arg-type]
    assert (None if found is None else found[0]) == answer


def test_a_faster_model_that_computes_something_else_is_worse() -> None:
    [one] = judged([evidence(side(0.5, seed=3, snr_db=-3.0, flags=(OUTPUTS_WRONG,)))])
    assert one.answer == "wrong"
    assert one.notes[0].startswith("speed: faster")
    assert gate([one]).exit_code == 4


def test_what_its_reader_must_know_is_noted() -> None:
    candidate = side(1.0, seed=3, environment={"os": "2", "a": "1"}, invalid={"throttled": 2})
    baseline = side(1.0, seed=4, environment={"os": "1", "a": "1"})
    [one] = judged([evidence(candidate, baseline, alternated=False, trial=3)])
    assert one.notes == (
        "candidate, not counted: 2 throttled",
        "the two sides did not take turns within the hour",
        "environment differs: os 1 → 2",
    )


def test_differences_are_told_shortly() -> None:
    before = {f"n{number}": "1" for number in range(9)}
    assert differences(before, before) == []
    told = differences(before, {})
    assert (len(told), told[-1]) == (7, "and 3 more")
    assert differences({}, {"a": "1"}) == ["a absent → 1"]


@given(st.lists(st.floats(0.9, 1.1), min_size=1, max_size=12))
def test_answers_do_not_depend_on_the_order_of_cases(ratios: list[float]) -> None:
    made = [evidence(side(ratio, seed=number)) for number, ratio in enumerate(ratios)]
    forward = [one.answer for one in judged(made)]
    backward = [one.answer for one in judged([*reversed(made)])]
    assert forward == [*reversed(backward)]


def test_a_noise_floor_widens_what_counts_as_none() -> None:
    slower = evidence(side(1.04, seed=3))
    assert judged([slower])[0].answer == "slower"
    assert judged([replace(slower, noise_floor=0.05)])[0].answer != "slower"
