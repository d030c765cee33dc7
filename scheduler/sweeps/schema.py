"""The JSON schema of sweep files: what editors complete by, and what every file is held to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

from scheduler.sweeps.complaints import Complaint
from scheduler.sweeps.document import Document, Path

#: The schema's file, in this package.
FILE = "sweep.schema.json"


@cache
def schema() -> dict[str, Any]:
    """The schema as data."""
    found: dict[str, Any] = json.loads(files(__package__).joinpath(FILE).read_text(encoding="utf-8"))
    return found


def complaints(document: Document, validator: Any = None, *, what: str = "a sweep") -> Iterator[Complaint]:
    """What of a document is not as the schema has it.

    Args:
        document: as it was read.
        validator: of another schema than that of sweeps.
        what: the document is, in words.
    """
    for error in (validator or _validator()).iter_errors(document.data):
        path: Path = tuple(error.absolute_path)
        if error.validator == "additionalProperties":
            known = error.schema.get("properties", {})
            for name in sorted(set(error.instance) - set(known)):
                close = get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
                yield Complaint(document.at((*path, name), key=True), f"unknown field {_shown(name)}: {hint}")
        elif error.validator == "required":
            for name in error.validator_value:
                if name not in error.instance:
                    yield Complaint(document.at(path), f"{name} is missing")
        elif not path:
            first = ", ".join(error.schema.get("required", ("name", "models")))
            yield Complaint(document.at(path), f"{what} is a mapping of fields: {first}, ...")
        else:
            says = error.schema.get("errorMessage") or error.message
            yield Complaint(document.at(path), f"{_name(path)}: {_shown(error.instance)}: {says}")


def validator_of(schema: dict[str, Any]) -> Any:
    """What holds documents to a schema."""
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema)


@cache
def _validator() -> Any:
    return validator_of(schema())


def _name(path: Path) -> str:
    """The field that a path leads to, without the numbers of what stands in lists."""
    return ".".join(part for part in path if isinstance(part, str))


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
