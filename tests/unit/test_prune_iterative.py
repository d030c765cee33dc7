"""Pruning little by little: how much each time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from workers.compressions.prune_iterative import schedule


def test_most_goes_first_and_in_the_end_all_that_was_asked_for() -> None:
    reached = [0.0, *schedule(0.8, 4)]
    taken = [after - before for before, after in pairwise(reached)]
    assert reached[-1] == pytest.approx(0.8)
    assert taken == sorted(taken, reverse=True)
    assert min(taken) > 0


def test_one_step_is_pruning_at_once() -> None:
    assert schedule(0.3, 1) == [0.3]
