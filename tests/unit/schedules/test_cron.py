"""Cron on the wall clocks of the world: checked, minute by minute, against a clock that is only looked at."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from datetime import time as wall_time
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from device_registry.errors import UsageError
from scheduler.schedules.cron import Cron, local_zone, read_cron, read_zone

_MINUTE = timedelta(minutes=1)
#: By half an hour, by two, at midnight, a whole day, all year, Ramadan, and zones that know nothing of it.
_ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "America/Sao_Paulo",
    "Asia/Beirut",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Pacific/Apia",
    "Pacific/Chatham",
    "America/Nuuk",
    "Asia/Tehran",
    "Asia/Kolkata",
    "UTC",
)


def _due(cron: Cron, begin: datetime, end: datetime) -> Iterator[datetime]:
    due = cron.after(begin)
    while due <= end:
        yield due
        due = cron.after(due)


def _changes(zone: ZoneInfo, year: int) -> list[datetime]:
    """Days of a year on which a zone's clocks are set."""
    days = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(366)]
    offsets = [day.astimezone(zone).utcoffset() for day in days]
    return [day for day, one, other in zip(days[1:], offsets, offsets[1:], strict=False) if one != other]


def _seen(cron: Cron, begin: datetime, end: datetime) -> list[datetime]:
    """Due times by looking at the clock each minute: what it shows and, not of every hour, what it has passed."""
    names = _Names(cron.text)
    shown = [begin + number * _MINUTE for number in range(int((end - begin) / _MINUTE) + 1)]
    walls = [moment.astimezone(cron.zone).replace(tzinfo=None) for moment in shown]
    if names.every_hour:
        return [moment for moment, wall in zip(shown[1:], walls[1:], strict=True) if names.match(wall)]
    found, furthest = [], walls[0]
    for moment, wall in zip(shown[1:], walls[1:], strict=True):
        passed = int((wall - furthest) / _MINUTE)
        if any(names.match(furthest + step * _MINUTE) for step in range(1, passed + 1)):
            found.append(moment)
        furthest = max(furthest, wall)
    return found


class _Names:
    """What an expression of plain numbers names, without croniter's way of walking."""

    def __init__(self, text: str) -> None:
        expanded = croniter.expand(text)[0]
        minute, hour, day, month, weekday = (None if field == ["*"] else set(field) for field in expanded)
        self.minute, self.hour, self.day, self.month, self.weekday = minute, hour, day, month, weekday
        self.every_hour = hour is None or len(hour) == 24

    def match(self, wall: datetime) -> bool:
        if self.minute is not None and wall.minute not in self.minute:
            return False
        if self.hour is not None and wall.hour not in self.hour:
            return False
        if self.month is not None and wall.month not in self.month:
            return False
        days = [(self.day, wall.day), (self.weekday, wall.isoweekday() % 7)]
        named = [value in names for names, value in days if names is not None]
        return any(named) or not named


_minutes = st.sampled_from(["0", "30", "59", "*/15", "7,37", "*"])
_hours = st.sampled_from(["*", "0", "1", "2", "3", "23", "*/2", "1-3", "0-23", "0,12"])
_days = st.sampled_from(["* * *", "* * *", "* * mon-fri", "1,15 * *", "13 * 5", "29 2 *", "* 3,10,11 sun"])


@settings(max_examples=30, deadline=None)
@given(st.data(), st.sampled_from(_ZONES), st.integers(2008, 2036), _minutes, _hours, _days)
def test_due_times_are_what_a_clock_on_the_wall_says(
    data: st.DataObject, zone: str, year: int, minute: str, hour: str, days: str
) -> None:
    cron = read_cron(f"{minute} {hour} {days}", zone)
    middle = data.draw(st.sampled_from(_changes(cron.zone, year) or [datetime(year, 7, 1, tzinfo=UTC)]))
    begin = middle - timedelta(days=2, minutes=data.draw(st.integers(0, 59)))
    end = middle + timedelta(days=1)
    found = list(_due(cron, begin, end))
    assert found == _seen(cron, begin, end)
    for until in (end, middle, begin + timedelta(hours=2)):
        assert cron.latest(begin, until) == max((due for due in found if due <= until), default=None)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(sorted(available_timezones())), st.integers(1975, 2060), st.integers(0, 23), st.integers(0, 59))
def test_a_nightly_schedule_is_due_once_a_day_in_every_zone_and_year(
    zone: str, year: int, hour: int, minute: int
) -> None:
    """Where the zone skips a whole day, that day's time falls to the first moment of the next."""
    cron = read_cron(f"{minute} {hour} * * *", zone)
    begin = datetime(year, 1, 1, tzinfo=cron.zone)
    found = list(_due(cron, begin - timedelta(seconds=1), datetime(year, 12, 31, 23, 59, tzinfo=cron.zone)))
    assert all(one < other for one, other in pairwise(found))
    walls = [due.astimezone(cron.zone) for due in found]
    days = {begin.date() + timedelta(days=day) for day in range(366 if year % 4 == 0 else 365)}
    missing = days - {wall.date() for wall in walls}
    skipped = sum(wall.time() != wall_time(hour, minute) for wall in walls)
    assert len(missing) <= skipped
    assert len(found) >= len(days) - 1


