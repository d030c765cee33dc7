"""The command line as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchfarm.__main__ import main

#: Small enough to convert for every runtime in a minute.
MODEL = "torchvision/mobilenet_v3_small"

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(home: Path) -> dict[str, str]:
    """A user's environment with a data directory of the test's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BENCHFARM_", "RAY_"))}
    return {**kept, "BENCHFARM_HOME": str(home), "COLUMNS": "200"}


def command_line(*arguments: str) -> list[str]:
    """`benchfarm ARGUMENTS` in this interpreter."""
    return [sys.executable, "-m", "benchfarm", *arguments]


def call(
    home: Path, *arguments: str, timeout: float = 580, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command_line(*arguments),
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
        check=False,
    )


@pytest.fixture
def benchfarm(home: Path) -> Command:
    """Run `benchfarm ARGUMENTS` with the test's own data directory."""

    def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return call(home, *arguments, **options)

    return run


def one_sentence(finished: subprocess.CompletedProcess[str]) -> str:
    """What a refused command says: one line on standard error, nothing on standard output, no traceback."""
    return the_sentence(finished.stdout, finished.stderr)


def the_sentence(out: str, err: str) -> str:
    """The one line; a selector with a mark under what cannot be read of it may follow, indented."""
    assert out == ""
    assert "Traceback" not in err
    line, *more = err.strip().splitlines()
    assert all(other.startswith("  ") for other in more), err
    return line


def document(finished: subprocess.CompletedProcess[str]) -> Any:
    """The one JSON document on standard output."""
    return json.loads(finished.stdout)


@dataclass
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def sentence(self) -> str:
        return the_sentence(self.out, self.err)


Typed = Callable[..., Said]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Type `benchfarm ARGUMENTS`: what a process of its own would say, without a second of imports."""

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["benchfarm", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Said(int(ended.value.code or 0), printed.out, printed.err)

    return run
