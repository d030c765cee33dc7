"""Quarantine in a database: devices are put aside, probed by canaries, recovered and released, and people decide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Row, event, insert, select, update

from device_registry.capabilities import BackendCapability, DeviceDescription
from device_registry.database import insert_row, reading, writing
from device_registry.errors import UsageError
from device_registry.health import FARM, FIRST_PROBE_S, Admin, Outcome
from device_registry.registry import devices, hosts, record_hello, set_host_presence
from scheduler.ingest import results
from scheduler.quarantine import CANARY, Recovery, maintain, note_outcomes, set_admin
from scheduler.queue import sweep_runs
from scheduler.schema import open_database
from scheduler.states import attempts, events, jobs
from scheduler.status import known_run
from tests.unit.builders import NOW
from tests.unit.scheduler.builders import Clock
from tests.unit.scheduler.databases import Databases
from workers.host import describe_host
from workers.plugins import plugins

SICK = Outcome(device_id=1, failure_cause="device", failure_code="sick", failure_message="it is sick")


class Lab:
    """One host with a device, and what dispatchers and people do to it. Canaries end as told."""

    def __init__(self, url: str, kind: str) -> None:
        self.engine = open_database(url)
        self.clock = Clock()
        able = {
            seam: tuple(BackendCapability(name=name, versions={name: "1"}) for name in sorted(plugins(group)))
            for seam, group in (("runtimes", "runtimes"), ("converters", "converters"), ("sources", "model_sources"))
        }
        self.host = replace(describe_host(), key="lab", name="lab", **able)
        self.device = DeviceDescription(key="d", name="d0", kind=kind, driver=kind)
        self.come(self.device)

    def come(self, *found: DeviceDescription) -> None:
        """The host says hello with these devices."""
        with writing(self.engine) as connection:
            record_hello(connection, self.host, found, "3", self.clock())

    def tell(self, *outcomes: Outcome) -> None:
        """Attempts ended so."""
        with writing(self.engine) as connection:
            note_outcomes(connection, outcomes, who="dispatcher", now=self.clock())

    def maintain(self, after_s: float = 0.0) -> list[Recovery]:
        """Let time pass, then do what a dispatcher does every second."""
        self.clock.advance(after_s)
        with writing(self.engine) as connection:
            return maintain(connection, who="dispatcher", now=self.clock())

    def set(self, admin: Admin, who: str = "ada", why: str | None = None) -> None:
        """A person decides."""
        with writing(self.engine) as connection:
            set_admin(connection, 1, admin, who=who, why=why, now=self.clock())

    def finish(self, p50_ms: float | None) -> None:
        """The canary that is queued ends: with a time, or with a failure of the device."""
        [job] = self.canaries(jobs.c.state != "succeeded")
        done = {"state": "finished", "lease_until": NOW, "started_at": NOW, "token": "t"}
        with writing(self.engine) as connection:
            attempt_id = insert_row(connection, attempts, job_id=job.id, host_id=1, device_id=1, place="d", **done)
            connection.execute(update(jobs).where(jobs.c.id == job.id).values(state="succeeded"))
            if p50_ms is not None:
                _insert_result(connection, job, attempt_id, p50_ms)
        failed = {"failure_cause": "device", "failure_code": "sick"} if p50_ms is None else {}
        self.tell(Outcome(device_id=1, canary=True, p50_ms=p50_ms, verdict="valid", **failed))  # type: ignore[arg-type]

    def canaries(self, *where: Any) -> list[Row[Any]]:
        """Measure jobs of canaries."""
        with reading(self.engine) as connection:
            return list(connection.execute(select(jobs).where(jobs.c.canary.is_(True), *where).order_by(jobs.c.id)))

    def row(self) -> Row[Any]:
        """The device."""
        with reading(self.engine) as connection:
            return connection.execute(select(devices)).one()

    def history(self) -> list[tuple[str, str, str | None]]:
        """What was noted: before, after, why."""
        with reading(self.engine) as connection:
            query = select(events).where(events.c.entity == "admin").order_by(events.c.id)
            return [(row.before, row.after, row.why) for row in connection.execute(query)]


def _insert_result(connection: Connection, job: Row[Any], attempt_id: int, p50_ms: float) -> None:
    values = {"case_key": job.case_key, "stale": False, "verdict": "valid", "document": {}, "created_at": NOW}
    places = {"attempt_id": attempt_id, "job_id": job.id, "sweep_run_id": job.sweep_run_id, "device_id": 1}
    connection.execute(insert(results).values(**values, **places, p50_ms=p50_ms))


@pytest.fixture
def make_lab(tmp_path: Path, databases: Databases) -> Iterator[Callable[..., Lab]]:
    """Make a lab with a device of a kind."""
    made: list[tuple[Lab, str]] = []

    def make(kind: str = "sim") -> Lab:
        url = databases.fresh(tmp_path)
        made.append((Lab(url, kind), url))
        return made[-1][0]

    yield make
    for lab, url in made:
        lab.engine.dispose()
        databases.drop(url)


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """A lab with a simulated device."""
    return make_lab()


@pytest.fixture
def put_aside(lab: Lab) -> Lab:
    """A lab whose device failed three times."""
    lab.tell(SICK, SICK, SICK)
    return lab


def test_three_failures_put_a_device_aside_and_leave_an_event(put_aside: Lab) -> None:
    row = put_aside.row()
    assert (row.admin, row.admin_by, row.failures_in_row) == ("quarantined", FARM, 3)
    assert put_aside.history() == [("enabled", "quarantined", "failed 3 times in a row, last: it is sick")]
    assert row.admin_why == "failed 3 times in a row, last: it is sick"


def test_a_row_of_failures_goes_on_from_one_tick_to_the_next_and_a_success_breaks_it(lab: Lab) -> None:
    for _ in range(4):
        lab.tell(SICK)
        lab.tell(SICK, Outcome(device_id=1, used_s=2.0))
    assert lab.row().admin == "enabled"
    for _ in range(2):
        lab.tell(SICK)
        lab.tell(Outcome(device_id=1, used_s=1.0))
        assert lab.row().failures_in_row == 0
    assert lab.row().used_s == 10.0


def test_a_canary_comes_when_it_is_due_and_only_one_at_a_time(put_aside: Lab) -> None:
    assert put_aside.maintain(FIRST_PROBE_S - 1) == []
    assert put_aside.canaries() == []
    put_aside.maintain(2)
    put_aside.maintain(0)
    put_aside.maintain(10 * FIRST_PROBE_S)
    [canary] = put_aside.canaries()
    assert (canary.owner, canary.device_id, canary.state) == (FARM, 1, "blocked")
    with reading(put_aside.engine) as connection:
        [run] = connection.execute(select(sweep_runs)).all()
    assert (run.purpose, run.owner, run.followed_until) == (CANARY, FARM, None)


def test_a_canary_comes_though_the_clock_was_set_back_by_hours(put_aside: Lab) -> None:
    put_aside.clock.jump(-7200)
    put_aside.maintain()
    assert len(put_aside.canaries()) == 1


def test_a_canary_that_passes_releases_the_device(put_aside: Lab) -> None:
    put_aside.maintain(FIRST_PROBE_S)
    put_aside.finish(10.0)
    row = put_aside.row()
    assert (row.admin, row.admin_by, row.admin_why, row.failures_in_row, row.probes, row.probe_at) == (
        *("enabled", None, None, 0, 0, None),
    )
    assert put_aside.history()[-1] == ("quarantined", "enabled", "its canary passed")
    assert put_aside.maintain(10_000) == []
    assert len(put_aside.canaries()) == 1


def test_a_canary_that_fails_climbs_the_ladder_and_backs_off(put_aside: Lab) -> None:
    wait_s = FIRST_PROBE_S
    for rung in range(3):
        put_aside.maintain(wait_s)
        put_aside.finish(None)
        assert put_aside.maintain() == [Recovery(1, "d", rung)]
        wait_s *= 2
        assert put_aside.maintain(wait_s - 1) == []
        assert put_aside.canaries(jobs.c.state == "blocked") == []
        put_aside.clock.advance(1 - wait_s)
    whys = [why for _, _, why in put_aside.history()[1:]]
    assert whys[::2] == ["its canary failed: sick"] * 3
    assert whys[1::2] == [f"recovery, step {step}" for step in (1, 2, 3)]


def test_once_its_normal_time_is_known_a_slow_canary_fails(lab: Lab) -> None:
    for p50_ms in (9.0, 10.0, 11.0, 10.0, 12.0):
        lab.tell(SICK, SICK, SICK)
        lab.maintain(FIRST_PROBE_S)
        lab.finish(p50_ms)
        assert lab.row().admin == "enabled"
    lab.tell(SICK, SICK, SICK)
    lab.maintain(FIRST_PROBE_S)
    lab.finish(13.0)
    assert lab.row().admin == "quarantined"
    assert lab.history()[-1][2] == "its canary failed: took 13 ms, normal are 10 ms"
    lab.maintain()
    lab.maintain(2 * FIRST_PROBE_S)
    lab.finish(12.0)
    assert lab.row().admin == "enabled"


def test_a_device_that_is_gone_is_recovered_while_its_host_is_there(put_aside: Lab) -> None:
    put_aside.come()
    assert put_aside.maintain(FIRST_PROBE_S) == [Recovery(1, "d", 0)]
    assert put_aside.maintain(FIRST_PROBE_S) == []
    with writing(put_aside.engine) as connection:
        [host_id] = connection.execute(select(hosts.c.id)).scalars()
        set_host_presence(connection, host_id, "lost", "pulled", put_aside.clock())
    assert put_aside.maintain(100 * FIRST_PROBE_S) == []
    put_aside.come()
    assert put_aside.maintain() == [Recovery(1, "d", 1)]
    put_aside.come(put_aside.device)
    put_aside.maintain(10_000)
    put_aside.finish(10.0)
    assert put_aside.row().admin == "enabled"


def test_a_kind_without_a_canary_is_left_to_a_person_and_says_so(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab("toaster")
    lab.tell(SICK, SICK, SICK)
    for _ in range(3):
        assert lab.maintain(FIRST_PROBE_S) == []
    row = lab.row()
    assert row.probe_at is None
    assert row.admin_why == (
        "failed 3 times in a row, last: it is sick; "
        "no canary can probe it (none is known for a toaster): release it by hand"
    )
    assert len(lab.history()) == 2
    lab.set("enabled")
    assert lab.row().admin == "enabled"


def test_a_real_device_is_probed_by_a_small_model_on_a_runtime_of_its_host(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab("cpu")
    lab.tell(SICK, SICK, SICK)
    lab.maintain(FIRST_PROBE_S)
    [canary] = lab.canaries()
    assert canary.title == "torchvision/mobilenet_v3_small on torch fp32, d0"


def test_a_phone_is_probed_by_a_tool_that_there_is_for_it(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab("android")
    lab.come(replace(lab.device, attributes={"runtimes": ("executor-runner",), "abi": "arm64-v8a"}))
    lab.tell(SICK, SICK, SICK)
    lab.maintain(FIRST_PROBE_S)
    [canary] = lab.canaries()
    assert canary.title == "torchvision/mobilenet_v3_small on executor-runner fp32, d0"


def test_releasing_by_hand_cancels_the_canary_that_waits(put_aside: Lab) -> None:
    put_aside.maintain(FIRST_PROBE_S)
    put_aside.set("enabled", why="it was the cable")
    assert [row.state for row in put_aside.canaries()] == ["cancelled"]
    assert put_aside.history()[-1] == ("quarantined", "enabled", "it was the cable")
    put_aside.tell(SICK)
    assert put_aside.row().failures_in_row == 1


def test_what_a_person_put_aside_is_not_probed(lab: Lab) -> None:
    lab.set("quarantined", why="smells")
    assert lab.maintain(10_000) == []
    assert lab.canaries() == []
    row = lab.row()
    assert (row.admin_by, row.admin_why) == ("ada", "smells")
    with pytest.raises(UsageError, match="device d0: it is quarantined already, by ada"):
        lab.set("quarantined", who="bob")


def test_an_unknown_device_is_refused(lab: Lab) -> None:
    with pytest.raises(UsageError, match="no device 7"), writing(lab.engine) as connection:
        set_admin(connection, 7, "draining", who="ada", why=None, now=NOW)


def test_many_outcomes_of_many_devices_cost_few_statements(lab: Lab) -> None:
    lab.come(*[replace(lab.device, key=f"d{number}", name=f"d{number}") for number in range(1000)])
    counted: list[str] = []
    with writing(lab.engine) as connection:

        def count(*args: Any) -> None:
            counted.append(args[2])

        event.listen(connection, "before_cursor_execute", count)
        told = [Outcome(device_id=number, used_s=1.0) for number in range(1, 1001)]
        note_outcomes(connection, told, who="dispatcher", now=lab.clock())
    assert len(counted) == 1


def test_a_canary_is_no_users_latest_run(put_aside: Lab) -> None:
    put_aside.maintain(FIRST_PROBE_S)
    with reading(put_aside.engine) as connection:
        assert known_run(connection, 1) == 1
        with pytest.raises(UsageError, match="nothing was run yet"):
            known_run(connection, None)
