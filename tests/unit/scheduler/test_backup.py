"""A farm is backed up while it goes on, and comes back as it was, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, table, text, update

from device_registry.database import open_engine, reading, writing
from device_registry.errors import BenchfarmError, UsageError
from device_registry.tables import utc_now
from scheduler import backup
from scheduler.backup import back_up, restore
from scheduler.backups import postgres
from scheduler.backups.archive import writing_archive
from scheduler.backups.manifest import BackupDamagedError, Manifest
from scheduler.backups.named_files import named_files
from scheduler.home import Home
from scheduler.leases import DispatcherLease
from scheduler.schema import open_database, upgrade
from scheduler.states import attempts, record
from tests.faults.invariants import violations
from tests.postgres import PostgresServer
from tests.unit.scheduler.builders import INT8, ONNX, TORCH, Farm, plan_of
from tests.unit.scheduler.databases import PostgresDatabases, SqliteDatabases
from workers.artifacts import ArtifactStore


def ignore(doing: str, done: int, total: int | None) -> None:
    """Nobody watches."""


@dataclass
class Ground:
    """A farm with results, and empty places to restore into."""

    farm: Farm
    folder: Path
    new_url: Callable[[Path], str]
    made: int = 0

    @property
    def home(self) -> Home:
        """The farm's own."""
        return Home(self.farm.folder, self.farm.url, f"file://{self.farm.folder / 'store'}")

    def elsewhere(self) -> Home:
        """A place with nothing in it."""
        self.made += 1
        path = self.folder / f"elsewhere-{self.farm.engine.dialect.name}-{self.made}"
        path.mkdir()
        return Home(path, self.new_url(path), f"file://{path / 'store'}")

    def back_up(self, name: str = "backup", **options: Any) -> Manifest:
        """Into the test's folder."""
        return back_up(self.home, self.folder / name, **({"with_files": True, "observe": ignore} | options))


def _with_results(farm: Farm) -> None:
    """One run of three cases, each twice, with a log and raw latencies in the store."""
    farm.run(plan_of(farm.devices(), TORCH, ONNX, INT8, repeats=2))
    kept = [farm.store.put_bytes(text, farm.folder) for text in (b"what was said", b"latencies", b"full rate")]
    names = dict(zip(("log_sha256", "raw_sha256", "telemetry_sha256"), kept, strict=True))
    with writing(farm.engine) as connection:
        connection.execute(update(attempts).where(attempts.c.id == 1).values(**names))


@pytest.fixture
def embedded(tmp_path: Path, sqlite_databases: SqliteDatabases) -> Iterator[Ground]:
    """A farm on SQLite."""
    farm = Farm(tmp_path / "farm", sqlite_databases)
    _with_results(farm)
    yield Ground(farm, tmp_path, lambda path: f"sqlite:///{path / 'benchfarm.db'}")
    farm.close()


@pytest.fixture
def served(tmp_path: Path, postgres_databases: PostgresDatabases, postgres: PostgresServer) -> Iterator[Ground]:
    """A farm on PostgreSQL."""
    farm = Farm(tmp_path / "farm", postgres_databases)
    _with_results(farm)
    made: list[str] = []

    def new_url(path: Path) -> str:
        made.append(f"restored_{len(made)}")
        postgres.execute(f"CREATE DATABASE {made[-1]} TEMPLATE template0")
        return postgres.url(made[-1])

    yield Ground(farm, tmp_path, new_url)
    farm.close()
    postgres.execute(*(f"DROP DATABASE {name}" for name in made))


@pytest.fixture(params=["embedded", "served"])
def ground(request: pytest.FixtureRequest) -> Ground:
    """The one and the other."""
    found: Ground = request.getfixturevalue(request.param)
    return found


def everything(url: str) -> dict[str, list[Any]]:
    """All rows of all tables."""
    engine = open_engine(url)
    try:
        with reading(engine) as connection:
            names = backup._count(connection)
            return {
                name: sorted(map(repr, connection.execute(select(text("*")).select_from(table(name))).all()))
                for name in names
            }
    finally:
        engine.dispose()


def stored(home: Home) -> dict[str, bytes]:
    """The files of a store."""
    root = Path(home.store_url.removeprefix("file://"))
    return {path.name: path.read_bytes() for path in root.glob("??/*")}


