"""Device selectors: `kind=cpu,os>=14,soc~tensor,host!=lab-2` is a conjunction of comparisons over attributes.

A value with a comma stands in quotes: `model="Xeon, 8 cores"`; inside them a backslash keeps a quote or a backslash.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from device_registry.capabilities import Attribute
from device_registry.errors import UsageError

_QUOTED = r'"(?P<quoted>(?:[^"\\]|\\.)*)"'
_TERM = re.compile(
    r"(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)\s*(?P<operator>!=|>=|<=|=|>|<|~)\s*"
    rf'(?:{_QUOTED}|(?P<plain>[^,\s=<>~!"](?:[^,]*[^,\s])?))\s*(?=,|\Z)',
    re.DOTALL,
)
_WORD = re.compile(r"(?P<word>[^,=<>~!]*[^,=<>~!\s])\s*(?=,|\Z)")
_PLAIN = re.compile(r'[^,\s=<>~!"](?:[^,]*[^,\s])?')


class SelectorError(UsageError):
    """The device selector cannot be read."""


@dataclass(frozen=True)
class Term:
    """One comparison of an attribute with a value."""

    name: str
    operator: str
    value: str

    def matches(self, attributes: Mapping[str, Attribute]) -> bool:
        """Whether a device's attributes satisfy the comparison; an absent attribute satisfies only `!=`.

        Of an attribute of several texts (tags) one must satisfy it, and for `!=` all.
        """
        actual = attributes.get(self.name)
        if isinstance(actual, tuple):
            return (all if self.operator == "!=" else any)(self._matches_one(item) for item in actual)
        return self._matches_one(actual)

    def _matches_one(self, actual: str | float | None) -> bool:
        if actual is None:
            return self.operator == "!="
        text = ("true" if actual else "false") if isinstance(actual, bool) else str(actual)
        if self.operator == "~":
            return self.value.casefold() in text.casefold()
        order = None
        if isinstance(actual, int | float) and not isinstance(actual, bool):
            order = _compare_numbers(actual, self.value)
        if order is None:
            order = _compare(text, self.value)
        return {
            "=": order == 0,
            "!=": order != 0,
            ">": order > 0,
            "<": order < 0,
            ">=": order >= 0,
            "<=": order <= 0,
        }[self.operator]

    def __str__(self) -> str:
        if _PLAIN.fullmatch(self.value):
            return f"{self.name}{self.operator}{self.value}"
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"')
        return f'{self.name}{self.operator}"{escaped}"'


@dataclass(frozen=True)
class Selector:
    """All terms must match; no terms match every device."""

    terms: tuple[Term, ...] = ()

    def matches(self, attributes: Mapping[str, Attribute]) -> bool:
        """Whether a device with these attributes is selected."""
        return all(term.matches(attributes) for term in self.terms)

    def __str__(self) -> str:
        return ",".join(str(term) for term in self.terms)


def parse_selector(text: str) -> Selector:
    """Parse `name=value` terms joined by commas; a bare word is short for `name=WORD`.

    Raises:
        SelectorError: with the position of the first thing that cannot be read.
    """
    terms: list[Term] = []
    at = _past_blanks(text, 0)
    if at == len(text):
        return Selector()
    while True:
        if word := _WORD.match(text, at):
            terms.append(Term("name", "=", word["word"]))
            end = word.end()
        elif term := _TERM.match(text, at):
            plain = term["plain"]
            value = plain if plain is not None else re.sub(r"\\(.)", r"\1", term["quoted"], flags=re.DOTALL)
            terms.append(Term(term["name"], term["operator"], value))
            end = term.end()
        else:
            raise _unreadable(text, at)
        if end == len(text):
            return Selector(tuple(terms))
        at = _past_blanks(text, end + 1)


def _past_blanks(text: str, start: int) -> int:
    return len(text) - len(text[start:].lstrip())


def _unreadable(text: str, at: int) -> SelectorError:
    part = text[at:].split(",")[0].strip()
    problem = f"cannot read {part!r}" if part else "empty term"
    advice = "; write terms such as kind=cpu, cores>=4 or model~epyc" if part else ""
    shown = f"\n  {text}\n  {' ' * at}^" if text.isprintable() else ""
    return SelectorError(f"device selector {text!r}: {problem} at position {at + 1}{advice}{shown}")


def _compare_numbers(left: float, right: str) -> int | None:
    """Order a number and a value that reads as one; None where it does not."""
    try:
        other = float(right)
    except ValueError:
        return None
    return (left > other) - (left < other)


def _compare(left: str, right: str) -> int:
    """Order two values as numbers or dotted versions where both are, else as text without case."""
    a, b = _numbers(left), _numbers(right)
    if a is not None and b is not None:
        return (a > b) - (a < b)
    x, y = left.casefold(), right.casefold()
    return (x > y) - (x < y)


def _numbers(text: str) -> tuple[int, ...] | None:
    if not re.fullmatch(r"\d{1,18}(\.\d{1,18})*", text, re.ASCII):
        return None
    parts = [int(part) for part in text.split(".")]
    while len(parts) > 1 and parts[-1] == 0:  # 14 and 14.0 are the same version
        parts.pop()
    return tuple(parts)
