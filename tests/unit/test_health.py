"""Rules of health: what puts a device aside, what brings it back, and what only a person may do."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_registry.errors import UsageError
from device_registry.health import (
    ADMIN_CHANGES,
    FARM,
    FIRST_PROBE_S,
    MOST_FAILURES,
    NORMAL_OF,
    Admin,
    Health,
    Outcome,
    administered,
    after,
    normal_ms,
    probe_pause_s,
)
from device_registry.rests import LONGEST_PROBE_S
from tests.unit.builders import NOW
from workers.android.phone import PhoneLostError

WELL = Outcome(device_id=1, p50_ms=10.0)
SICK = Outcome(device_id=1, failure_cause="device", failure_code="sick", failure_message="it is sick")
GONE = Outcome(device_id=1, failure_cause="infrastructure", failure_code="device_gone")
HOT = Outcome(device_id=1, failure_cause="device", failure_code="too_hot")
FULL = Outcome(device_id=1, failure_cause="device", failure_code="phone_full")
GATED = Outcome(device_id=1, failure_cause="device", failure_code="gate_timeout")
CRASHED = Outcome(device_id=1, failure_cause="model", failure_code="crashed")
DISK_FULL = Outcome(device_id=1, failure_cause="infrastructure", failure_code="disk_full")
#: Says something of the model or of the host, nothing of the device.
NEITHER = (GATED, HOT, FULL, CRASHED, DISK_FULL)


def canary(outcome: Outcome, **changed: float) -> Outcome:
    """The same outcome of a canary."""
    return replace(outcome, canary=True, **changed)  # type: ignore[arg-type]


def through(health: Health, *outcomes: Outcome, known_ms: float | None = None, now: datetime = NOW) -> Health:
    """Health after several attempts."""
    for outcome in outcomes:
        health, _ = after(health, outcome, normal_ms=known_ms, now=now)
    return health


PUT_ASIDE = through(Health(), SICK, SICK, SICK)


def test_three_failures_in_a_row_for_its_own_sake_put_a_device_aside() -> None:
    assert through(Health(), SICK, GONE).admin == "enabled"
    health, why = after(through(Health(), SICK, GONE), SICK, normal_ms=None, now=NOW)
    assert (health.admin, health.admin_by, health.admin_why) == ("quarantined", FARM, why)
    assert why == "failed 3 times in a row, last: it is sick"
    assert health.probe_at == NOW + timedelta(seconds=FIRST_PROBE_S)


@pytest.mark.parametrize("code", [PhoneLostError("it went").code, "device_no_answer"])
def test_a_phone_that_keeps_getting_lost_is_put_aside(code: str) -> None:
    lost = Outcome(device_id=1, failure_cause="infrastructure", failure_code=code)
    assert through(Health(), lost, lost, lost).admin == "quarantined"


def test_a_success_breaks_the_row() -> None:
    assert through(Health(), SICK, SICK, WELL, SICK, SICK).admin == "enabled"


@pytest.mark.parametrize("outcome", NEITHER, ids=lambda outcome: outcome.failure_code)
def test_what_says_nothing_of_the_device_neither_counts_nor_breaks_the_row(outcome: Outcome) -> None:
    assert through(Health(), *[outcome] * 10).admin == "enabled"
    assert through(Health(), SICK, outcome, SICK, outcome, SICK).admin == "quarantined"


def test_a_device_rests_after_each_failure_the_longer_the_more_there_were() -> None:
    rests = [through(Health(), *[SICK] * count).not_before for count in (1, 2, 3)]
    assert [(rest - NOW).total_seconds() for rest in rests if rest is not None] == [10.0, 20.0, 40.0]
    assert through(Health(), GATED).not_before == NOW + timedelta(seconds=10)


def test_a_canary_that_passes_brings_it_back_as_new() -> None:
    health, why = after(PUT_ASIDE, canary(WELL), normal_ms=None, now=NOW)
    assert (health, why) == (Health(), "its canary passed")


@pytest.mark.parametrize("known_ms", [8.01, 10.0, 13.3])
def test_a_canary_near_the_normal_time_passes(known_ms: float) -> None:
    assert through(PUT_ASIDE, canary(WELL), known_ms=known_ms) == Health()


@pytest.mark.parametrize("known_ms", [7.9, 13.4])
def test_a_canary_far_from_the_normal_time_fails(known_ms: float) -> None:
    health, why = after(PUT_ASIDE, canary(WELL), normal_ms=known_ms, now=NOW)
    assert health == replace(PUT_ASIDE, probe_at=None)
    assert why == f"its canary failed: took 10 ms, normal are {known_ms:g} ms"


@pytest.mark.parametrize("outcome", [SICK, GONE, GATED, CRASHED], ids=lambda outcome: outcome.failure_code)
def test_a_canary_that_fails_asks_for_recovery(outcome: Outcome) -> None:
    health, why = after(PUT_ASIDE, canary(outcome), normal_ms=None, now=NOW)
    assert health == replace(PUT_ASIDE, probe_at=None)
    assert why is not None


def test_a_canary_that_was_lost_on_the_way_says_nothing() -> None:
    assert after(PUT_ASIDE, canary(DISK_FULL), normal_ms=None, now=NOW) == (PUT_ASIDE, None)


def test_what_a_person_put_aside_only_a_person_brings_back() -> None:
    by_person = administered(Health(), "quarantined", who="ada", why="smells")
    assert through(by_person, canary(WELL), WELL) == by_person
    assert by_person.probe_at is None
    assert administered(by_person, "enabled", who="bob", why=None) == Health()


def test_a_person_takes_over_what_the_farm_put_aside() -> None:
    taken = administered(PUT_ASIDE, "quarantined", who="ada", why="send it in")
    assert (taken.admin_by, taken.admin_why, taken.probe_at) == ("ada", "send it in", None)
    assert through(taken, canary(WELL)) == taken


def test_a_person_who_is_called_farm_is_not_the_farm() -> None:
    taken = administered(Health(), "quarantined", who=FARM, why=None)
    assert through(taken, canary(WELL)).admin == "quarantined"


def test_what_is_no_change_is_refused_and_says_what_is_so() -> None:
    draining = administered(Health(), "draining", who="ada", why=None)
    with pytest.raises(UsageError, match="it is draining already, by ada"):
        administered(draining, "draining", who="bob", why=None)
    with pytest.raises(UsageError, match="it is quarantined: release it first"):
        administered(PUT_ASIDE, "draining", who="bob", why=None)


def test_a_device_that_takes_no_work_is_not_put_aside_by_the_last_that_ran_there() -> None:
    draining = administered(through(Health(), SICK, SICK), "draining", who="ada", why=None)
    assert through(draining, SICK).admin == "draining"


def test_the_normal_time_is_the_median_of_the_first_five() -> None:
    assert normal_ms([9.0, 10.0, 11.0, 12.0]) is None
    assert normal_ms([9.0, 10.0, 11.0, 12.0, 100.0, 1.0, 1.0]) == 11.0


@given(st.integers(0, 10_000))
def test_probes_come_ever_later_but_at_least_hourly(probes: int) -> None:
    assert FIRST_PROBE_S <= probe_pause_s(probes) <= probe_pause_s(probes + 1) <= LONGEST_PROBE_S


_OUTCOMES = st.sampled_from([WELL, SICK, GONE, *NEITHER])
_PEOPLE = st.tuples(st.sampled_from(sorted(ADMIN_CHANGES)), st.sampled_from(["ada", FARM]))
_EVENTS = st.one_of(_OUTCOMES, _OUTCOMES.map(canary), _PEOPLE)


@given(st.lists(_EVENTS, max_size=40), st.one_of(st.none(), st.floats(5.0, 20.0)))
def test_whatever_happens_the_farm_undoes_only_what_it_did(happened: list[object], known_ms: float | None) -> None:
    health = Health()
    for event in happened:
        before = health
        if isinstance(event, Outcome):
            health, why = after(before, event, normal_ms=known_ms, now=NOW)
            assert (why is not None) >= (health.admin != before.admin)
            if before.admin != "enabled" and not before.probed:
                assert health.admin == before.admin
            if health.admin != before.admin:
                assert (before.admin, health.admin) in {("enabled", "quarantined"), ("quarantined", "enabled")}
        else:
            admin, who = event  # type: ignore[misc]
            health = _try(before, admin, who)
        assert (health.admin == "enabled") == (health.admin_by is None)
        assert health.admin != "enabled" or health.failures_in_row < MOST_FAILURES
        assert health.probed or health.probe_at is None


def _try(health: Health, admin: Admin, who: str) -> Health:
    try:
        return administered(health, admin, who=who, why="so")
    except UsageError:
        return health


def test_the_farm_knows_a_normal_time_only_after_so_many() -> None:
    assert [normal_ms([1.0] * count) for count in (NORMAL_OF - 1, NORMAL_OF)] == [None, 1.0]