@pytest.mark.parametrize("name", ["backup", "backup.tar"])
def test_a_farm_comes_back_as_it_was(ground: Ground, name: str) -> None:
    before = everything(ground.farm.url)
    orphan = ground.farm.store.put_bytes(b"no row names it", ground.farm.folder)
    made = ground.back_up(name)
    assert made.rows == {name: len(rows) for name, rows in before.items()}
    assert made.files == 9  # three variants, examples, calibration and labelled data, a log, latencies, telemetry
    assert made.files_missing == 0

    home = ground.elsewhere()
    assert restore(home, ground.folder / name, force=False, observe=ignore) == (made, None)
    assert everything(home.database_url) == before
    there = stored(ground.home)
    del there[orphan]
    assert stored(home) == there
    engine = open_database(home.database_url)
    assert violations(engine) == []
    engine.dispose()
    assert {path.name for path in home.path.iterdir()} <= {
        "store",
        "cache",
        "benchfarm.db",
        "benchfarm.db-wal",
        "benchfarm.db-shm",
    }


def test_rows_name_every_kind_of_file(ground: Ground) -> None:
    with reading(ground.farm.engine) as connection:
        found = named_files(connection)
    contents = {stored(ground.home)[sha256] for sha256 in found}
    assert {b"what was said", b"latencies", b"full rate"} < contents
    assert any(text.startswith(b"calibration") for text in contents)


def test_a_backup_before_an_upgrade_finds_the_files_of_an_older_schema(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'benchfarm.db'}")
    upgrade(engine, "0003")
    engine.dispose()
    raw, log = "a" * 64, "b" * 64
    document = json.dumps({"result": {"measurement": {"raw": {"sha256": raw, "bytes": 9, "path": None}}}})
    attempt = {"job_id": 1, "host_id": 1, "place": "d", "token": "t", "state": "finished", "log_sha256": log}
    result = {"attempt_id": 1, "job_id": 1, "sweep_run_id": 1, "device_id": 1, "case_key": "c", "stale": 0}
    rows = {
        "attempt": {**attempt, "lease_until": 0, "started_at": 0},
        "result": {**result, "verdict": "valid", "p50_ms": 1.0, "document": document, "created_at": 0},
    }
    with closing(sqlite3.connect(tmp_path / "benchfarm.db")) as connection, connection:
        for name, row in rows.items():
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO {name} ({', '.join(row)}) VALUES ({marks})", list(row.values()))
    home = Home(tmp_path, f"sqlite:///{tmp_path / 'benchfarm.db'}", f"file://{tmp_path / 'store'}")
    made = back_up(home, tmp_path / "backup", with_files=True, observe=ignore)
    assert (made.schema_revision, made.files_missing) == ("0003", 2)


def test_a_farm_goes_on_meanwhile_and_the_picture_is_of_one_moment(ground: Ground) -> None:
    before = everything(ground.farm.url)
    written = 0

    def work(doing: str, done: int, total: int | None) -> None:
        nonlocal written
        if doing == "copying the database":
            with writing(ground.farm.engine) as connection:  # would wait 30 s for whoever held it up
                record(connection, "device", 1, "online", "offline", who="test", why=None, now=utc_now())
            written += 1

    made = ground.back_up(observe=work)
    assert written > 0
    home = ground.elsewhere()
    restore(home, ground.folder / "backup", force=False, observe=ignore)
    assert everything(home.database_url) == before
    assert made.rows == {name: len(rows) for name, rows in before.items()}


