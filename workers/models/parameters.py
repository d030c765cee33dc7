"""Whole numbers in the names of models: `op/conv2d(hw=64,in=90,out=180)`, read, bounded, and written one way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from workers.calls import Call, CallError, parse_call
from workers.models.source import UnknownModelError

#: One name for two equal sides of an image.
SIDES = ("h", "w")
SIDE = "hw"


@dataclass(frozen=True, kw_only=True)
class Number:
    """One parameter: a whole number."""

    default: int
    low: int = 1
    #: The largest value; far above what a machine can hold, so that sizes are computed without ado.
    high: int = 1 << 20


def read_name(text: str, known: Mapping[str, Mapping[str, Number]]) -> tuple[str, dict[str, int]]:
    """The name before the brackets and the values of all its parameters, in the order in which they are declared.

    Args:
        text: a model's name, with or without arguments.
        known: names to their parameters. Where `h` and `w` are parameters, `hw` stands for both.

    Raises:
        UnknownModelError: no such name, no such parameter, or a value that it cannot have.
    """
    try:
        call = parse_call(text)
    except CallError as error:
        raise UnknownModelError(f"model {error}") from error
    if call.name not in known:
        raise UnknownModelError(f"unknown model {call.name}{_meant(call.name, known)}")
    numbers = known[call.name]
    values = {name: number.default for name, number in numbers.items()}
    for name, value in _given(call, numbers).items():
        values[name] = _whole(call.name, name, value, numbers[name])
    return call.name, values


def write_name(name: str, values: Mapping[str, int], numbers: Mapping[str, Number]) -> str:
    """The one text of a name with these values: defaults left out, in the order in which they are declared."""
    named = {}
    square = set(SIDES) <= set(numbers) and values["h"] == values["w"]
    for parameter, number in numbers.items():
        if values[parameter] != number.default:
            named[SIDE if square and parameter in SIDES else parameter] = str(values[parameter])
    return Call(name, (), named).text


def _given(call: Call, numbers: Mapping[str, Number]) -> dict[str, str]:
    """What was given, by parameter, with `hw` as its two sides."""
    takes = [*numbers, *([SIDE] if set(SIDES) <= set(numbers) else [])]
    if call.positional:
        raise UnknownModelError(f"{call.text}: {call.positional[0]} needs a name, one of {', '.join(takes)}")
    given: dict[str, str] = {}
    for name, value in call.named.items():
        if name not in takes:
            raise UnknownModelError(f"{call.text}: {call.name} has no parameter {name}{_meant(name, takes)}")
        for one in SIDES if name == SIDE else (name,):
            if one in given:
                raise UnknownModelError(f"{call.text}: {SIDE} and {one} are given, give one of them")
            given[one] = value
    return given


def _whole(model: str, name: str, text: str, number: Number) -> int:
    if not text.isascii() or not text.isdigit() or not number.low <= int(text) <= number.high:
        raise UnknownModelError(
            f"{model}: {name}={text} is no whole number from {number.low} to {number.high} (default {number.default})"
        )
    return int(text)


def _meant(wrong: str, known: Mapping[str, object] | list[str]) -> str:
    close = get_close_matches(wrong, known, n=3)
    return f"; did you mean {', '.join(close)}?" if close else f"; known are {', '.join(known)}"
