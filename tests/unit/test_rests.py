"""Rests: one rule in Python and in SQL, and none that lasts because somebody set the clock."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, literal, select

from device_registry.rests import is_over, left_s, moments, over
from device_registry.tables import UtcDateTime
from tests.unit.builders import NOW

LONGEST_S = 60.0
_MEMORY = create_engine("sqlite://")


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("until", "resting_s"),
    [
        (None, 0.0),
        (after(-1), 0.0),
        (NOW, 0.0),
        (after(1), 1.0),
        (after(LONGEST_S), LONGEST_S),
        (after(LONGEST_S + 1), 0.0),
        (after(7200), 0.0),
    ],
)
def test_a_rest_is_over_at_its_end_and_when_it_would_last_longer_than_any(
    until: datetime | None, resting_s: float
) -> None:
    assert left_s(until, LONGEST_S, NOW) == resting_s
    assert is_over(until, LONGEST_S, NOW) == (resting_s == 0)


@given(st.none() | st.floats(-1e6, 1e6).map(after))
def test_sql_and_python_agree(until: datetime | None) -> None:
    query = select(over(literal(until, UtcDateTime)))
    with _MEMORY.connect() as connection:
        assert bool(connection.execute(query, moments(LONGEST_S, NOW)).scalar_one()) == is_over(until, LONGEST_S, NOW)
