"""How many conversions a host makes at once."""

from __future__ import annotations

import pytest

from scheduler.offers import SLOT_BYTES, slot_count


@pytest.mark.parametrize(
    ("cores", "memory_bytes", "slots"),
    [
        (2, 24 * 2**30, 2),
        (64, 16 * SLOT_BYTES, 16),
        (8, SLOT_BYTES // 2, 1),
        (8, 0, 8),  # an agent that does not say
        (0, 0, 1),
    ],
)
def test_one_per_core_as_far_as_memory_goes(cores: int, memory_bytes: int, slots: int) -> None:
    assert slot_count(cores, memory_bytes) == slots
