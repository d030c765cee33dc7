"""The rights that deploy/postgres/roles.sql gives out: each role can do what is said of it, and nothing more."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, insert, select, text, update
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlmodel import SQLModel

from device_registry.capabilities import DeviceDescription
from device_registry.database import insert_row, open_engine, reading, table_of, writing
from device_registry.registry import list_devices, record_hello
from exporters.reader import FarmReader
from scheduler import interventions, runs
from scheduler.backup import back_up
from scheduler.cases import case_of_parts
from scheduler.clones import request_of_run
from scheduler.coverage import Unsupported
from scheduler.farm import Farm
from scheduler.home import Home
from scheduler.ingest import results
from scheduler.leases import DispatcherLease, leases
from scheduler.notifications import outbox
from scheduler.quarantine import set_admin
from scheduler.regressions.incidents import change_state, incidents
from scheduler.request import Request
from scheduler.schema import migrate
from scheduler.states import attempts, jobs
from scheduler.tables import Artifact
from scheduler.views import VIEWS, view_of
from tests.postgres import PostgresServer, binaries
from tests.unit.builders import NOW
from tests.unit.scheduler.builders import plan_of
from workers.contract import Options
from workers.host import describe_host

_SCRIPT = Path(__file__).parents[3] / "deploy" / "postgres" / "roles.sql"
_DEVICE = DeviceDescription(key="d", name="d0", kind="cpu", driver="cpu")
_PHONE = DeviceDescription(key="s", name="s0", kind="sim", driver="sim", attributes={"simulated": True})


ROLES = ("reader", "submitter", "operator", "grafana")


def _run_script(server: PostgresServer) -> None:
    found = binaries()
    assert found is not None
    # As a superuser that is called otherwise than the farm's role.
    told = ["-X", "-h", str(server.folder), "-p", str(server.port), "-U", "farm", "-f", str(_SCRIPT), "postgres"]
    done = subprocess.run([found / "psql", *told], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture(scope="module")
def roles(postgres: PostgresServer) -> Iterator[dict[str, Engine]]:
    """A database with the script's roles, a host with a device, and an engine for a login of each role."""
    _run_script(postgres)  # before there are tables
    url = postgres.url("benchfarm", "benchfarm_farm")
    migrate(url)
    _run_script(postgres)
    engines = {"farm": open_engine(url)}
    with writing(engines["farm"]) as connection:
        record_hello(connection, describe_host("lab", {}), [_DEVICE, _PHONE], "3", NOW)
    for role in ROLES:
        postgres.execute(f"CREATE ROLE a_{role} LOGIN", f"GRANT benchfarm_{role} TO a_{role}")
        engines[role] = open_engine(postgres.url("benchfarm", f"a_{role}"))
    yield engines
    for engine in engines.values():
        engine.dispose()


def _submit(connection: Connection) -> int:
    """A matrix of a model nobody has submitted yet, so that every kind of row is new; part of it cannot be had."""
    found = list_devices(connection)
    made = plan_of(found[:1], model=secrets.token_hex(4))
    for runtime in (made.digest, "onnxruntime"):  # a cell that is new, and one that was written before
        case = case_of_parts("net", "random", "onnx", "fp16", runtime[:50], Options())
        made.unsupported_cells.append(Unsupported(found[0].id, case, "cannot be had"))
    submitted = runs.submit(
        connection, made, Request(models=("net",)), None, owner="ada", this_host_id=1, now=NOW, follow=False
    )
    return submitted.sweep_run_id


def _cancel(connection: Connection) -> None:
    """Cancel a job, one that runs at that."""
    job_id = connection.execute(select(jobs.c.id).where(jobs.c.state == "running")).scalars().first()
    assert job_id is not None
    interventions.cancel(connection, [job_id], who="ada", now=NOW)


def _drain(connection: Connection) -> None:
    set_admin(connection, 1, "draining", who="ada", why=None, now=NOW)


