"""workers.outbox: everything is told until it was taken, and nothing piles up."""

from __future__ import annotations

from workers.outbox import Outbox


def test_what_was_taken_is_gone_and_the_rest_is_told_again() -> None:
    box = Outbox()
    assert not box
    box.add("started", attempt_id=1, token="a")
    box.add("finished", attempt_id=1, token="a", report="{}")
    box.add("finished", attempt_id=2, token="b", report="{}", spooled=False)
    assert [event["sequence"] for event in box.events()] == [1, 2, 3]
    assert box.take(0) == []
    assert [event["attempt_id"] for event in box.take(2)] == [1]
    assert [event["sequence"] for event in box.events()] == [3]
    assert box.take(3) == []  # it left no folder
    assert not box


def test_an_end_is_of_an_attempt_and_its_token() -> None:
    box = Outbox()
    box.add("lost", attempt_id=1, token="another farm's")
    assert box.tells_of(1, "another farm's")
    assert not box.tells_of(1, "ours")
    box.take(1)
    assert not box.tells_of(1, "another farm's")


def test_of_lists_of_devices_only_the_newest_is_kept() -> None:
    box = Outbox()
    for number in range(5):
        box.add("devices", devices=[number])
        box.add("started", attempt_id=number, token="t")
    kinds = [(event["kind"], event.get("devices")) for event in box.events()]
    assert kinds.count(("started", None)) == 5
    assert [devices for kind, devices in kinds if kind == "devices"] == [[4]]


def test_of_readings_between_attempts_a_few_are_kept_and_nothing_else_is_dropped() -> None:
    box = Outbox()
    box.add("devices", devices=[])
    for number in range(50):
        box.add("started", attempt_id=number, token="t")
        box.add("readings", devices={"d": str(number)})
    kinds = [event["kind"] for event in box.events()]
    assert (kinds.count("devices"), kinds.count("started")) == (1, 50)
    told = [event["devices"]["d"] for event in box.events() if event["kind"] == "readings"]
    assert told == [str(number) for number in range(45, 50)]
    numbers = [event["sequence"] for event in box.events()]
    assert numbers == sorted(numbers)
