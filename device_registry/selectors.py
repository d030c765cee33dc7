"""Device selectors: `kind=cpu,os>=14,soc~tensor,host!=lab-2` is a conjunction of comparisons over attributes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from device_registry.capabilities import Attribute
from device_registry.errors import UsageError

_TERM = re.compile(r"\s*(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)\s*(?P<operator>!=|>=|<=|=|>|<|~)\s*(?P<value>[^,]*?)\s*$")


class SelectorError(UsageError):
    """The device selector cannot be read."""


@dataclass(frozen=True)
class Term:
    """One comparison of an attribute with a value."""

    name: str
    operator: str
    value: str

    def matches(self, attributes: Mapping[str, Attribute]) -> bool:
        """Whether a device's attributes satisfy the comparison; an absent attribute satisfies only `!=`."""
        actual = attributes.get(self.name)
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
        return f"{self.name}{self.operator}{self.value}"


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
    terms = []
    position = 0
    for part in text.split(","):
        word = part.strip()
        if not word:
            if text.strip():
                raise SelectorError(f"device selector {text!r}: empty term at position {position + 1}")
        elif not any(sign in word for sign in "=<>~!"):
            terms.append(Term("name", "=", word))
        else:
            match = _TERM.match(part)
            if match is None or not match["value"] or match["value"][0] in "=<>~!":
                raise SelectorError(
                    f"device selector {text!r}: cannot read {word!r} at position {position + 1}; "
                    "write terms such as kind=cpu, cores>=4 or model~epyc"
                )
            terms.append(Term(match["name"], match["operator"], match["value"]))
        position += len(part) + 1
    return Selector(tuple(terms))


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
