"""exporters.numbers: significant figures that people read, never scientific notation below a million."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.numbers import NONE, duration, milliseconds, significant, size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0123456, "0.0123"),
        (0.5, "0.500"),
        (1.5, "1.50"),
        (12.34, "12.3"),
        (123.4, "123"),
        (100, "100"),
        (-12.34, "-12.3"),
        (1234.5, "1,234"),
        (999_999, "999,999"),
        (12_345_678, "12,345,678"),
    ],
)
def test_three_significant_figures(value: float, text: str) -> None:
    assert significant(value) == text
    assert milliseconds(value) == text


@given(value=st.floats(1e-4, 999.4) | st.floats(1000, 999_999))
def test_a_number_keeps_its_value_to_half_a_percent(value: float) -> None:
    text = significant(value)
    assert "e" not in text
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.005)


def test_a_number_that_rounds_up_to_a_thousand_is_not_scientific() -> None:
    assert significant(999.6) == "1,000"


def test_a_very_small_number_is_not_scientific() -> None:
    assert significant(0.00001234) == "0.0000123"


def test_what_is_absent_is_a_dash_and_zero_is_zero() -> None:
    assert milliseconds(None) == size(None) == NONE
    assert milliseconds(0.0) == "0"
    assert size(0) == "0 B"


@pytest.mark.parametrize(
    ("value", "text"),
    [(512, "512 B"), (1000, "1.00 kB"), (46_800_000, "46.8 MB"), (2.5e9, "2.50 GB"), (1.5e12, "1,500 GB")],
)
def test_sizes_in_decimal_units(value: float, text: str) -> None:
    assert size(value) == text


def test_a_size_just_under_a_unit_is_readable() -> None:
    assert "e" not in size(999_900)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (12.4, "12 s"),
        (59.7, "1 min"),
        (200, "3 min 20 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (3900, "1 h 5 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
