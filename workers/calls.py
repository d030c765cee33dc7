"""Names with arguments, of recipes and of models: `prune-structured(0.5)`, `op/linear(m=1,k=4096)`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_ARGUMENT = re.compile(r"(?:(?P<name>[a-z][a-z0-9_]*)=)?(?P<value>[A-Za-z0-9_./:-]+(?:\([^()]*\))?)")


class CallError(ValueError):
    """A text is no name with arguments; the message says where."""


@dataclass(frozen=True)
class Call:
    """A name and its arguments, as texts."""

    name: str
    positional: tuple[str, ...] = ()
    named: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """As it is written, arguments in the order they have."""
        arguments = [*self.positional, *(f"{name}={value}" for name, value in self.named.items())]
        return f"{self.name}({','.join(arguments)})" if arguments else self.name


def parse_call(text: str) -> Call:
    """Read a name with arguments.

    A value may itself be a call of one level (`teacher=op/linear(m=1)`); blanks around commas are left out.

    Raises:
        CallError: the text is not of that form, or an argument stands twice.
    """
    text = text.strip()
    found = _NAME.match(text)
    if found is None:
        raise CallError(f"{text!r} does not begin with a name")
    rest = text[found.end() :]
    if not rest:
        return Call(found[0])
    if not rest.startswith("(") or not rest.endswith(")"):
        raise CallError(f"{text!r}: after {found[0]} comes nothing, or arguments in brackets")
    positional: list[str] = []
    named: dict[str, str] = {}
    for part in split_outside(rest[1:-1], ","):
        argument = _ARGUMENT.fullmatch(part.strip())
        if argument is None:
            raise CallError(f"{text!r}: {part.strip()!r} is no argument")
        if argument["name"] is None:
            if named:
                raise CallError(f"{text!r}: {part.strip()!r} comes after a named argument")
            positional.append(argument["value"])
        elif argument["name"] in named:
            raise CallError(f"{text!r}: {argument['name']} stands twice")
        else:
            named[argument["name"]] = argument["value"]
    return Call(found[0], tuple(positional), named)


def split_outside(text: str, separator: str) -> list[str]:
    """Split at a character that stands outside all brackets.

    Raises:
        CallError: brackets do not match.
    """
    parts, level, start = [], 0, 0
    for at, character in enumerate(text):
        level += (character == "(") - (character == ")")
        if level < 0:
            raise CallError(f"{text!r}: a bracket closes that was never opened")
        if character == separator and level == 0:
            parts.append(text[start:at])
            start = at + 1
    if level:
        raise CallError(f"{text!r}: a bracket is not closed")
    return [*parts, text[start:]]
