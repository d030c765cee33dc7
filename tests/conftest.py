"""Fixtures for all tests: a data directory of its own for each, so that nothing touches the user's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import PostgresServer, binaries
from workers.runtimes.torch_compile import TorchCompile

_LACKING = TorchCompile().missing()
#: A missing service skips on a laptop and fails in CI.
needs_compiler = pytest.mark.skipif(
    _LACKING is not None and "CI" not in os.environ, reason=f"{_LACKING[0]}: {_LACKING[1]}" if _LACKING else ""
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh data directory."""
    folder = tmp_path / "home"
    monkeypatch.setenv("BENCHFARM_HOME", str(folder))
    for name in ("BENCHFARM_DATABASE_URL", "BENCHFARM_STORE_URL"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server for the session: each test makes databases of its own on it, and none stops it."""
    if binaries() is None and "CI" not in os.environ:
        pytest.skip("PostgreSQL's server is not installed")
    server = PostgresServer()
    yield server
    server.remove()
