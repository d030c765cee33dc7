"""The database's schema: migrations make what the code declares, and what cannot be opened is said in a sentence."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect
from sqlmodel import SQLModel

import scheduler.migrations
import scheduler.tables  # registers the tables
from device_registry.database import open_engine, reading, writing
from device_registry.errors import BenchfarmError, UsageError
from scheduler.schema import HEAD, SchemaError, current_revision, open_database


@pytest.fixture
def database(tmp_path: Path, empty_database: Path) -> Path:
    """A database file with the schema."""
    return Path(shutil.copyfile(empty_database, tmp_path / "farm.db"))


def _indexes(path: Path) -> dict[str, str]:
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        return {name: " ".join(sql.replace('"', "").split()) for name, sql in rows}
    finally:
        connection.close()


def test_migrations_make_exactly_the_tables_of_the_code(database: Path) -> None:
    engine = open_engine(f"sqlite:///{database}")
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, SQLModel.metadata) == []
        made = set(inspect(connection).get_table_names())
    engine.dispose()
    assert made == {*SQLModel.metadata.tables, "alembic_version"}


def test_migrations_make_the_invariants_of_the_code(database: Path, tmp_path: Path) -> None:
    """Partial indexes and their conditions, which the comparison above does not see."""
    engine = open_engine(f"sqlite:///{tmp_path / 'declared.db'}")
    with writing(engine) as connection:
        SQLModel.metadata.create_all(connection)
    engine.dispose()
    declared = _indexes(tmp_path / "declared.db")
    assert _indexes(database) == declared
    assert {name for name in declared if name.startswith("one_")} == {
        "one_live_attempt_per_device",
        "one_live_attempt_per_job",
        "one_live_attempt_per_place",
        "one_live_convert_per_artifact",
    }


def test_head_is_the_newest_revision() -> None:
    scripts = Path(str(scheduler.migrations.__file__)).parent
    config = Config()
    config.set_main_option("script_location", str(scripts))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]
    newest = max(path.name for path in (scripts / "versions").glob("[0-9]*.py"))
    assert newest.startswith(f"{HEAD}_")


def test_an_embedded_database_is_made_and_migrated_when_it_is_opened(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'new.db'}")
    assert current_revision(engine) == HEAD
    engine.dispose()


def test_opening_again_changes_nothing(database: Path) -> None:
    before = _indexes(database)
    for _ in range(2):
        open_database(f"sqlite:///{database}").dispose()
    assert _indexes(database) == before


def test_a_newer_schema_is_refused_and_says_what_to_do(database: Path) -> None:
    engine = open_engine(f"sqlite:///{database}")
    with writing(engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(
        SchemaError, match=f"schema 9999, newer than this benchfarm's {HEAD}: upgrade benchfarm"
    ) as told:
        open_database(f"sqlite:///{database}")
    assert told.value.exit_code == UsageError.exit_code


@pytest.mark.parametrize("damage", ["garbage", "header", "pages"])
def test_a_damaged_database_file_is_said_to_be_damaged(database: Path, damage: str) -> None:
    data = database.read_bytes()
    kept = {"garbage": 0, "header": 50, "pages": 120}[damage]
    database.write_bytes(data[:kept] + b"\x9e" * (len(data) - kept))
    with pytest.raises(BenchfarmError, match="the database is damaged"):
        open_database(f"sqlite:///{database}")


def test_a_database_that_cannot_be_reached_is_said_not_to_open(tmp_path: Path) -> None:
    with pytest.raises(BenchfarmError, match="the database cannot be opened"):
        open_database(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder' / 'farm.db'}")


def test_a_url_that_is_none_is_wrong_usage_and_never_repeated() -> None:
    with pytest.raises(UsageError) as told:
        open_database("postgres//user:hunter2@host")
    assert "hunter2" not in str(told.value)


def test_readers_do_not_wait_for_a_writer(database: Path) -> None:
    engine = open_database(f"sqlite:///{database}")
    with writing(engine) as writer:
        writer.exec_driver_sql("INSERT INTO lease VALUES ('r', 'h', 'k', 1, 1.0, '2026-01-01 00:00:00')")
        with reading(engine) as reader:
            assert reader.exec_driver_sql("SELECT count(*) FROM lease").scalar_one() == 0
    with reading(engine) as reader:
        assert reader.exec_driver_sql("SELECT count(*) FROM lease").scalar_one() == 1
    engine.dispose()


def test_references_are_kept(database: Path) -> None:
    engine = open_database(f"sqlite:///{database}")
    with reading(engine) as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    engine.dispose()
