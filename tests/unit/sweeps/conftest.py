"""Labs of simulated phones; every test of one runs twice: on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.scheduler.conftest import databases, postgres_databases, sqlite_databases
from tests.unit.scheduler.databases import Databases
from tests.unit.sweeps.lab import Lab

__all__ = ["databases", "postgres_databases", "sqlite_databases"]


@pytest.fixture
def lab(tmp_path: Path, databases: Databases) -> Iterator[Lab]:
    """Three simulated phones, d0 and d1 of one model, and a dispatcher."""
    made = Lab(tmp_path / "lab", databases)
    yield made
    made.close()
