"""What agents say of the world, as every database takes it: of JSON with a NUL in it PostgreSQL reads no part."""

from __future__ import annotations

import math
from typing import Any


def storable(value: Any) -> Any:
    """The same plain data without what a database refuses, at once or when somebody looks into it later.

    Texts lose their NULs, and what no UTF-8 has (bytes of a file name that are none) becomes a question mark; floats
    that are no number are absent.

    Args:
        value: as JSON has it, tuples too.
    """
    if isinstance(value, str):
        return text_of(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {storable(name): storable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [storable(one) for one in value]
    return value


def text_of(value: str, most: int | None = None) -> str:
    """A text that a column takes.

    Args:
        value: any text.
        most: characters that fit; None: any number.
    """
    return value.encode("utf-8", "replace").decode().replace("\0", "")[:most]
