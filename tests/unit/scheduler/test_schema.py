"""The database's schema: migrations make what the code declares, and what cannot be opened is said in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, func, inspect, select
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlmodel import SQLModel
from typer.testing import CliRunner

import scheduler.evaluation_table
import scheduler.migrations
import scheduler.watch_tables  # registers the tables
from benchfarm.cli.db import app
from device_registry.database import insert_row, open_engine, passes, reading, table_of, writing
from device_registry.errors import BenchfarmError, UsageError
from device_registry.tables import Device, Host
from scheduler.conversions import digest
from scheduler.payloads import payloads
from scheduler.placement import rank_of
from scheduler.schema import HEAD, SchemaError, current_revision, migrate, open_database, upgrade
from scheduler.states import attempts, jobs
from scheduler.tables import Requirement
from tests.postgres import PostgresServer, needs_postgres

hosts, devices, requirements = table_of(Host), table_of(Device), table_of(Requirement)


_INVARIANTS = {
    "one_live_attempt_per_device",
    "one_live_attempt_per_job",
    "one_live_attempt_per_place",
    "one_live_convert_per_artifact",
}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """An embedded database with the schema."""
    open_database(f"sqlite:///{tmp_path / 'farm.db'}").dispose()
    return tmp_path / "farm.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def make_empty(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Engine]:
    """Opens databases without a schema."""
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")

    def make() -> Engine:
        name = f"schema_{uuid4().hex}"
        if request.param == "sqlite":
            return open_engine(f"sqlite:///{tmp_path / name}")
        server.execute(f"CREATE DATABASE {name}")
        return open_engine(server.url(name))

    return make


def _indexes(engine: Engine) -> dict[str, str]:
    """What each index is, conditions included, in the database's own words."""
    where = {
        "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
        "postgresql": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    }
    with reading(engine) as connection:
        rows = connection.exec_driver_sql(where[engine.dialect.name]).all()
    return {name: " ".join(sql.replace('"', "").split()) for name, sql in rows if "alembic_version" not in name}


def test_migrations_make_exactly_the_tables_of_the_code(make_empty: Callable[[], Engine]) -> None:
    engine = make_empty()
    upgrade(engine)
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, SQLModel.metadata) == []
        made = set(inspect(connection).get_table_names())
    engine.dispose()
    assert made == {*SQLModel.metadata.tables, "alembic_version"}


def test_migrations_make_the_invariants_of_the_code(make_empty: Callable[[], Engine]) -> None:
    """Partial indexes and their conditions, which the comparison above does not see."""
    migrated, declared = make_empty(), make_empty()
    upgrade(migrated)
    with writing(declared) as connection:
        SQLModel.metadata.create_all(connection)
    assert _indexes(migrated) == _indexes(declared)
    assert {name for name in _indexes(declared) if name.startswith("one_live_")} == _INVARIANTS
    migrated.dispose()
    declared.dispose()


def test_a_migration_keeps_what_is_there(make_empty: Callable[[], Engine]) -> None:
    """A farm of the schema before the fleet: its jobs go on, each with the requirement that it had in other words."""
    engine = make_empty()
    upgrade(engine, "0002")
    _fill_0002(engine)
    upgrade(engine)
    with reading(engine) as connection:
        host = connection.execute(select(hosts)).one()
        device = connection.execute(select(devices)).one()
        found = connection.execute(
            select(
                jobs,
                payloads.c.document,
                requirements.c.place,
                requirements.c.device_id.label("wants"),
                requirements.c.host_id,
            )
            .join(requirements, requirements.c.id == jobs.c.requirement_id)
            .join(payloads, payloads.c.id == jobs.c.payload_id)
            .order_by(jobs.c.id)
        ).all()
        digests = [
            (row.digest, digest([row.place, row.selector, row.device_id, row.host_id, row.needs]))
            for row in connection.execute(select(requirements))
        ] + [(row.digest, digest(row.document)) for row in connection.execute(select(payloads))]
        assert connection.execute(select(func.count()).select_from(attempts)).scalar_one() == 1
    assert (host.presence, host.labels) == ("online", {})
    assert (device.tags, device.failures_in_row, device.probes, device.used_s) == ([], 0, 0, 0.0)
    assert [(row.id, row.state, row.owner, row.place, row.wants, row.host_id) for row in found] == [
        (1, "succeeded", "ada", "slot", None, host.id),
        (2, "queued", "ada", "device", device.id, None),
        (3, "queued", "ada", "device", device.id, None),
    ]
    assert found[1].requirement_id == found[2].requirement_id != found[0].requirement_id
    assert found[1].rank == rank_of(_THEN.timestamp(), 0) > found[2].rank == rank_of(_THEN.timestamp(), 2)
    assert [row.document for row in found] == [{"deadline_s": 1.0}] * 3
    assert len({row.payload_id for row in found}) == 1
    assert all(found == computed for found, computed in digests)
    with writing(engine) as connection:  # on PostgreSQL the next id must not be one that was given by hand
        insert_row(connection, requirements, digest="d", place="slot", selector="", needs=[])
        insert_row(connection, payloads, digest="d", document={})
    engine.dispose()


