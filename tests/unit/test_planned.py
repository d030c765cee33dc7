"""What a request becomes: a conversion that trains may take as long as it was told to."""

from __future__ import annotations

import pytest

from scheduler.conversions import Variant
from scheduler.planned import CONVERT_DEADLINE_S, TRAIN_DEADLINE_S, PlannedConversion
from workers.contract import ConvertTask


@pytest.mark.parametrize(
    ("step", "deadline_s"),
    [
        (None, CONVERT_DEADLINE_S),
        ("int8-static", CONVERT_DEADLINE_S),
        ("prune-structured(0.5)", CONVERT_DEADLINE_S),
        ("qat", TRAIN_DEADLINE_S),
        ("distill(digits/cnn,seconds=7200)", CONVERT_DEADLINE_S + 7200),
        ("prune-iterative(0.5,steps=4,seconds=100)", CONVERT_DEADLINE_S + 400),
    ],
)
def test_a_training_is_not_cut_off_before_its_budget(step: str | None, deadline_s: float) -> None:
    variant = Variant(format="pt2", recipe="fp32", key="k", entry="m:C", parent=None, versions={})
    task = ConvertTask(entry="m:C", format="pt2", recipe="fp32", step=step)
    planned = PlannedConversion(variant=variant, model="m", task=task, on_this_host=False)
    assert planned.deadline_s == deadline_s
