"""Damaged texts for parsers that must answer any: cut, spliced, repeated, with bytes changed; the same every time."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

#: Mutated inputs for each parser.
MANY = 10_000
_ODD = [
    "\0",
    "\n",
    "\r\n",
    "\t",
    "9" * 40,
    "-",
    "NaN",
    "inf",
    "1e999",
    "%",
    "[",
    "(",
    ":",
    "=",
    "\ud800",
    "é",
    "٣",
    ",",
]


def mutated(texts: Sequence[str], count: int = MANY, seed: int = 20261120) -> Iterator[str]:
    """So many damaged texts, made from the given ones."""
    chance = random.Random(seed)
    for _ in range(count):
        text = chance.choice(texts)
        for _ in range(chance.randint(1, 4)):
            text = _damaged(text, texts, chance)
        yield text[:8000]


def _damaged(text: str, texts: Sequence[str], chance: random.Random) -> str:
    at, to = sorted((chance.randrange(len(text) + 1), chance.randrange(len(text) + 1)))
    to = min(to, at + 200)
    match chance.randrange(6):
        case 0:
            return text[:at] + text[to:]
        case 1:
            return text[:at]
        case 2:
            return text[:to] + text[at:to] * chance.randint(1, 3) + text[to:]
        case 3:
            other = chance.choice(texts)
            cut = chance.randrange(len(other) + 1)
            return text[:at] + other[cut : cut + 300] + text[at:]
        case 4:
            return text[:at] + chance.choice(_ODD) + text[at + chance.randint(0, 2) :]
        case _:
            return text[:at] + "".join(chr(chance.randrange(1, 0x250)) for _ in range(8)) + text[to:]
