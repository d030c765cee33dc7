"""Every test of a farm runs twice: on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.scheduler.builders import Farm
from tests.unit.scheduler.databases import Databases, PostgresDatabases, SqliteDatabases


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Databases:
    """Fresh databases of one kind or the other."""
    if request.param == "sqlite":
        return SqliteDatabases(tmp_path_factory.mktemp("empty"))
    return PostgresDatabases(request.getfixturevalue("postgres"))


@pytest.fixture
def make_farm(tmp_path: Path, databases: Databases) -> Iterator[Callable[..., Farm]]:
    """Make farms; arguments as `Farm`."""
    made: list[Farm] = []

    def make(**options: object) -> Farm:
        made.append(Farm(tmp_path / f"farm-{len(made)}", databases, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for farm in made:
        farm.close()


@pytest.fixture
def farm(make_farm: Callable[..., Farm]) -> Farm:
    """A farm of one host with one CPU, and a dispatcher."""
    return make_farm()
