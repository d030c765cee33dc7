"""workers.accuracy against scipy and against counting by hand."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from workers.accuracy import (
    difference_interval,
    macro_f1,
    mcnemar,
    pack_outcomes,
    proportion_interval,
    top_k,
    unpack_outcomes,
    word_error_rate,
)

WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=6)


@st.composite
def shares(draw: st.DrawFn) -> tuple[int, int]:
    of = draw(st.integers(1, 100_000))
    return draw(st.integers(0, of)), of


@given(shares())
@settings(deadline=None)
def test_the_interval_of_a_share_is_clopper_and_pearsons(share: tuple[int, int]) -> None:
    right, of = share
    exact = stats.binomtest(right, of).proportion_ci(0.95, method="exact")
    assert proportion_interval(right, of) == pytest.approx((exact.low, exact.high), rel=1e-9, abs=1e-12)


def test_the_interval_covers_at_least_as_often_as_it_says() -> None:
    """The coverage summed over all outcomes, where Wilson's and Wald's fall short: near 1."""
    of = 60
    intervals = [proportion_interval(right, of) for right in range(of + 1)]
    for truth in np.linspace(0.9, 0.999, 40):
        likely = stats.binom.pmf(np.arange(of + 1), of, truth)
        assert sum(p for p, (low, high) in zip(likely, intervals, strict=True) if low <= truth <= high) >= 0.95


@pytest.mark.parametrize("share", [(-1, 3), (4, 3), (0, 0)])
def test_what_is_no_share_is_refused(share: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="is no share"):
        proportion_interval(*share)


@given(st.integers(0, 3000), st.integers(0, 3000))
@settings(deadline=None)
def test_mcnemars_p_is_the_binomial_tests(only_a: int, only_b: int) -> None:
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-9, abs=1e-290)
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a)


@given(st.integers(0, 500), st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_the_interval_of_a_difference_turns_with_its_sides(both: int, only_a: int, only_b: int, neither: int) -> None:
    low, high = difference_interval(both, only_a, only_b, neither)
    assert -1 <= low < high <= 1
    assert difference_interval(both, only_b, only_a, neither) == pytest.approx((-high, -low))
    if count := both + only_a + only_b + neither:
        assert low <= (only_b - only_a) / count <= high


def test_the_interval_of_a_difference_as_published() -> None:
    """Bonett & Price's formula written out for the airway table of Bentur et al. (2009): 1, 1, 7, 12."""
    low, high = difference_interval(1, 1, 7, 12)
    centre, variance = (8 - 2) / 23, ((8 + 2) / 23 - (6 / 23) ** 2) / 23
    assert (low, high) == pytest.approx((centre - 1.959964 * variance**0.5, centre + 1.959964 * variance**0.5))


@given(st.integers(1, 5), st.integers(2, 6), st.data())
def test_the_largest_scores_are_those_of_a_stable_sort(rows: int, classes: int, data: st.DataObject) -> None:
    cells = st.lists(st.integers(0, 2), min_size=rows * classes, max_size=rows * classes)
    scores = np.array(data.draw(cells), np.float32).reshape(rows, classes)
    labels = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows)))
    order = np.argsort(-scores, axis=1, kind="stable")
    for k in range(1, classes + 1):
        assert top_k(scores, labels, k).tolist() == (order[:, :k] == labels[:, np.newaxis]).any(axis=1).tolist()
    assert (top_k(scores, labels, 1) == (scores.argmax(axis=1) == labels)).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_answer_that_is_not_finite_is_wrong(bad: float) -> None:
    scores = np.array([[0.0, 1.0, bad], [0.0, 1.0, 0.5]])
    assert top_k(scores, np.array([1, 1]), 3).tolist() == [False, True]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 3)), min_size=1))
def test_f1_is_counted_by_hand(pairs: list[tuple[int, int]]) -> None:
    found = []
    for of in range(4):
        hits = pairs.count((of, of))
        wrong = sum(1 for label, told in pairs if (label == of) != (told == of))
        if hits or wrong:
            found.append(2 * hits / (2 * hits + wrong))
    labels, predicted = (np.array(side) for side in zip(*pairs, strict=True))
    assert macro_f1(labels, predicted, 4) == pytest.approx(sum(found) / len(found))


@given(WORDS, WORDS)
def test_word_errors_are_the_fewest_edits(reference: list[str], hypothesis: list[str]) -> None:
    rows = {(0, at): at for at in range(len(hypothesis) + 1)} | {(at, 0): at for at in range(len(reference) + 1)}
    for at, to in product(range(1, len(reference) + 1), range(1, len(hypothesis) + 1)):
        same = reference[at - 1] == hypothesis[to - 1]
        rows[at, to] = min(rows[at - 1, to] + 1, rows[at, to - 1] + 1, rows[at - 1, to - 1] + (not same))
    if reference:
        expected = rows[len(reference), len(hypothesis)] / len(reference)
        assert word_error_rate([" ".join(reference)], ["  ".join(hypothesis)]) == pytest.approx(expected)


def test_word_errors_are_over_the_words_of_all_references() -> None:
    assert word_error_rate(["the cat sat", "yes"], ["the cat", "no"]) == pytest.approx(2 / 4)
    assert word_error_rate(["yes"], ["a b c"]) == 3
    with pytest.raises(ValueError, match="no word"):
        word_error_rate([""], ["a"])
    with pytest.raises(ValueError, match="zip"):
        word_error_rate(["a"], [])


@given(st.lists(st.booleans(), min_size=1))
def test_outcomes_come_back(right: list[bool]) -> None:
    assert unpack_outcomes(pack_outcomes(np.array(right)), len(right)) == "".join(str(int(each)) for each in right)