def _dispatch(connection: Connection) -> None:
    assert DispatcherLease().acquire(connection, NOW)


def _forge(connection: Connection) -> None:
    connection.execute(update(results).values(p50_ms=0.1))


def _make(connection: Connection) -> None:
    connection.execute(insert(table_of(Artifact)).values(key="k", sha256="0" * 64))


def _take(connection: Connection) -> None:
    connection.execute(update(attempts).values(token="mine"))


def _free(connection: Connection) -> None:
    connection.execute(leases.delete())


_BEYOND: list[tuple[str, Callable[[Connection], Any]]] = [
    *[("reader", act) for act in (_submit, _cancel, _drain, _dispatch)],
    *[("submitter", act) for act in (_drain, _dispatch, _forge, _make, _take, _free)],
    *[("operator", act) for act in (_dispatch, _forge, _make, _take, _free)],
]


@pytest.fixture
def running(roles: dict[str, Engine]) -> None:
    """A run one job of which runs."""
    with writing(roles["farm"]) as connection:
        run_id = _submit(connection)
        job_id = connection.execute(select(jobs.c.id).where(jobs.c.sweep_run_id == run_id)).scalars().first()
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(state="running"))
        place = {"host_id": 1, "place": f"slot:1:{job_id}", "token": "t", "state": "running"}
        connection.execute(insert(attempts).values(job_id=job_id, **place, lease_until=NOW, started_at=NOW))


