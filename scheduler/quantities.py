"""Sizes and data sets as users write them, in options and in files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from device_registry.errors import UsageError

_SIZE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([MGT])(i?)B")
_POWERS: Final = {"M": 2, "G": 3, "T": 4}
#: Kinds of data sets that are named by a path of this machine.
_BY_PATH: Final = ("folder", "npz")
#: No process of any library starts in less.
LEAST_MEMORY_BYTES: Final = 100_000_000


def bytes_of(what: str, text: str) -> int:
    """A size: 512MB, 8GB (decimal), 8GiB (binary).

    Args:
        what: the option or field, for the refusal.
        text: of it.

    Raises:
        UsageError: it cannot be read, or nothing could run in so little.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{what} {text!r}: write 512MB, 8GB or 8GiB")
    number, unit, binary = found.groups()
    size = int(float(number) * (1024 if binary else 1000) ** _POWERS[unit])
    if size < LEAST_MEMORY_BYTES:
        raise UsageError(f"{what} {text}: 100MB is the least that anything starts in")
    return size


def located_data(spec: str, folder: Path) -> str:
    """A data set's name with the path in it, where there is one, made absolute.

    Args:
        spec: digits, folder:PATH, npz:FILE, hf:NAME.
        folder: that relative paths start from.
    """
    kind, colon, rest = spec.partition(":")
    if not colon or kind not in _BY_PATH or not rest:
        return spec
    return f"{kind}:{(folder / Path(rest).expanduser()).absolute()}"
