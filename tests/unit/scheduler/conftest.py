"""One migrated database for the session, copied for each farm: migrating costs more than most tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scheduler.schema import open_database
from tests.unit.scheduler.builders import Farm


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with the schema and no rows."""
    path = tmp_path_factory.mktemp("empty") / "farm.db"
    engine = open_database(f"sqlite:///{path}")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    return path


@pytest.fixture
def make_farm(tmp_path: Path, empty_database: Path) -> Iterator[Callable[..., Farm]]:
    """Make farms; arguments as `Farm`."""
    made: list[Farm] = []

    def make(**options: object) -> Farm:
        made.append(Farm(tmp_path / f"farm-{len(made)}", empty_database, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for farm in made:
        farm.close()


@pytest.fixture
def farm(make_farm: Callable[..., Farm]) -> Farm:
    """A farm of one host with one CPU, and a dispatcher."""
    return make_farm()