def test_a_long_copy_is_not_begun_anew_by_every_commit(embedded: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler.backups.sqlite._PAGES", 5)
    seen: list[int] = []

    def work(doing: str, done: int, total: int | None) -> None:
        if doing == "copying the database":
            seen.append(done)
            with writing(embedded.farm.engine) as connection:
                record(connection, "device", 1, "online", "offline", who="test", why=None, now=utc_now())

    embedded.back_up(observe=work)
    assert len(seen) > 10
    assert seen == sorted(set(seen))


def test_files_that_are_gone_or_damaged_are_counted_and_left_out(embedded: Ground) -> None:
    whole = embedded.back_up("whole")
    artifact = embedded.farm.artifact("onnx fp32").sha256
    embedded.farm.damage(artifact)
    embedded.farm.lose(embedded.farm.artifact("pt2 fp32").sha256)
    made = embedded.back_up()
    assert (made.files, made.files_missing) == (whole.files - 2, 2)
    assert not (embedded.folder / "backup" / "artifacts" / artifact[:2] / artifact).exists()
    assert stored(embedded.home)[artifact] == b"damaged"  # a backup only reads
    restore(embedded.elsewhere(), embedded.folder / "backup", force=False, observe=ignore)


def test_a_store_in_a_bucket_is_left_to_it(embedded: Ground) -> None:
    made = back_up(
        replace(embedded.home, store_url="memory://bucket"), embedded.folder / "b", with_files=True, observe=ignore
    )
    assert (made.store, made.files, made.files_missing) == ("elsewhere", 0, 0)
    assert embedded.back_up(with_files=False).store == "left_out"
    home = embedded.elsewhere()
    restore(home, embedded.folder / "b", force=False, observe=ignore)
    assert stored(home) == {}


def test_files_are_put_back_into_a_bucket(embedded: Ground) -> None:
    made = embedded.back_up("b.tar")
    home = replace(embedded.elsewhere(), store_url=f"memory://restored-{os.getpid()}")
    restore(home, embedded.folder / "b.tar", force=False, observe=ignore)
    store = ArtifactStore(home.store_url, home.path / "cache")
    sha256 = embedded.farm.artifact().sha256
    assert store.fetch(sha256).read_bytes() == stored(embedded.home)[sha256]
    assert made.files == sum(map(store.has, stored(embedded.home)))


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _first_artifact(root: Path) -> Path:
    return min(root.glob("artifacts/??/*"))


def _database(root: Path) -> Path:
    return next(root.glob("database.*"))


def _edit(root: Path, **changes: Any) -> None:
    path = root / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


_DAMAGE: dict[str, Callable[[Path], object]] = {
    "the database has other bytes": lambda root: _flip(_database(root)),
    "the database is gone": lambda root: _database(root).unlink(),
    "the database was cut": lambda root: _database(root).write_bytes(_database(root).read_bytes()[:-7]),
    "an artifact has other bytes": lambda root: _flip(_first_artifact(root)),
    "an artifact is gone": lambda root: _first_artifact(root).unlink(),
    "the list is another": lambda root: (root / "artifacts.txt").write_text("f" * 64 + " 3\n"),
    "the manifest is gone": lambda root: (root / "manifest.json").unlink(),
    "the manifest is none": lambda root: (root / "manifest.json").write_bytes(b"\xff{"),
    "the manifest names no parts": lambda root: _edit(root, parts=[]),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, sqlite_databases: SqliteDatabases) -> Path:
    """A backup, as a folder; tests harm copies of it."""
    folder = tmp_path_factory.mktemp("whole")
    farm = Farm(folder / "farm", sqlite_databases)
    _with_results(farm)
    home = Home(farm.folder, farm.url, f"file://{farm.folder / 'store'}")
    back_up(home, folder / "backup", with_files=True, observe=ignore)
    farm.close()
    return folder / "backup"


def _refused(source: Path, folder: Path, why: str | None = None) -> None:
    """Nothing is touched, either."""
    home = Home(folder / "home", f"sqlite:///{folder / 'home' / 'benchfarm.db'}", f"file://{folder / 'home' / 'store'}")
    with pytest.raises(BackupDamagedError, match=why):
        restore(home, source, force=False, observe=ignore)
    assert not home.path.exists()


def _pack(root: Path, tar_file: Path, *, but: str | None = None) -> Path:
    with tarfile.open(tar_file, "w") as tar:
        for path in sorted(root.rglob("*")):
            if path.name != but:
                tar.add(path, str(path.relative_to(root)), recursive=False)
    return tar_file


@pytest.mark.parametrize("harm", _DAMAGE.values(), ids=_DAMAGE.keys())
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "tar"])
def test_a_damaged_backup_is_refused_and_nothing_is_touched(
    whole: Path, tmp_path: Path, harm: Callable[[Path], object], packed: bool
) -> None:
    root = Path(shutil.copytree(whole, tmp_path / "backup"))
    harm(root)
    _refused(_pack(root, tmp_path / "backup.tar") if packed else root, tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.6])
def test_a_tar_file_that_was_cut_is_refused(whole: Path, tmp_path: Path, kept: float) -> None:
    path = _pack(whole, tmp_path / "backup.tar")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    _refused(path, tmp_path)


