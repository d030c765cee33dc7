"""Bits are chosen where one takes away most error, and never more of them than asked for."""

from __future__ import annotations

import numpy as np
import pytest

from workers.converters.mixed_bits import average_bits, choose_bits, relative_error

RANDOM = np.random.default_rng(0)
OFFERED = (1, 2, 4, 6, 8)


def test_a_table_that_holds_every_value_has_no_error() -> None:
    assert relative_error(np.repeat([-1.0, 0.5, 2.0, 3.0], 50), 2) == 0.0


def test_more_bits_have_less_error() -> None:
    weights = RANDOM.normal(size=5000)
    errors = [relative_error(weights, bits) for bits in OFFERED]
    assert errors == sorted(errors, reverse=True)
    # Lloyd and Max: the best table of a normal distribution is off by 36.3 % at one bit, 11.8 % at two.
    assert errors[0] == pytest.approx(0.363, abs=0.03)
    assert errors[1] == pytest.approx(0.118, abs=0.02)


def test_the_average_is_reached_and_not_passed() -> None:
    weights = {f"layer.{index}": RANDOM.normal(size=64 * (index + 1)) for index in range(12)}
    for average in (1.0, 1.7, 3.5, 7.9):
        chosen = choose_bits(weights, average, OFFERED)
        assert set(chosen.values()) <= set(OFFERED)
        assert average - 0.5 < average_bits(weights, chosen) <= average


def test_the_tensor_that_needs_them_gets_the_bits() -> None:
    weights = {"two_values": RANDOM.choice([-1.0, 1.0], size=1000), "many": RANDOM.normal(size=1000)}
    assert choose_bits(weights, 4.5, OFFERED) == {"two_values": 1, "many": 8}


def test_small_weights_count_like_large_ones() -> None:
    weights = RANDOM.normal(size=1000)
    assert choose_bits({"large": weights, "small": weights * 1e-3}, 4.0, OFFERED) == {"large": 4, "small": 4}


def test_fewer_than_the_fewest_is_refused() -> None:
    with pytest.raises(ValueError, match="below the fewest"):
        choose_bits({"a": RANDOM.normal(size=8)}, 0.5, OFFERED)
