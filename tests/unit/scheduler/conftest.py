"""Every test of a farm runs twice: on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.postgres import PostgresServer
from tests.unit.scheduler.builders import Farm
from tests.unit.scheduler.databases import Databases, PostgresDatabases, SqliteDatabases


@pytest.fixture(scope="session")
def sqlite_databases(tmp_path_factory: pytest.TempPathFactory) -> SqliteDatabases:
    """Files."""
    return SqliteDatabases(tmp_path_factory.mktemp("empty"))


@pytest.fixture(scope="session")
def postgres_databases(postgres: PostgresServer) -> PostgresDatabases:
    """Databases of the session's server."""
    return PostgresDatabases(postgres)


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def databases(request: pytest.FixtureRequest) -> Databases:
    """Fresh databases of one kind or the other. Made anew at every change of kind, so it holds nothing of its own."""
    found: Databases = request.getfixturevalue(f"{request.param}_databases")
    return found


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
