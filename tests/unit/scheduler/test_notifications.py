"""The outbox: told once, addressed to every channel, tried by one, in order, for a day, on either database."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import update

from device_registry.database import reading, writing
from device_registry.errors import UsageError
from scheduler.notifications import delivery, outbox
from scheduler.notifications.delivery import CLAIM, Message, pause_s
from scheduler.notifications.outbox import PATIENCE, messages, notifications, tell_digest, tell_incident
from tests.unit.scheduler.builders import CRASHED, ONNX, TORCH, Farm, only
from tests.unit.scheduler.watched import incidents, open_incident, watched_run

_ALL: dict[str, Callable[[str], bool]] = {"a": lambda kind: True, "b": lambda kind: kind != "digest"}


def _told(farm: Farm) -> int:
    """An incident of two runs, told; returns its number."""
    incident = open_incident(farm, watched_run(farm, salt="1"), watched_run(farm, salt="2"))
    with writing(farm.engine) as connection:
        tell_incident(connection, incident, "opened", farm.clock())
    return incident


def _change(farm: Farm, incident: int, kind: outbox.Change) -> None:
    """The incident changes, and that is told."""
    farm.clock.advance(1)
    with writing(farm.engine) as connection:
        state = "resolved" if kind == "resolved" else "open"
        changed = update(incidents).where(incidents.c.id == incident)
        connection.execute(changed.values(state=state, changed_at=farm.clock()))
        tell_incident(connection, incident, kind, farm.clock())


def _address(farm: Farm) -> None:
    with writing(farm.engine) as connection:
        delivery.address(connection, _ALL, farm.clock())


def _claim(farm: Farm, channel: str = "a") -> Message | None:
    with writing(farm.engine) as connection:
        return delivery.claim(connection, channel, farm.clock())


def _taken(farm: Farm, channel: str = "a") -> Message:
    found = _claim(farm, channel)
    assert found is not None
    return found


def _sent(farm: Farm, message: Message, receipt: str | None = None) -> None:
    with writing(farm.engine) as connection:
        delivery.sent(connection, message, receipt, farm.clock())


def _failed(farm: Farm, message: Message, *, pause: float = 60.0, away: bool = True) -> bool:
    with writing(farm.engine) as connection:
        return delivery.failed(connection, message, "down", farm.clock(), pause=pause, channel_is_away=away)


def _due(farm: Farm) -> list[str]:
    with reading(farm.engine) as connection:
        return delivery.due(connection, farm.clock())


def _listed(farm: Farm, **which: Any) -> list[tuple[str | None, str, str]]:
    with reading(farm.engine) as connection:
        return [(row["channel"], row["key"], row["state"]) for row in messages(connection, **which)]


def test_what_is_told_twice_is_one_message_for_each_channel_that_wants_it(farm: Farm) -> None:
    incident = _told(farm)
    run_id = farm.rows(incidents)[0].sweep_run_id
    with writing(farm.engine) as connection:
        tell_incident(connection, incident, "opened", farm.clock())
        tell_digest(connection, run_id, farm.clock())
        tell_digest(connection, run_id, farm.clock())
    assert _listed(farm) == [(None, f"digest/{run_id}", "pending"), (None, f"incident/{incident}/opened", "pending")]
    for _ in range(2):
        _address(farm)
        with writing(farm.engine) as connection:  # and again after the channels got theirs
            tell_digest(connection, run_id, farm.clock())
    assert sorted(_listed(farm), key=str) == [
        ("a", f"digest/{run_id}", "pending"),
        ("a", f"incident/{incident}/opened", "pending"),
        ("b", f"incident/{incident}/opened", "pending"),
    ]


def test_what_is_rolled_back_was_never_told(farm: Farm) -> None:
    incident = open_incident(farm, watched_run(farm, salt="1"), watched_run(farm, salt="2"))
    with suppress(ZeroDivisionError), writing(farm.engine) as connection:
        tell_incident(connection, incident, "opened", farm.clock())
        raise ZeroDivisionError
    assert _listed(farm) == []


def test_an_incident_may_be_resolved_and_reopened_again_and_each_time_is_told(farm: Farm) -> None:
    incident = _told(farm)
    for kind in ("resolved", "reopened", "resolved"):
        _change(farm, incident, kind)
    assert [row.kind for row in farm.rows(notifications)] == [
        "incident.opened",
        "incident.resolved",
        "incident.reopened",
        "incident.resolved",
    ]


def test_one_of_two_that_deliver_tries_and_the_other_finds_nothing(farm: Farm) -> None:
    _told(farm)
    _address(farm)
    message = _taken(farm)
    assert (message.attempt, message.kind, _claim(farm)) == (1, "incident.opened", None)
    _sent(farm, message)
    assert _due(farm) == ["b"]
    assert _claim(farm) is None


def test_who_dies_before_the_report_leaves_the_message_to_the_next_with_the_same_key(farm: Farm) -> None:
    _told(farm)
    _address(farm)
    first = _taken(farm)
    farm.clock.advance(CLAIM.total_seconds() + 1)
    second = _taken(farm)
    assert (second.attempt, second.idempotency_key) == (2, first.idempotency_key)
    _sent(farm, first)  # it was only slow: nobody listens to it any more
    assert farm.rows(notifications, notifications.c.id == second.id)[0].state == "pending"
    _sent(farm, second)
    assert farm.rows(notifications, notifications.c.id == second.id)[0].state == "sent"
    assert _taken(farm, "b").idempotency_key != first.idempotency_key


def test_what_became_of_an_incident_arrives_in_order(farm: Farm) -> None:
    incident = _told(farm)
    _address(farm)
    opened = _taken(farm)
    assert _failed(farm, opened, pause=600) is False
    _change(farm, incident, "resolved")
    _address(farm)
    assert _claim(farm) is None  # due, but behind its opening
    farm.clock.advance(601)
    opened = _taken(farm)
    assert opened.kind == "incident.opened"
    _sent(farm, opened, "annotation 7")
    resolved = _taken(farm)
    assert (resolved.kind, resolved.receipt) == ("incident.resolved", "annotation 7")


def test_a_receiver_that_is_away_is_asked_once_per_pause_whatever_waits(farm: Farm) -> None:
    incident = _told(farm)
    with writing(farm.engine) as connection:
        tell_digest(connection, farm.rows(incidents)[0].sweep_run_id, farm.clock())
    _address(farm)
    _failed(farm, _taken(farm), pause=60)
    assert _claim(farm) is None
    assert _taken(farm, "b").incident_id == incident  # another channel does not wait
    farm.clock.advance(61)
    refused = _taken(farm)
    _failed(farm, refused, pause=600, away=False)  # this message only: the other goes out
    assert _taken(farm).kind == "digest"


def test_a_message_is_given_up_after_a_day_and_a_user_may_have_it_tried_again(farm: Farm) -> None:
    _told(farm)
    _address(farm)
    tries = 0
    while (message := _claim(farm)) is not None:
        tries += 1
        given_up = _failed(farm, message, pause=3600)
        farm.clock.advance(3601)
    assert (given_up, tries) == (True, 24)
    [lost] = farm.rows(notifications, notifications.c.state == "given_up")
    assert (lost.channel, lost.error, lost.next_at) == ("a", "down", None)
    with writing(farm.engine) as connection:
        assert outbox.retry(connection, [], farm.clock()) == [lost.id]
    again = _taken(farm)
    assert (again.id, again.attempt) == (lost.id, 25)
    _sent(farm, again)
    with writing(farm.engine) as connection:
        with pytest.raises(UsageError, match=rf"message {lost.id} is sent: it is never sent twice"):
            outbox.retry(connection, [lost.id], farm.clock())
        with pytest.raises(UsageError, match="there is no message 999"):
            outbox.retry(connection, [999], farm.clock())


def test_what_waits_for_a_channel_that_is_gone_is_given_up_after_a_day(farm: Farm) -> None:
    _told(farm)
    _address(farm)
    with writing(farm.engine) as connection:
        assert delivery.give_up_strays(connection, ["b"], farm.clock()) == 0
    farm.clock.advance(PATIENCE.total_seconds() + 1)
    with writing(farm.engine) as connection:
        assert delivery.give_up_strays(connection, ["b"], farm.clock()) == 1
    assert [row.channel for row in farm.rows(notifications, notifications.c.state == "given_up")] == ["a"]


def test_pauses_grow_are_bounded_and_heed_what_the_receiver_asks() -> None:
    assert [pause_s(attempt, chance=lambda: 0.5) for attempt in (1, 2, 3, 6, 7, 1000)] == [30, 60, 120, 900, 900, 900]
    assert pause_s(1, chance=lambda: 0.0) == pytest.approx(24)
    assert pause_s(1, chance=lambda: 1.0) == pytest.approx(36)
    assert pause_s(1, asked_s=120.0, chance=lambda: 0.5) == 120
    assert pause_s(1, asked_s=1e9, chance=lambda: 0.5) == 6 * 3600


def test_the_document_of_an_incident_names_its_series(farm: Farm) -> None:
    _told(farm)
    document = farm.rows(notifications)[0].document
    assert document["incident"]["revision_bad"] == "bbb222"
    assert document["series"]["count"] == 1
    [series] = document["series"]["first"]
    assert (series["device"], series["model"], series["options"]) == ("d0", "net", "t1 b1 burst")
    assert series["change_interval"] == pytest.approx([0.06, 0.10])
    assert document["commands"] == ["benchfarm regressions show 1"]


def test_failures_are_told_by_what_failed(farm: Farm) -> None:
    farm.play(only("measure onnx", CRASHED))
    run_id = watched_run(farm, TORCH, ONNX)
    with writing(farm.engine) as connection:
        tell_digest(connection, run_id, farm.clock())
    document = farm.rows(notifications)[0].document
    [failed] = document["failed"]["first"]
    assert (failed["cause"], failed["code"], failed["cases"]) == ("model", "crashed", 1)
    assert "crashed the process" in failed["why"]
    assert document["cases"] == {"wanted": 2, "open": 0, "measured": 1, "valid": 1, "invalid": {}}
    assert document["quiet"] is False
