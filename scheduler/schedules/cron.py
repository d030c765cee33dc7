"""When a schedule is due: cron, read as the wall clock of a time zone. Pure.

Two rules for the nights on which clocks are set:

- A schedule of fixed hours is due at the first moment at which the zone's clock shows its time or a later one: a time
  that does not exist that night is made up for right after the gap, and one that comes twice counts once, the first.
- A schedule of every hour (`*` in the hour's field) counts real time: an hour that is left out is left out, and one
  that comes twice counts twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from croniter import CroniterBadDateError, CroniterError, croniter

from device_registry.errors import UsageError

_EXAMPLE: Final = 'write five fields, minute hour day month weekday: "0 2 * * *" is every night at 2:00'
_ALIASES = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")
_FIELDS = ("minute", "hour", "day", "month", "weekday")
#: Steps larger than the field are no mistake to croniter, which then takes the field's first value alone.
_SIZES = (60, 24, 31, 12, 7)
#: Letters that croniter knows: names of months and weekdays, the last of them, the nearest working day. It knows more:
#: H and R draw a time at random, at every look anew.
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WORDS = frozenset((*_MONTHS, "sun", "mon", "tue", "wed", "thu", "fri", "sat", "l", "w"))
_LONGEST = 200
_LONGEST_ZONE = 100
_SECOND = timedelta(seconds=1)
_LOOKS_BACK = (1, 24, 8 * 24, 32 * 24, 400 * 24, 5 * 366 * 24, 51 * 366 * 24)
_LOCALTIME = Path("/etc/localtime")


@dataclass(frozen=True)
class Cron:
    """A cron expression in a time zone."""

    text: str
    zone: ZoneInfo

    def after(self, moment: datetime) -> datetime:
        """The first due time after a moment, in UTC."""
        moment = moment.astimezone(UTC)
        return self._by_real_time(moment) if self._is_of_every_hour else self._by_wall_clock(moment)

    def latest(self, since: datetime, until: datetime) -> datetime | None:
        """The last due time after `since` and not after `until`, in UTC; None: there is none."""
        for hours in _LOOKS_BACK:
            begin = max(since, until - timedelta(hours=hours))
            due = self.after(begin)
            if due <= until:
                while (following := self.after(due)) <= until:
                    due = following
                return due
            if begin == since:
                break
        return None

    @property
    def _is_of_every_hour(self) -> bool:
        hours = croniter.expand(self.text)[0][1]
        return hours == ["*"] or len(hours) == _SIZES[1]

    def _by_wall_clock(self, moment: datetime) -> datetime:
        return next(due for wall in self._walls(self._wall(moment)) if (due := _first_at(wall, self.zone)) > moment)

    def _by_real_time(self, moment: datetime) -> datetime:
        begin, offset = self._wall(moment), _offset(moment, self.zone)
        while True:
            due = (next(self._walls(begin)) - offset).replace(tzinfo=UTC)
            if _offset(due, self.zone) == offset:
                return due
            # Clocks are set meanwhile: go on from there, by what they show then.
            moment = _change(moment, due, self.zone)
            begin, offset = self._wall(moment) - _SECOND, _offset(moment, self.zone)

    def _wall(self, moment: datetime) -> datetime:
        return moment.astimezone(self.zone).replace(tzinfo=None, microsecond=0)

    def _walls(self, begin: datetime) -> Iterator[datetime]:
        """Times that the expression names, after one, as the clock on the wall shows them."""
        found: Iterator[datetime] = croniter(self.text, begin).all_next(datetime)
        return found


def read_cron(text: str, timezone: str) -> Cron:
    """A cron expression and the name of a time zone, as a user writes them.

    Raises:
        UsageError: either is none; the sentence has an example.
    """
    text = " ".join(text.split()).lower()
    _check(text)
    cron = Cron(text, read_zone(timezone))
    try:
        croniter.expand(text)
        cron.after(datetime(2026, 1, 1, tzinfo=UTC))
    except CroniterBadDateError:
        raise UsageError(f"cron {text!r} is never due: there is no such day") from None
    except (CroniterError, ValueError, KeyError, IndexError) as error:
        raise UsageError(f"cron {_said(text, error)}; {_EXAMPLE}") from error
    return cron


def read_zone(name: str) -> ZoneInfo:
    """A time zone by its IANA name.

    Raises:
        UsageError: there is none of that name.
    """
    try:
        if 0 < len(name) <= _LONGEST_ZONE:
            return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # no name of a zone at all, a folder of zones, or no zone
        pass
    known = available_timezones()
    close = {zone.lower(): zone for zone in known}.get(name.lower()) or next(
        iter([zone for zone in sorted(known) if zone.rpartition("/")[2].lower() == name.lower()]), None
    )
    found = [close] if close is not None else get_close_matches(name, known, n=1)
    hint = f"did you mean {found[0]}?" if found else "write a name such as Europe/Berlin, America/New_York or UTC"
    raise UsageError(f"unknown time zone {name!r}: {hint}")


def local_zone() -> str:
    """The name of this machine's time zone, as far as it has one that other machines know; else UTC."""
    try:
        name = str(_LOCALTIME.resolve(strict=True)).rpartition("/zoneinfo/")[2]
        return "UTC" if name in ("", "Etc/UTC") else ZoneInfo(name).key
    except (ValueError, OSError, KeyError):
        return "UTC"


def _check(text: str) -> None:
    if len(text) > _LONGEST:
        raise UsageError(f"cron of {len(text)} characters: {_LONGEST} are the most; {_EXAMPLE}")
    if text.startswith("@"):
        if text not in _ALIASES:
            known = ", ".join(_ALIASES)
            why = "a farm has no boot to run at" if text == "@reboot" else f"known are {known}"
            raise UsageError(f"cron {text!r}: {why}; {_EXAMPLE}")
        return
    fields = text.split()
    if len(fields) in (6, 7):
        raise UsageError(f"cron {text!r} has {len(fields)} fields, and there are none of seconds or years; {_EXAMPLE}")
    if len(fields) != len(_FIELDS):
        raise UsageError(f"cron {text!r} has {len(fields)} field{'s' * (len(fields) != 1)}; {_EXAMPLE}")
    for name, size, value in zip(_FIELDS, _SIZES, fields, strict=True):
        if unknown := sorted(set(re.findall(r"[a-z]+", value)) - _WORDS):
            raise UsageError(f"cron {text!r}: {unknown[0]!r} is no {name}; {_EXAMPLE}")
        for step in re.findall(r"/(\d+)", value):
            if int(step) >= size:
                raise UsageError(f"cron {text!r}: a step of {step} leads out of the {size} of the {name}; {_EXAMPLE}")


def _said(text: str, error: Exception) -> str:
    """What croniter says of a text, with the text as we quote it."""
    why = str(error).removeprefix(f"[{text}] ")
    return f"{text!r} {why}" if why.startswith("is ") else f"{text!r}: {why or 'it cannot be read'}"


def _first_at(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first moment at which a zone's clock shows a time or, where it never does, a later one."""
    moment = wall.replace(tzinfo=zone).astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == wall:
        return moment
    return _change(wall.replace(tzinfo=zone, fold=1).astimezone(UTC), moment, zone)


def _change(early: datetime, late: datetime, zone: ZoneInfo) -> datetime:
    """The moment between two at which a zone's clocks are set."""
    before = _offset(early, zone)
    while late - early > _SECOND:
        middle = early + timedelta(seconds=(late - early) // _SECOND // 2)
        early, late = (middle, late) if _offset(middle, zone) == before else (early, middle)
    return late


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None  # every zone of ours has one
    return offset
