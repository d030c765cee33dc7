"""Fixtures for all tests: a data directory of its own for each, so that nothing touches the user's."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh data directory."""
    folder = tmp_path / "home"
    monkeypatch.setenv("BENCHFARM_HOME", str(folder))
    for name in ("BENCHFARM_DATABASE_URL", "BENCHFARM_STORE_URL"):
        monkeypatch.delenv(name, raising=False)
    return folder
