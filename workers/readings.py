"""Readings in bulk: cleaned of what is no number, thinned for rows, and as the columns that cross to the head."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, get_args

from workers.report import Quality, Reading

#: Rows are thinned to one value per channel and so many seconds.
ROW_PERIOD_S: Final = 1.0
#: What columns number qualities by.
QUALITIES: Final[tuple[Quality, ...]] = get_args(Quality)
#: Sensor, domain, quantity and unit: what a channel is.
Meaning = tuple[str, str, str, str]
_IMPLAUSIBLE: Final = QUALITIES.index("implausible")
_WITH_VALUE: Final = frozenset((QUALITIES.index("ok"), QUALITIES.index("partial")))
#: Epoch seconds beyond which a time is none: 1970 and 2200.
_TIMES_S: Final = (0.0, 7_258_118_400.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingColumns:
    """Readings as columns: a tenth of the bytes, and checked in a tenth of the time."""

    #: Epoch seconds by the agent's clock, from which offsets count.
    anchor: float
    channels: tuple[Meaning, ...]
    offset_s: list[float]
    #: Number of the channel of each.
    channel: list[int]
    value: list[float | None]
    #: Number of the quality of each, in the order of `QUALITIES`.
    quality: list[int]
    #: Position of a reading to what its agent said of it.
    why: dict[int, str]

    def __len__(self) -> int:
        """How many readings."""
        return len(self.offset_s)

    def values_of(self, quantity: str, unit: str) -> list[float]:
        """The values of a quantity, of whichever channel."""
        wanted = {number for number, meaning in enumerate(self.channels) if meaning[2:] == (quantity, unit)}
        if not wanted:
            return []
        return [
            value
            for number, value in zip(self.channel, self.value, strict=True)
            if value is not None and number in wanted
        ]


def is_finite(value: float | None) -> bool:
    """Whether it is absent or a number."""
    return value is None or math.isfinite(value)


def cleaned(readings: Iterable[Reading]) -> tuple[Reading, ...]:
    """Readings whose value is no number have none: it is implausible, and says what it was."""
    return tuple(
        reading
        if is_finite(reading.value)
        else replace(reading, value=None, quality="implausible", why=no_number(reading.value))
        for reading in readings
    )


def is_time(seconds: float) -> bool:
    """Whether epoch seconds are a time that anything of ours may have happened at, or may yet."""
    return _TIMES_S[0] <= seconds <= _TIMES_S[1]


def no_number(value: float | None) -> str:
    """Why a value is none."""
    return f"the sensor said {value}"


def thinned(readings: Sequence[Reading], period_s: float = ROW_PERIOD_S) -> tuple[Reading, ...]:
    """Readings with at most one value for each channel and period, counted from the channel's first.

    Of each period the last value stands, so that a channel's first and last are kept, and with them the difference of
    a counter over the whole; what has no value says why, and is kept.

    Args:
        readings: in order of time, of any number of channels.
        period_s: of values that are kept.
    """
    first: dict[Meaning, float] = {}
    last_of: dict[tuple[Meaning, int], int] = {}
    kept: list[int] = []
    for position, reading in enumerate(readings):
        if reading.value is None:
            kept.append(position)
            continue
        channel = meaning_of(reading)
        if channel not in first:  # which has period 0 to itself
            first[channel] = reading.at
            kept.append(position)
            continue
        # A period begins after its lower end, and has its upper end.
        last_of[channel, max(1, math.ceil((reading.at - first[channel]) / period_s))] = position
    kept += last_of.values()
    return tuple(readings[position] for position in sorted(kept))


def meaning_of(reading: Reading) -> Meaning:
    """The channel of a reading."""
    return reading.sensor, reading.domain, reading.quantity, reading.unit


def pack(readings: Sequence[Mapping[str, Any]]) -> str:
    """Readings that are plain data, at least one, as JSON of `ReadingColumns`."""
    anchor = readings[0]["at"]
    channels: dict[tuple[str, ...], int] = {}
    offset_s, channel, value, quality = [], [], [], []
    why: dict[int, str] = {}
    for position, reading in enumerate(readings):
        meaning = (reading["sensor"], reading["domain"], reading["quantity"], reading["unit"])
        offset_s.append(round(reading["at"] - anchor, 6))
        channel.append(channels.setdefault(meaning, len(channels)))
        value.append(reading["value"])
        quality.append(QUALITIES.index(reading["quality"]))
        if (reason := reading.get("why")) is not None:
            why[position] = reason
    columns = {"anchor": anchor, "channels": list(channels), "offset_s": offset_s, "channel": channel}
    return json.dumps({**columns, "value": value, "quality": quality, "why": why}, separators=(",", ":"))


def checked(columns: ReadingColumns) -> ReadingColumns:
    """Columns that fit together; what is no number among their values is none, and says so.

    Raises:
        ValueError: they do not fit together, or a time is none.
    """
    count = len(columns.offset_s)
    if not len(columns.channel) == len(columns.value) == len(columns.quality) == count:
        raise ValueError("columns of readings differ in length")
    if count == 0:
        return columns
    # Not a number compares as neither: so it does not pass. Nor do an anchor and offsets whose sums alone are times.
    first, last = columns.anchor + min(columns.offset_s), columns.anchor + max(columns.offset_s)
    sums_are_times = math.isfinite(math.fsum(columns.offset_s)) and is_time(first) and is_time(last)
    if not (sums_are_times and is_time(columns.anchor)):
        raise ValueError("a reading has no time")
    if min(columns.channel) < 0 or max(columns.channel) >= len(columns.channels):
        raise ValueError("a reading is of a channel that is not named")
    if min(columns.quality) < 0 or max(columns.quality) >= len(QUALITIES):
        raise ValueError("a reading has a quality that is not known")
    value, quality, why = columns.value, columns.quality, columns.why
    odd = [
        position
        for position, (number, mark) in enumerate(zip(value, quality, strict=True))
        if number is not None and not (mark in _WITH_VALUE and math.isfinite(number))
    ]
    if not odd:
        return columns
    value, quality, why = list(value), list(quality), dict(why)
    for position in odd:
        if not is_finite(value[position]):
            why[position] = no_number(value[position])
            quality[position] = _IMPLAUSIBLE
        value[position] = None
    return replace(columns, value=value, quality=quality, why=why)
