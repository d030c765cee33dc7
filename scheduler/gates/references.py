"""Names of stored results: `run:N` and `revision:REV`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from device_registry.errors import UsageError

_REFERENCE = re.compile(r"(?P<kind>run|revision):(?P<name>.*)", re.DOTALL)
_MOST_RUN = 2**31 - 1


@dataclass(frozen=True)
class Reference:
    """Stored results, as a user names them."""

    kind: Literal["run", "revision"]
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


def reference_of(text: str) -> Reference | None:
    """The stored results that a text names; None: it names a model.

    Raises:
        UsageError: it begins as such a name and is none.
    """
    found = _REFERENCE.fullmatch(text)
    if found is None:
        return None
    kind, name = found["kind"], found["name"].strip()
    if not name:
        raise UsageError(f"{text!r}: write {kind}:{'NUMBER' if kind == 'run' else 'REVISION'}")
    if kind == "run":
        if not (name.isascii() and name.isdigit() and 0 < int(name) <= _MOST_RUN):
            raise UsageError(f"{text!r}: a run has a number; see benchfarm results list")
        return Reference("run", str(int(name)))
    return Reference("revision", name)
