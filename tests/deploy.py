"""What tests of deploy/ share: its files as they are read by who runs them, and the linters."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
#: Units, containers and pods run the same commands.
PORTS = {"ray": 6379, "metrics": 9464, "prometheus": 9090, "grafana": 3000, "postgres": 5432}


def tool(name: str) -> str | None:
    """A program of this environment, else of the system."""
    own = Path(sysconfig.get_path("scripts")) / name
    return str(own) if own.exists() else shutil.which(name)


def needs(name: str) -> pytest.MarkDecorator:
    """A missing linter skips on a laptop and fails in CI."""
    return pytest.mark.skipif(tool(name) is None and "CI" not in os.environ, reason=f"{name} is not installed")


def documents(path: Path) -> list[Any]:
    """The documents of a YAML file."""
    return [found for found in yaml.safe_load_all(path.read_text()) if found is not None]


def texts(value: Any) -> Iterator[str]:
    """Every string in a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(key)
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def check_command(words: list[str]) -> None:
    """Whether `benchfarm ARGUMENTS` is a command that there is, with options that it has."""
    from typer.main import get_command

    from benchfarm.cli.app import app

    command: Any = get_command(app)
    rest = list(words)
    while rest and hasattr(command, "commands"):
        name = rest.pop(0)
        assert name in command.commands, f"benchfarm {' '.join(words)}: no command {name}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    given = {word.partition("=")[0] for word in rest if word.startswith("--")}
    assert given - {"--help"} <= known, f"benchfarm {' '.join(words)}: no option {given - known}"
