"""A phone's history covers a long run in little memory."""

from __future__ import annotations

import random
from itertools import pairwise

from workers.android.history import PhoneHistory

LIMIT_BYTES = 2 << 20


def text_of(uptime_s: int, more: str = "") -> str:
    return f"@@benchfarm kernel\nuptime {uptime_s}\n{more}\n@@benchfarm end\n"


def test_what_was_told_is_found_by_its_time() -> None:
    history = PhoneHistory()
    assert history.latest() is None
    for at in range(10):
        history.add(text_of(at), float(at), full=at == 5)
    assert [snapshot.uptime_s for snapshot in history.between(3, 6)] == [3, 4, 5, 6]
    newest, full = history.latest(), history.latest(full=True)
    assert newest is not None
    assert full is not None
    assert (newest.at, full.at) == (9, 5)
    history.add(text_of(10), 10.0, full=True)
    assert history.latest(full=True) is history.latest(full=True)
    assert getattr(history.latest(full=True), "at", None) == 10


def test_a_long_run_keeps_its_beginning_and_its_end() -> None:
    history, chance = PhoneHistory(), random.Random(1)
    for at in range(3600):
        history.add(text_of(at, chance.randbytes(2000).hex()), float(at), full=at % 5 == 0)
    kept = [snapshot.at for snapshot in history.between(0)]
    assert kept[0] == 0
    assert kept[-290:] == [float(at) for at in range(3310, 3600)]
    assert len(kept) * 2000 < LIMIT_BYTES * 1.1
    assert max(after - before for before, after in pairwise(kept)) < 60


def test_a_phone_that_tells_far_too_much_fills_no_memory() -> None:
    history, chance = PhoneHistory(), random.Random(1)
    for at in range(300):
        history.add(text_of(at, chance.randbytes(25_000).hex()), float(at), full=True)
    kept = [snapshot.at for snapshot in history.between(0)]
    assert kept[-1] == 299
    assert 10 < len(kept) < LIMIT_BYTES / 25_000
