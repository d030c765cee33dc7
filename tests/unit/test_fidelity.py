"""workers.fidelity against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.examples import Array
from workers.fidelity import compare_outputs


def one(*values: float) -> list[list[Array]]:
    """One example with one output."""
    return [[np.asarray([values], dtype=np.float32)]]


def test_equal_outputs_are_identical_without_a_noise_ratio() -> None:
    fidelity = compare_outputs(one(1, 2, 3), one(1, 2, 3), classification=True)
    assert fidelity.identical
    assert fidelity.snr_db is None
    assert fidelity.cosine == pytest.approx(1.0)
    assert (fidelity.top1_agreement, fidelity.examples) == (1.0, 1)


def test_snr_in_decibels() -> None:
    # Signal 3^2 + 4^2 = 25, noise 0.5^2 = 0.25: a ratio of 100 is 20 dB.
    fidelity = compare_outputs(one(3, 4), one(3, 4.5), classification=False)
    assert fidelity.snr_db == pytest.approx(20.0)
    assert fidelity.cosine == pytest.approx((9 + 18) / math.sqrt(25 * (9 + 20.25)))
    assert not fidelity.identical


@given(scale=st.sampled_from([1e-13, 1.0, 1e10]))
def test_snr_does_not_depend_on_the_scale_of_outputs(scale: float) -> None:
    reference, actual = [[np.asarray([3.0, 4.0]) * scale]], [[np.asarray([3.0, 4.5]) * scale]]
    assert compare_outputs(reference, actual, classification=False).snr_db == pytest.approx(20.0)


def test_snr_is_over_all_examples_and_outputs() -> None:
    reference = [[np.asarray([3.0]), np.asarray([0.0])], [np.asarray([4.0]), np.asarray([0.0])]]
    actual = [[np.asarray([3.0]), np.asarray([0.3])], [np.asarray([4.0]), np.asarray([0.4])]]
    fidelity = compare_outputs(reference, actual, classification=False)
    assert fidelity.snr_db == pytest.approx(20.0)
    assert fidelity.examples == 2


def test_top1_is_the_share_of_equal_largest_classes_over_the_batch() -> None:
    reference = [[np.asarray([[0, 1], [1, 0], [0, 1], [1, 0]])]]
    actual = [[np.asarray([[0, 9], [9, 0], [9, 0], [9, 0]])]]
    assert compare_outputs(reference, actual, classification=True).top1_agreement == 0.75
    assert compare_outputs(reference, actual, classification=False).top1_agreement is None


def test_a_reference_of_zeros_gives_no_ratio() -> None:
    fidelity = compare_outputs(one(0, 0), one(0, 1), classification=False)
    assert (fidelity.snr_db, fidelity.cosine, fidelity.identical) == (None, None, False)


def test_outputs_that_are_no_numbers_are_neither_identical_nor_comparable() -> None:
    fidelity = compare_outputs(one(1, 2), one(1, float("nan")), classification=False)
    assert (fidelity.snr_db, fidelity.cosine, fidelity.identical) == (None, None, False)


def test_integer_outputs_do_not_overflow() -> None:
    reference, actual = [[np.asarray([100, -100], dtype=np.int8)]], [[np.asarray([-100, 100], dtype=np.int8)]]
    fidelity = compare_outputs(reference, actual, classification=False)
    assert fidelity.snr_db == pytest.approx(10 * math.log10(0.25))
    assert fidelity.cosine == pytest.approx(-1.0)


def test_outputs_of_another_size_or_number_are_refused() -> None:
    with pytest.raises(ValueError, match="output 0 has 3 values, the reference 2"):
        compare_outputs(one(1, 2), one(1, 2, 3), classification=False)
    with pytest.raises(ValueError, match="shorter"):
        compare_outputs(one(1, 2), [[]], classification=False)


def test_outputs_that_are_no_numbers_agree_with_nothing() -> None:
    reference = [[np.array([[1.0, 2.0, 3.0]])]]
    broken = compare_outputs(reference, [[np.array([[np.nan, 2.0, 3.0]])]], classification=True)
    assert not broken.finite
    assert (broken.snr_db, broken.cosine, broken.top1_agreement) == (None, None, None)
