"""When a part of the picture is read again."""

from __future__ import annotations

from exporters.reader import _Part


def part(every_s: float | None, cost_s: float) -> _Part:
    """One that was read at second 100, when the newest event was 7."""
    return _Part(lambda *_: None, every_s=every_s, read_at_s=100.0, cost_s=cost_s, seen=7)


def test_the_first_look_reads_all() -> None:
    assert _Part(lambda *_: None, every_s=300.0).due(0.0, 7)


def test_what_leaves_no_event_is_always_read() -> None:
    assert part(None, cost_s=9.0).due(100.1, 7)


def test_the_rest_is_read_when_something_happened_or_after_a_while() -> None:
    quick = part(300.0, cost_s=0.01)
    assert quick.due(115.0, 8)
    assert not quick.due(115.0, 7)
    assert quick.due(401.0, 7)


def test_what_takes_long_takes_a_tenth_of_the_time_at_most() -> None:
    slow = part(30.0, cost_s=4.0)
    assert not slow.due(139.0, 8)
    assert slow.due(140.0, 8)
    assert slow.due(140.0, 7)
