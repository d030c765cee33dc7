"""A farm with two simulated phones, on SQLite and on PostgreSQL, that nobody dispatches for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from device_registry.capabilities import DeviceDescription
from device_registry.database import writing
from device_registry.registry import record_hello
from scheduler.farm import Farm
from scheduler.home import Home
from tests.unit.scheduler.conftest import databases as databases
from tests.unit.scheduler.conftest import make_farm as make_farm
from tests.unit.scheduler.conftest import postgres_databases as postgres_databases
from tests.unit.scheduler.conftest import sqlite_databases as sqlite_databases
from tests.unit.scheduler.databases import Databases
from workers.host import describe_host

#: Wall clocks of these tests begin here, at 1:00 in Berlin.
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def lab(tmp_path: Path, databases: Databases) -> Iterator[Farm]:
    """The farm."""
    url = databases.fresh(tmp_path)
    farm = Farm(Home(tmp_path / "home", url, f"file://{tmp_path / 'store'}"))
    found = [
        DeviceDescription(key=f"sim:{name}", name=name, kind="sim", driver="sim", attributes={"simulated": True})
        for name in ("p0", "p1")
    ]
    with writing(farm.engine) as connection:
        record_hello(connection, describe_host("lab-1", {}), found, "3", BEGIN)
    yield farm
    farm.engine.dispose()
    databases.drop(url)