def test_a_link_in_a_tar_file_is_not_followed(whole: Path, tmp_path: Path) -> None:
    secret = Path(shutil.copyfile(_database(whole), tmp_path / "secret"))
    source = _pack(whole, tmp_path / "linked.tar", but=_database(whole).name)
    with tarfile.open(source, "a") as tar:
        link = tarfile.TarInfo(_database(whole).name)
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        tar.addfile(link)
    _refused(source, tmp_path, "is missing")


class _After:
    """Interrupts when it is told of something."""

    def __init__(self, doing: str) -> None:
        self.doing = doing

    def __call__(self, doing: str, done: int, total: int | None) -> None:
        if doing == self.doing:
            raise KeyboardInterrupt


@pytest.mark.parametrize("doing", ["copying the database", "copying artifacts"])
@pytest.mark.parametrize("name", ["backup", "backup.tar"])
def test_an_interrupted_backup_leaves_nothing(embedded: Ground, name: str, doing: str) -> None:
    _interrupted_backup(embedded, name, doing)


def test_an_interrupted_pg_dump_leaves_nothing(served: Ground) -> None:
    _interrupted_backup(served, "backup", "copying the database")


def _interrupted_backup(ground: Ground, name: str, doing: str) -> None:
    before = set(ground.folder.iterdir())
    with pytest.raises(KeyboardInterrupt):
        ground.back_up(name, observe=_After(doing))
    assert set(ground.folder.iterdir()) == before
    ground.back_up(name)  # and nothing is in its way


@pytest.mark.parametrize("doing", ["checking the backup", "restoring artifacts"])
def test_an_interrupted_restore_leaves_no_farm(embedded: Ground, doing: str) -> None:
    _interrupted_restore(embedded, doing)


def test_an_interrupted_pg_restore_leaves_no_farm(served: Ground) -> None:
    _interrupted_restore(served, "restoring the database")


def _interrupted_restore(ground: Ground, doing: str) -> None:
    ground.back_up()
    home = ground.elsewhere()
    with pytest.raises(KeyboardInterrupt):
        restore(home, ground.folder / "backup", force=False, observe=_After(doing))
    assert {path.name for path in home.path.iterdir()} <= {"store", "cache"}
    restore(home, ground.folder / "backup", force=False, observe=ignore)
    assert everything(home.database_url) == everything(ground.farm.url)


def test_nothing_is_written_over(ground: Ground) -> None:
    ground.back_up()
    before = everything(ground.farm.url)
    with pytest.raises(UsageError, match="nothing is written over"):
        ground.back_up()
    for force in (False, True) if ground.farm.engine.dialect.name == "postgresql" else (False,):
        with pytest.raises(UsageError, match="already"):
            restore(ground.home, ground.folder / "backup", force=force, observe=ignore)
    assert everything(ground.farm.url) == before
    with pytest.raises(UsageError, match="there is no folder"):
        ground.back_up("nowhere/backup")
    with pytest.raises(UsageError, match="there is no backup"):
        restore(ground.elsewhere(), ground.folder / "none", force=False, observe=ignore)


def test_what_is_there_is_put_aside_when_told_so(embedded: Ground) -> None:
    embedded.back_up()
    before = everything(embedded.farm.url)
    home = embedded.elsewhere()
    restore(home, embedded.folder / "backup", force=False, observe=ignore)
    engine = open_database(home.database_url)
    with writing(engine) as connection:
        record(connection, "device", 1, "online", "offline", who="test", why=None, now=utc_now())
        connection.execute(text("DELETE FROM lease"))
    newer = everything(home.database_url)
    _, aside = restore(home, embedded.folder / "backup", force=True, observe=ignore)
    engine.dispose()
    assert aside is not None
    assert everything(home.database_url) == before
    assert everything(f"sqlite:///{aside}") == newer


def test_a_farm_that_dispatches_is_not_put_aside(embedded: Ground) -> None:
    embedded.back_up()
    home = embedded.elsewhere()
    restore(home, embedded.folder / "backup", force=False, observe=ignore)
    engine = open_database(home.database_url)
    with writing(engine) as connection:
        connection.execute(text("DELETE FROM lease"))
        assert DispatcherLease().acquire(connection, utc_now())
    with pytest.raises(UsageError, match="stop it first"):
        restore(home, embedded.folder / "backup", force=True, observe=ignore)
    engine.dispose()


