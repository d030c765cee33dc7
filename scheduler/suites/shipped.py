"""Suites that come with the package, by name; and anybody's own, by the path of its file."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from device_registry.errors import UsageError
from scheduler.suites.file import load_suite, read_suite
from scheduler.suites.suite import Suite

_SUFFIXES = (".yaml", ".yml")


def shipped_names() -> list[str]:
    """Names of the suites that come with the package."""
    return sorted(item.name.removesuffix(".yaml") for item in _folder().iterdir() if item.name.endswith(".yaml"))


def load_named(name: str, *, quick: bool = False) -> Suite:
    """A suite of the package, or of a file.

    Args:
        name: of a suite, or the path of a file that ends in .yaml.
        quick: the bounded size.

    Raises:
        UsageError: there is none, or its file is wrong (with each line and column).
    """
    if name.lower().endswith(_SUFFIXES) or "/" in name:
        return load_suite(Path(name), quick=quick)
    known = shipped_names()
    if name not in known:
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        raise UsageError(f"unknown suite {name}: {hint} (a suite of your own: its file, NAME.yaml)")
    text = _folder().joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return read_suite(text, _folder(), source=f"{name}.yaml", quick=quick)


def _folder() -> Path:
    return Path(str(files("scheduler.suites").joinpath("files")))
