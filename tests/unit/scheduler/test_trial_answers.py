"""A trial of a suspected change ends when that is ruled out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from scheduler.trials.answers import answer, ruled_out
from scheduler.trials.turns import Counted, Process, count, side_of


def _counted(change: float, noise: float = 0.02, processes: int = 20, seed: int = 1) -> Counted:
    luck = np.random.default_rng(seed)
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    return count(
        Process(
            side=side_of(number),
            started_at=begun + timedelta(seconds=8 * number),
            p50_ms=10 * (1 + change * (side_of(number) == "candidate")) * (1 + noise * luck.normal()),
        )
        for number in range(processes)
    )


def test_what_is_not_there_is_ruled_out_and_the_bound_is_printed() -> None:
    asked = answer(_counted(0.0), suspected=0.08)
    assert (asked.ruled_out, asked.verdict.answer) == (True, "same")
    assert asked.verdict.bound == pytest.approx(0.06)
    assert "+-6.0%" in asked.verdict.why
    assert answer(_counted(0.0)).verdict.answer == "inconclusive"


def test_only_the_suspected_side_is_ruled_out_where_the_other_is_open() -> None:
    assert ruled_out((0.99, 1.20), 0.05) == pytest.approx(0.0375)
    assert ruled_out((0.99, 1.20), -0.05) is None
    assert ruled_out((0.90, 1.01), -0.05) == pytest.approx(0.0375)
    assert ruled_out((0.99, 1.01), 0.005) == pytest.approx(0.02)
    assert ruled_out((0.99, 1.01), None) is None
    assert ruled_out(None, 0.05) is None


def test_a_change_of_5_percent_is_never_ruled_out_by_what_made_it_look_larger() -> None:
    answers = [answer(_counted(0.05, seed=seed), suspected=0.07) for seed in range(40)]
    assert sum(one.verdict.answer == "slower" for one in answers) >= 36
    assert not any(one.ruled_out for one in answers)