def test_an_embedded_database_that_is_not_sound_is_no_backup(embedded: Ground) -> None:
    embedded.farm.engine.dispose()
    path = Path(embedded.farm.url.removeprefix("sqlite:///"))
    data = bytearray(path.read_bytes())
    data[8192:12288] = b"\xa5" * 4096
    path.write_bytes(data)
    with pytest.raises(BenchfarmError, match="cannot be copied"):
        embedded.back_up()
    assert not (embedded.folder / "backup").exists()


def test_a_backup_goes_into_its_own_kind(embedded: Ground, served: Ground) -> None:
    for source, target in ((embedded, served), (served, embedded)):
        name = f"of-{source.farm.engine.dialect.name}"
        source.back_up(name)
        with pytest.raises(UsageError, match="own kind"):
            restore(target.elsewhere(), source.folder / name, force=False, observe=ignore)


def test_what_is_no_farm_is_not_backed_up(ground: Ground) -> None:
    with pytest.raises(UsageError, match=r"no farm in the database|there is no database"):
        back_up(ground.elsewhere(), ground.folder / "backup", with_files=True, observe=ignore)
    engine = open_engine(ground.farm.url)
    with writing(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    try:
        with pytest.raises(UsageError, match="upgrade benchfarm"):
            ground.back_up()
    finally:
        with writing(engine) as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :head"), {"head": backup.HEAD})
        engine.dispose()
    assert not (ground.folder / "backup").exists()


def test_every_schema_that_can_be_migrated_from_is_known() -> None:
    found = Path(backup.__file__).parent.glob("migrations/versions/0*.py")
    assert tuple(sorted(path.name[:4] for path in found)) == backup.REVISIONS


def test_no_password_is_on_a_command_line_or_in_an_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in pg_dump's place writes down what it was started with."""
    program = tmp_path / "pg_dump"
    program.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = --version ]; then echo "pg_dump (PostgreSQL) 15.9"; exit; fi\n'
        f'echo "$@" > {tmp_path}/arguments; env > {tmp_path}/environment\n'
        f'cp -p "$PGSERVICEFILE" {tmp_path}/service\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(postgres, "_DEBIAN", tmp_path / "none")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    url = "postgresql+psycopg://ada:s3%20cret%3D@db.lab:5433/farm?sslmode=verify-full&options=-cwork_mem=1"
    monkeypatch.setenv("BENCHFARM_DATABASE_URL", url)
    assert postgres.dump(url, "00000003-1", tmp_path / "out", 15, lambda _: None) == "15.9"
    said = (tmp_path / "arguments").read_text() + (tmp_path / "environment").read_text()
    assert "s3" not in said
    assert "BENCHFARM_DATABASE_URL" not in said
    assert (tmp_path / "service").read_text().splitlines() == [
        "[benchfarm]", "host=db.lab", "port=5433", "user=ada", "password=s3 cret=", "dbname=farm",
        "sslmode=verify-full",
    ]  # fmt: skip
    assert (tmp_path / "service").stat().st_mode & 0o077 == 0
    [line] = [line for line in (tmp_path / "environment").read_text().splitlines() if line.startswith("PGSERVICEFILE=")]
    assert not Path(line.partition("=")[2]).exists()


def test_what_pg_dump_says_is_said(served: Ground) -> None:
    with pytest.raises(BenchfarmError, match=r"pg_dump failed: .*invalid snapshot identifier"):
        postgres.dump(served.farm.url, "no snapshot", served.folder / "out", 15, lambda _: None)


def test_a_power_cut_leaves_nothing_that_is_taken_for_a_backup(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with writing_archive(tmp_path / "backup") as archive:
        archive.add_text("artifacts.txt", "")
        shutil.copytree(archive.workshop, kept)
        assert not (tmp_path / "backup").exists()
    assert (tmp_path / "backup").is_dir()
    with pytest.raises(BackupDamagedError, match=r"manifest\.json is missing"):
        restore(
            Home(tmp_path, f"sqlite:///{tmp_path / 'farm.db'}", f"file://{tmp_path / 'store'}"),
            kept / "archive", force=False, observe=ignore,
        )  # fmt: skip
