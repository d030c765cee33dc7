"""A `benchfarm run`: it dispatches for its own host, and only follows what a farm works on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from device_registry.capabilities import DeviceDescription
from device_registry.database import reading, writing
from device_registry.registry import record_hello
from device_registry.tables import utc_now
from scheduler import interventions
from scheduler.embedded import EmbeddedFarm
from scheduler.home import Home
from scheduler.leases import DispatcherLease, is_led
from scheduler.queue import sweep_runs
from scheduler.request import Request
from scheduler.states import jobs
from tests.unit.scheduler.databases import Databases
from workers.host import describe_host

_HERE = DeviceDescription(key="sim:here", name="h", kind="sim", driver="sim", attributes={"simulated": True})
_THERE = DeviceDescription(key="sim:there", name="t", kind="sim", driver="sim", attributes={"simulated": True})
_SIM = Request(models=("sim/mobilenet",), recipes=("fp32",), selector="kind=sim")


@pytest.fixture
def farm(tmp_path: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedFarm]:
    """A farm with another host than this one, and somebody who dispatches."""
    monkeypatch.setattr("scheduler.embedded.discover_devices", lambda: [_HERE])
    url = databases.fresh(tmp_path)
    farm = EmbeddedFarm(Home(tmp_path / "home", url, f"file://{tmp_path / 'store'}"))
    with writing(farm.engine) as connection:
        record_hello(connection, describe_host("lab-1"), [_THERE], "3", utc_now())
    yield farm
    farm.engine.dispose()
    databases.drop(url)


@pytest.fixture
def lease(farm: EmbeddedFarm) -> DispatcherLease:
    """That of who dispatches."""
    lease = DispatcherLease()
    with writing(farm.engine) as connection:
        assert lease.acquire(connection, utc_now())
    return lease


def _measured_on(farm: EmbeddedFarm, run_id: int) -> set[int]:
    with reading(farm.engine) as connection:
        query = jobs.select().where(jobs.c.sweep_run_id == run_id, jobs.c.kind == "measure")
        return {row.device_id for row in connection.execute(query)}


def test_a_run_on_the_farms_devices_never_takes_its_role(
    farm: EmbeddedFarm, lease: DispatcherLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = farm.submit(_SIM).sweep_run_id
    assert _measured_on(farm, run_id) == {1}
    monkeypatch.setattr(EmbeddedFarm, "_bring_up", lambda *_: pytest.fail("it dispatches"))
    nobody = threading.Event()

    def say(sentence: str) -> None:
        if "nobody dispatches" in sentence:
            nobody.set()

    following = threading.Thread(target=farm.work, args=(run_id, "local", lambda _: None, say))
    following.start()
    with writing(farm.engine) as connection:
        lease.release(connection)  # benchfarm up is restarted
    try:
        assert nobody.wait(20)
        with reading(farm.engine) as connection:
            assert not is_led(connection, utc_now())
    finally:
        with writing(farm.engine) as connection:
            interventions.cancel_run(connection, run_id, who="tester", now=utc_now())
        following.join(20)
    assert not following.is_alive()


@pytest.mark.usefixtures("lease")
def test_beside_another_run_that_dispatches_one_plans_for_its_own_host(farm: EmbeddedFarm) -> None:
    first = farm.submit(_SIM).sweep_run_id  # it waits for its run, and has the role
    second = farm.submit(_SIM).sweep_run_id
    assert _measured_on(farm, first) == {1}
    assert _measured_on(farm, second) == {2}
    with writing(farm.engine) as connection:
        connection.execute(update(sweep_runs).values(followed_until=utc_now()))
    assert _measured_on(farm, farm.submit(_SIM).sweep_run_id) == {1, 2}  # one that waits for none is a farm's