@pytest.mark.parametrize(
    ("text", "zone", "after", "expected"),
    [
        # 2:30 does not exist on 29 March: the first moment after the gap.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T01:00", "2026-03-30T00:30"]),
        # 2:30 comes twice on 25 October: the first.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["2026-10-25T00:30", "2026-10-26T01:30"]),
        # Every hour counts real time.
        ("30 * * * *", "Europe/Berlin", "2026-03-29T00:00", ["2026-03-29T00:30", "2026-03-29T01:30"]),
        (
            "30 * * * *",
            "Europe/Berlin",
            "2026-10-25T00:00",
            ["2026-10-25T00:30", "2026-10-25T01:30", "2026-10-25T02:30"],
        ),
        # Several times within a gap are one.
        ("*/20 2 * * *", "Europe/Berlin", "2026-03-29T00:00", ["2026-03-29T01:00", "2026-03-30T00:00"]),
        # A day that a zone never had.
        ("0 2 30 12 *", "Pacific/Apia", "2011-12-29T00:00", ["2011-12-30T10:00", "2012-12-29T12:00"]),
        # A midnight that does not exist.
        ("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00", ["2018-11-04T03:00", "2018-11-05T02:00"]),
        ("0 2 29 2 *", "UTC", "2026-01-01T00:00", ["2028-02-29T02:00"]),
        ("@hourly", "UTC", "2026-01-01T00:00", ["2026-01-01T01:00"]),
        ("0 2 1 * mon", "UTC", "2026-01-01T03:00", ["2026-01-05T02:00", "2026-01-12T02:00"]),
        ("0 2 l * *", "UTC", "2026-02-01T03:00", ["2026-02-28T02:00"]),
    ],
)
def test_nights_that_people_ask_about(text: str, zone: str, after: str, expected: Sequence[str]) -> None:
    due, cron = datetime.fromisoformat(after).replace(tzinfo=UTC), read_cron(text, zone)
    for wanted in expected:
        due = cron.after(due)
        assert due == datetime.fromisoformat(wanted).replace(tzinfo=UTC)


def test_a_schedule_of_every_hour_of_one_day_finds_it_in_another_season() -> None:
    cron = read_cron("15 * 1 7 *", "Europe/Berlin")
    assert cron.after(datetime(2026, 1, 1, tzinfo=UTC)) == datetime(2026, 6, 30, 22, 15, tzinfo=UTC)


def test_fractions_of_a_second_lose_no_due_time() -> None:
    cron = read_cron("0 2 * * *", "UTC")
    due = datetime(2026, 1, 1, 2, tzinfo=UTC)
    assert cron.after(due - timedelta(microseconds=1)) == due
    assert cron.after(due + timedelta(microseconds=1)) == due + timedelta(days=1)


def test_the_latest_of_years_of_minutes_is_found_at_once() -> None:
    cron, until = read_cron("* * * * *", "Europe/Berlin"), datetime(2026, 1, 1, 0, 0, 30, tzinfo=UTC)
    assert cron.latest(datetime(1990, 1, 1, tzinfo=UTC), until) == datetime(2026, 1, 1, tzinfo=UTC)
    leap = read_cron("0 2 29 2 *", "UTC")
    assert leap.latest(datetime(1990, 1, 1, tzinfo=UTC), until) == datetime(2024, 2, 29, 2, tzinfo=UTC)


def test_the_zone_of_this_process_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        cron = read_cron("30 2 * * *", "UTC")
        assert cron.after(datetime(2026, 3, 8, tzinfo=UTC)) == datetime(2026, 3, 8, 2, 30, tzinfo=UTC)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        *("", "nightly", "0 2 * *", "0 25 * * *", "60 2 * * *", "-1 2 * * *", "0 2 0 * *", "0 2 32 * *", "0 2 * 13 *"),
        *("0 2 * * 8", "*/90 * * * *", "0 */24 * * *", "0-5/0 * * * *", "a b c d e", ", , , , ,", "# # # # #"),
        *("1.5 2 * * *", "?? 2 * * *", "0 2 lw * *", "h 2 * * *", "r 2 * * *", "r(1-5) 2 * * *", "\u0663 2 * * *"),
        *("@reboot", "@every 5m", "* * * * * *", "0 0 2 * * * *", "0 2 * * mon#9", "0 2 * * *\n; rm", "x" * 10_000),
    ],
)
def test_nonsense_is_a_sentence_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_cron(text, "UTC")
    assert str(caught.value).count('"0 2 * * *" is every night at 2:00') == 1
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("text", ["0 0 30 2 *", "0 0 31 4,6 *"])
def test_a_day_that_never_comes_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is never due"):
        read_cron(text, "UTC")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("berlin", r"did you mean Europe/Berlin\?"),
        ("europe/berlin", r"did you mean Europe/Berlin\?"),
        ("Mars/Base", "write a name such as"),
        ("../../etc/passwd", "write a name such as"),
        ("/etc/localtime", "unknown time zone"),
        ("Europe", "unknown time zone"),
        ("", "unknown time zone"),
        ("x\0y", "unknown time zone"),
        ("U" * 5000, "unknown time zone"),
    ],
)
def test_a_zone_that_there_is_not(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        read_zone(name)


def test_this_machine_has_a_zone() -> None:
    assert read_zone(local_zone()).key == local_zone()