_THEN = datetime(2026, 1, 1, tzinfo=UTC)


def _fill_0002(engine: Engine) -> None:
    """One host with one device and a run of three jobs, one of them done, in the tables of 0002."""
    old = MetaData()
    with writing(engine) as connection:
        old.reflect(connection)

        def add(table: str, **values: object) -> None:
            connection.execute(old.tables[table].insert().values(**values))

        at = _THEN if engine.dialect.name == "postgresql" else _THEN.replace(tzinfo=None)
        add("host", key="h", name="lab", description={"a": 1}, agent_version="2", last_seen_at=at)
        device = {"key": "d", "name": "d0", "kind": "cpu", "driver": "cpu", "host_id": 1, "attributes": {}}
        add("device", **device, presence="online", admin="enabled", last_seen_at=at)
        add("sweep_run", request={}, request_digest="r", unsupported=[], owner="ada", created_at=at)
        times = {"created_at": at, "changed_at": at}
        job = {"sweep_run_id": 1, "title": "t", "repeat_no": 0, "payload": {"deadline_s": 1.0}, "attempts": 0, **times}
        add("job", **job, kind="convert", state="succeeded", host_id=1, makes_key="k", position=0, priority=0)
        add("job", **job, kind="measure", state="queued", device_id=1, needs_key="k", position=1, priority=0)
        add("job", **job, kind="measure", state="queued", device_id=1, needs_key="k", position=2, priority=2)
        attempt = {"job_id": 1, "host_id": 1, "place": "slot:1:0", "token": "t", "state": "finished"}
        add("attempt", **attempt, lease_until=at, started_at=at)


def test_two_that_migrate_at_once_do_not_meet(postgres: PostgresServer) -> None:
    postgres.execute("CREATE DATABASE twice")
    engines = [open_engine(postgres.url("twice")) for _ in range(2)]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(upgrade, engines))
    assert current_revision(engines[0]) == HEAD
    for engine in engines:
        engine.dispose()


def test_a_server_is_not_migrated_by_who_merely_opens_it(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.execute("CREATE DATABASE behind")
    with pytest.raises(SchemaError, match=f"schema none, this benchfarm needs {HEAD}: run `benchfarm db upgrade`"):
        open_database(postgres.url("behind"))
    monkeypatch.setenv("BENCHFARM_DATABASE_URL", postgres.url("behind"))
    assert CliRunner().invoke(app).output == f"schema none -> {HEAD}\n"
    assert CliRunner().invoke(app).output == f"schema {HEAD} -> {HEAD}\n"
    open_database(postgres.url("behind")).dispose()


def test_a_newer_schema_is_not_migrated_either(postgres: PostgresServer) -> None:
    postgres.execute("CREATE DATABASE ahead")
    migrate(postgres.url("ahead"))
    postgres.execute("UPDATE alembic_version SET version_num = '9999'", database="ahead")
    for use in (migrate, open_database):
        with pytest.raises(SchemaError, match=f"schema 9999, newer than this benchfarm's {HEAD}: upgrade benchfarm"):
            use(postgres.url("ahead"))


@needs_postgres
def test_an_engine_outlives_a_restart_of_its_server() -> None:
    server = PostgresServer()
    try:
        engine = open_engine(server.url())
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
            server.kill()
            with pytest.raises(OperationalError) as told:
                connection.exec_driver_sql("SELECT 1")
            connection.rollback()
        assert passes(told.value)
        with pytest.raises(OperationalError) as told:
            engine.connect()
        assert passes(told.value)
        server.start()
        with reading(engine) as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
        engine.dispose()
    finally:
        server.remove()


_PASSING = ["DeadlockDetected", "IdleInTransactionSessionTimeout", "LockNotAvailable", "QueryCanceled", "DiskFull"]


@pytest.mark.parametrize(
    ("name", "expected"), [(name, True) for name in _PASSING] + [("UndefinedTable", False), ("UniqueViolation", False)]
)
def test_what_a_server_says_passes_or_is_a_bug(name: str, expected: bool) -> None:
    told: Exception = getattr(psycopg.errors, name)()
    assert passes(DBAPIError.instance("SELECT 1", None, told, psycopg.Error)) is expected
    assert passes(ValueError("anything else")) is False


def test_a_full_disk_passes_and_a_table_that_is_none_does_not(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'small.db'}")
    with writing(engine) as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=2")
        with pytest.raises(OperationalError) as told:
            connection.exec_driver_sql("CREATE TABLE filled AS SELECT zeroblob(100000) AS bytes")
    assert passes(told.value)
    with pytest.raises(OperationalError) as told, reading(engine) as connection:
        connection.exec_driver_sql("SELECT * FROM none")
    assert not passes(told.value)
    engine.dispose()


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
    before = database.read_bytes()
    for _ in range(2):
        open_database(f"sqlite:///{database}").dispose()
    assert database.read_bytes() == before


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
