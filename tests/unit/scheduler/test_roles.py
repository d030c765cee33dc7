"""The rights that docs/operations.md gives out: each role can do what is said of it, and nothing more."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, insert, select, update
from sqlalchemy.exc import ProgrammingError

from device_registry.capabilities import DeviceDescription, HostDescription
from device_registry.database import open_engine, reading, table_of, writing
from device_registry.registry import list_devices, record_hello
from scheduler import interventions, runs
from scheduler.ingest import results
from scheduler.leases import DispatcherLease, leases
from scheduler.quarantine import set_admin
from scheduler.request import Request
from scheduler.schema import migrate
from scheduler.states import attempts, jobs
from scheduler.tables import Artifact
from tests.postgres import PostgresServer
from tests.unit.builders import NOW
from tests.unit.scheduler.builders import plan_of

_GUIDE = Path(__file__).parents[3] / "docs" / "operations.md"
_HOST = HostDescription(
    key="h", name="lab", system="s", architecture="a", cpu_model="c", cpu_count=2, memory_bytes=10**9
)
_DEVICE = DeviceDescription(key="d", name="d0", kind="cpu", driver="cpu")


@pytest.fixture(scope="module")
def roles(postgres: PostgresServer) -> Iterator[dict[str, Engine]]:
    """A database with the guide's roles, a host with a device, and an engine for a login of each role."""
    once, after_upgrade = re.findall(r"```sql\n(.*?)```", _GUIDE.read_text(), re.DOTALL)
    postgres.execute(*_statements(once))
    url = postgres.url("benchfarm", "benchfarm_farm")
    migrate(url)
    engines = {"farm": open_engine(url)}
    with writing(engines["farm"]) as connection:
        for statement in _statements(after_upgrade):
            connection.exec_driver_sql(statement)
        record_hello(connection, _HOST, [_DEVICE], "3", NOW)
    for role in ("reader", "submitter", "operator"):
        postgres.execute(f"CREATE ROLE a_{role} LOGIN", f"GRANT benchfarm_{role} TO a_{role}")
        engines[role] = open_engine(postgres.url("benchfarm", f"a_{role}"))
    yield engines
    for engine in engines.values():
        engine.dispose()


def _statements(script: str) -> list[str]:
    return [part.strip() for part in re.sub(r"--.*", "", script).split(";") if part.strip()]


def _submit(connection: Connection) -> int:
    found = list_devices(connection)
    submitted = runs.submit(
        connection, plan_of(found), Request(models=("net",)), None, owner="ada", this_host_id=1, now=NOW, follow=False
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


def test_an_operator_says_what_devices_may_do(roles: dict[str, Engine]) -> None:
    for admin in ("draining", "maintenance", "quarantined", "enabled"):
        with writing(roles["operator"]) as connection:
            set_admin(connection, 1, admin, who="ada", why=None, now=NOW)  # type: ignore[arg-type]
    with writing(roles["operator"]) as connection:
        _submit(connection)


def test_everybody_reads(roles: dict[str, Engine]) -> None:
    for engine in roles.values():
        with reading(engine) as connection:
            assert [device.name for device in list_devices(connection)] == ["d0"]
