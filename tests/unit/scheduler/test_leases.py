"""One dispatcher at a time: by a row, and by whether the process that wrote it lives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from sqlalchemy import update

from device_registry.database import reading, writing
from scheduler.leases import LEASE_S, DispatcherLease, LeaseLostError, leases
from tests.unit.scheduler.builders import Farm
from workers.processes import Process, read_process


@pytest.fixture
def idle(farm: Farm) -> Farm:
    """A farm that nobody dispatches for."""
    farm.dispatcher.stop()
    return farm


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """Another process of this host, alive."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def _acquire(farm: Farm, lease: DispatcherLease) -> bool:
    with writing(farm.engine) as connection:
        return lease.acquire(connection, farm.clock())


def _renew(farm: Farm, lease: DispatcherLease) -> None:
    with writing(farm.engine) as connection:
        lease.renew(connection, farm.clock())


def _held_by(farm: Farm, process: subprocess.Popen[bytes], **changes: object) -> DispatcherLease:
    """A lease that another process of this host took."""
    lease = DispatcherLease()
    assert _acquire(farm, lease)
    found = read_process(process.pid)
    assert isinstance(found, Process)
    with writing(farm.engine) as connection:
        connection.execute(update(leases).values(pid=process.pid, pid_started=found.started, **changes))
    return lease


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def test_the_first_takes_it_and_a_second_waits(idle: Farm) -> None:
    assert _acquire(idle, DispatcherLease())
    assert not _acquire(idle, DispatcherLease())
    with reading(idle.engine) as connection:
        assert len(connection.execute(leases.select()).all()) == 1


def test_it_is_free_when_it_has_run_out(idle: Farm) -> None:
    first, second = DispatcherLease(), DispatcherLease()
    assert _acquire(idle, first)
    idle.clock.advance(LEASE_S + 1)
    assert _acquire(idle, second)
    assert not _acquire(idle, first)
    with pytest.raises(LeaseLostError):
        _renew(idle, first)
    _renew(idle, second)


def test_it_is_held_as_long_as_it_is_renewed(idle: Farm) -> None:
    first, second = DispatcherLease(), DispatcherLease()
    assert _acquire(idle, first)
    for _ in range(5):
        idle.clock.advance(LEASE_S - 1)
        _renew(idle, first)
        assert not _acquire(idle, second)


def test_a_holder_that_overslept_may_renew_while_nobody_took_over(idle: Farm) -> None:
    lease = DispatcherLease()
    assert _acquire(idle, lease)
    idle.clock.advance(10 * LEASE_S)
    _renew(idle, lease)
    assert not _acquire(idle, DispatcherLease())


def test_it_is_free_when_it_is_given_back(idle: Farm) -> None:
    lease = DispatcherLease()
    assert _acquire(idle, lease)
    with writing(idle.engine) as connection:
        lease.release(connection)
    assert _acquire(idle, DispatcherLease())


def test_giving_back_what_another_holds_changes_nothing(idle: Farm) -> None:
    first, second = DispatcherLease(), DispatcherLease()
    assert _acquire(idle, first)
    idle.clock.advance(LEASE_S + 1)
    assert _acquire(idle, second)
    with writing(idle.engine) as connection:
        first.release(connection)
    _renew(idle, second)


def test_a_living_process_of_this_host_keeps_it(idle: Farm, other: subprocess.Popen[bytes]) -> None:
    _held_by(idle, other)
    assert not _acquire(idle, DispatcherLease())


def test_a_dead_process_of_this_host_is_replaced_at_once(idle: Farm, other: subprocess.Popen[bytes]) -> None:
    held = _held_by(idle, other)
    _end(other)
    assert _acquire(idle, DispatcherLease())
    with pytest.raises(LeaseLostError):
        _renew(idle, held)


def test_a_process_that_merely_has_the_pid_of_the_holder_does_not_keep_it(
    idle: Farm, other: subprocess.Popen[bytes]
) -> None:
    _held_by(idle, other)
    with writing(idle.engine) as connection:
        connection.execute(update(leases).values(pid_started=leases.c.pid_started - 1))
    assert _acquire(idle, DispatcherLease())


def test_nobody_can_tell_whether_a_process_of_another_host_lives(idle: Farm, other: subprocess.Popen[bytes]) -> None:
    _held_by(idle, other, host_key="another host")
    _end(other)
    assert not _acquire(idle, DispatcherLease())
    idle.clock.advance(LEASE_S + 1)
    assert _acquire(idle, DispatcherLease())


def test_a_farm_whose_dispatcher_died_goes_on(farm: Farm) -> None:
    farm.clock.advance(LEASE_S + 1)
    farm.dispatcher = farm.new_dispatcher()
    farm.tick()