@pytest.mark.parametrize(("role", "act"), _BEYOND, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.usefixtures("running")
def test_a_role_can_do_no_more_than_is_said(
    roles: dict[str, Engine], role: str, act: Callable[[Connection], Any]
) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"), writing(roles[role]) as connection:
        act(connection)


@pytest.mark.usefixtures("running")
def test_a_submitter_submits_and_cancels(roles: dict[str, Engine]) -> None:
    with writing(roles["submitter"]) as connection:
        _submit(connection)
        _cancel(connection)


@pytest.mark.usefixtures("running")
def test_a_submitter_follows_gives_up_retries_and_cancels_a_run(roles: dict[str, Engine]) -> None:
    with writing(roles["submitter"]) as connection:
        run_id = _submit(connection)
        runs.follow(connection, run_id, NOW)
        runs.abandon(connection, run_id, NOW)
        assert interventions.cancel_run(connection, run_id, who="ada", now=NOW) > 0
        assert interventions.retry(connection, interventions.failed_of(connection, run_id), who="ada", now=NOW)


def test_a_submitter_acknowledges_incidents_and_has_messages_tried_again(roles: dict[str, Engine]) -> None:
    about = {"cause": "code", "cause_why": "", "title": "slower", "change": 0.1, "environment": {}}
    with writing(roles["farm"]) as connection:
        run_id = _submit(connection)
        incident = insert_row(
            connection, incidents, state="open", sweep_run_id=run_id, opened_at=NOW, changed_at=NOW, **about
        )
    with writing(roles["submitter"]) as connection:
        for after in ("acknowledged", "resolved", "open"):
            change_state(connection, incident, after, who="ada", note=None, now=NOW)
        assert outbox.retry(connection, [], NOW) == []
    with pytest.raises(ProgrammingError, match="permission denied"), writing(roles["submitter"]) as connection:
        connection.execute(update(incidents).values(change=0.0))


def test_a_submitter_submits_as_users_do(roles: dict[str, Engine], postgres: PostgresServer, tmp_path: Path) -> None:
    farm = Farm(Home(tmp_path / "home", postgres.url("benchfarm", "a_submitter"), f"file://{tmp_path / 'store'}"))
    request = Request(models=("sim/tiny",), selector="kind=sim", wait_for_device=True)
    try:
        first = farm.submit(request)
        with reading(farm.engine) as connection:
            again = request_of_run(connection, first.sweep_run_id)
        assert farm.submit(again).sweep_run_id > first.sweep_run_id
    finally:
        farm.engine.dispose()


def test_an_operator_says_what_devices_may_do(roles: dict[str, Engine]) -> None:
    for admin in ("draining", "maintenance", "quarantined", "enabled"):
        with writing(roles["operator"]) as connection:
            set_admin(connection, 1, admin, who="ada", why=None, now=NOW)  # type: ignore[arg-type]
    with writing(roles["operator"]) as connection:
        interventions.tag_device(connection, 1, add=["canary"], remove=[], who="ada", now=NOW)
        _submit(connection)


@pytest.mark.usefixtures("running")
def test_everybody_reads_every_table_and_view(roles: dict[str, Engine]) -> None:
    for engine in roles.values():
        with reading(engine) as connection:
            assert [device.name for device in list_devices(connection)] == ["d0", "s0"]
            for table in (*SQLModel.metadata.sorted_tables, *(view_of(view.name) for view in VIEWS)):
                connection.execute(select(table).limit(1)).all()


def test_a_reader_backs_up(roles: dict[str, Engine], postgres: PostgresServer, tmp_path: Path) -> None:
    home = Home(tmp_path, postgres.url("benchfarm", "a_reader"), f"file://{tmp_path / 'store'}")
    made = back_up(home, tmp_path / "backup", with_files=True, observe=lambda doing, done, total: None)
    assert made.rows["device"] == 2


def test_grafana_cannot_write_and_does_not_hold_on_for_ever(roles: dict[str, Engine], postgres: PostgresServer) -> None:
    told = {"host": str(postgres.folder), "port": postgres.port, "dbname": "benchfarm", "user": "benchfarm_grafana"}
    with psycopg.connect(**told) as connection:  # without what our own engine asks for
        assert connection.execute("SHOW statement_timeout").fetchone() == ("30s",)
        assert connection.execute("SHOW idle_in_transaction_session_timeout").fetchone() == ("1min",)
        assert connection.execute("SHOW jit").fetchone() == ("off",)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TEMP TABLE mine (id int)")
    with pytest.raises(ProgrammingError, match="permission denied"), writing(roles["grafana"]) as connection:
        _submit(connection)


def test_nobody_else_gets_in(roles: dict[str, Engine], postgres: PostgresServer) -> None:
    postgres.execute("CREATE ROLE stranger LOGIN")
    engine = open_engine(postgres.url("benchfarm", "stranger"))
    with pytest.raises(OperationalError, match="permission denied for database"):
        engine.connect()
    engine.dispose()


def test_the_script_may_be_run_again_and_again(roles: dict[str, Engine], postgres: PostgresServer) -> None:
    query = "SELECT relname, relacl::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY relname"
    with reading(roles["farm"]) as connection:
        before = connection.execute(text(query)).all()
    _run_script(postgres)
    with reading(roles["farm"]) as connection:
        assert connection.execute(text(query)).all() == before


def test_what_a_migration_makes_is_read_at_once(roles: dict[str, Engine]) -> None:
    with writing(roles["farm"]) as connection:
        connection.execute(text("CREATE TABLE later (id serial PRIMARY KEY)"))
        connection.execute(text("CREATE VIEW later_view AS SELECT * FROM later"))
    try:
        with reading(roles["reader"]) as connection:
            connection.execute(text("SELECT * FROM later_view, later_id_seq"))
        with pytest.raises(ProgrammingError), writing(roles["submitter"]) as connection:
            connection.execute(text("INSERT INTO later VALUES (1)"))
    finally:
        with writing(roles["farm"]) as connection:
            connection.execute(text("DROP TABLE later CASCADE"))


def test_a_reader_exports_metrics(roles: dict[str, Engine], tmp_path: Path) -> None:
    reader = FarmReader(roles["reader"].url.render_as_string(hide_password=False), tmp_path)
    shown = {family.name for family in reader.read().families if family.samples}
    reader.close()
    assert {"benchfarm_device_up", "benchfarm_database_bytes", "benchfarm_dispatcher_up"} <= shown
