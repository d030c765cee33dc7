"""scheduler.forecast: place in the queue, expected start, and why there is none."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from device_registry.database import insert_row, open_engine, writing
from device_registry.registry import devices, hosts
from scheduler.forecast import Ahead, Forecast, estimate, forecast
from scheduler.payloads import payload_id
from scheduler.placement import rank_of
from scheduler.queue import sweep_runs
from scheduler.requirements import requirement_id
from scheduler.states import attempts, jobs
from tests.unit.builders import NOW
from tests.unit.scheduler.databases import Databases

remaining = st.lists(st.floats(0, 1000), min_size=1, max_size=6)
work = st.lists(st.builds(Ahead, st.integers(0, 9), st.floats(0, 1000)), max_size=4)


@given(ahead=work, free_in_s=remaining)
def test_a_job_begins_when_its_places_have_done_what_is_ahead(ahead: list[Ahead], free_in_s: list[float]) -> None:
    found = estimate(ahead, free_in_s)
    assert found.position == 1 + sum(group.count for group in ahead)
    assert found.starts_in_s is not None
    done_s = sum(max(0.0, found.starts_in_s - free_s) for free_s in free_in_s)
    assert done_s == pytest.approx(sum(group.work_s for group in ahead), abs=1e-6)
    assert found.starts_in_s >= min(free_in_s)


@given(ahead=work)
def test_without_a_place_there_is_no_time_but_a_reason(ahead: list[Ahead]) -> None:
    assert estimate(ahead, [], "all are asleep") == Forecast(
        position=1 + sum(group.count for group in ahead), starts_in_s=None, why="all are asleep"
    )


class Rows:
    """A farm as rows, and no more."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.numbers = itertools.count(1)
        description = {
            "cpu_count": 2,
            "runtimes": [{"name": "torch", "versions": {}, "why_not": None, "fix": None}],
            "converters": [],
            "sources": [],
        }
        self.host_id = insert_row(
            connection,
            hosts,
            key="lab",
            name="lab",
            description=description,
            agent_version="3",
            presence="online",
            labels={},
            last_seen_at=NOW,
        )
        self.runs = [
            insert_row(
                connection, sweep_runs, request={}, request_digest="x", unsupported=[], owner="ann", created_at=NOW
            )
            for _ in range(2)
        ]

    def device(self, name: str, **changed: Any) -> int:
        """A device that is online and enabled."""
        values: dict[str, Any] = {"kind": "cpu", "driver": "cpu", "attributes": {}, "presence": "online"}
        values |= {
            "admin": "enabled",
            "tags": [],
            "failures_in_row": 0,
            "probes": 0,
            "used_s": 0.0,
            "last_seen_at": NOW,
        }
        return insert_row(self.connection, devices, key=name, name=name, host_id=self.host_id, **(values | changed))

    def pinned(self, device_id: int, needs: tuple[str, ...] = ("runtime:torch",)) -> int:
        """A requirement of one device."""
        return requirement_id(self.connection, "device", device_id=device_id, needs=needs)

    def job(
        self, requirement: int, *, run: int = 0, priority: int = 0, expected_s: float = 10.0, **changed: Any
    ) -> int:
        """A queued job."""
        number = next(self.numbers)
        values: dict[str, Any] = {"kind": "measure", "state": "queued", "owner": "ann", "position": number, "title": ""}
        values |= {
            "repeat_no": 0,
            "avoid": [],
            "canary": False,
            "payload_id": payload_id(self.connection, {}),
            "attempts": 0,
        }
        values |= {"created_at": NOW, "changed_at": NOW, "rank": rank_of(NOW.timestamp() + run, priority)}
        return insert_row(
            self.connection,
            jobs,
            requirement_id=requirement,
            sweep_run_id=self.runs[run],
            priority=priority,
            expected_s=expected_s,
            **(values | changed),
        )

    def busy(self, place: str, job_id: int, since: datetime) -> None:
        """A job runs there."""
        insert_row(
            self.connection,
            attempts,
            job_id=job_id,
            host_id=self.host_id,
            place=place,
            token="t",
            state="running",
            lease_until=NOW,
            started_at=since,
        )

    def forecast(self, *job_ids: int) -> list[tuple[int, float | None, str | None]]:
        """Position, expected start and reason of each."""
        found = forecast(self.connection, job_ids, NOW)
        return [(found[one].position, found[one].starts_in_s, found[one].why) for one in job_ids]


@pytest.fixture
def rows(tmp_path: Path, databases: Databases) -> Iterator[Rows]:
    """A farm of one host that runs torch."""
    url = databases.fresh(tmp_path)
    engine = open_engine(url)
    with writing(engine) as connection:
        yield Rows(connection)
    engine.dispose()
    databases.drop(url)


def test_jobs_of_a_device_go_one_after_the_other(rows: Rows) -> None:
    wanted, other = rows.pinned(rows.device("d1")), rows.pinned(rows.device("d2"))
    first, second, third = rows.job(wanted), rows.job(wanted), rows.job(wanted)
    elsewhere = rows.job(other)
    assert rows.forecast(first, second, third, elsewhere) == [
        (1, 0.0, None),
        (2, 10.0, None),
        (3, 20.0, None),
        (1, 0.0, None),
    ]


def test_what_runs_and_what_is_more_urgent_goes_before(rows: Rows) -> None:
    wanted = rows.pinned(rows.device("d1"))
    running = rows.job(wanted, state="running", expected_s=30.0)
    rows.busy("d1", running, NOW - timedelta(seconds=12))
    early, late, urgent = rows.job(wanted), rows.job(wanted, run=1), rows.job(wanted, run=1, priority=1)
    assert rows.forecast(urgent, early, late) == [(1, 18.0, None), (2, 28.0, None), (3, 38.0, None)]


def test_what_takes_longer_than_expected_may_end_at_any_moment(rows: Rows) -> None:
    wanted = rows.pinned(rows.device("d1"))
    rows.busy("d1", rows.job(wanted, state="running"), NOW - timedelta(hours=1))
    assert rows.forecast(rows.job(wanted)) == [(1, 0.0, None)]


def test_work_that_may_go_elsewhere_counts_by_the_share_that_falls_here(rows: Rows) -> None:
    pinned = rows.pinned(rows.device("d1"))
    rows.device("d2")
    anywhere = requirement_id(rows.connection, "device", needs=["runtime:torch"])
    moving = [rows.job(anywhere, expected_s=40.0) for _ in range(2)]
    assert rows.forecast(rows.job(pinned, run=1), moving[1], rows.job(anywhere, run=1)) == [
        (3, 40.0, None),
        (2, 20.0, None),
        (4, 45.0, None),
    ]


def test_a_pause_of_the_job_or_of_the_device_is_waited_for(rows: Rows) -> None:
    cooling = rows.pinned(rows.device("d1", not_before=NOW + timedelta(seconds=50)))
    wanted = rows.pinned(rows.device("d2"))
    paused = rows.job(wanted, not_before=NOW + timedelta(seconds=7))
    assert rows.forecast(rows.job(cooling), paused) == [(1, 50.0, None), (1, 7.0, None)]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"presence": "offline"}, "d1 is offline"),
        ({"admin": "quarantined"}, "d1 is quarantined"),
        ({"admin": "draining"}, "d1 is draining"),
    ],
)
def test_a_device_that_takes_no_work_is_named(rows: Rows, changed: dict[str, str], why: str) -> None:
    assert rows.forecast(rows.job(rows.pinned(rows.device("d1", **changed)))) == [(1, None, why)]


def test_a_canary_begins_on_the_quarantined_device(rows: Rows) -> None:
    canary = rows.job(rows.pinned(rows.device("d1", admin="quarantined")), canary=True)
    assert rows.forecast(canary) == [(1, 0.0, None)]


def test_of_many_devices_the_reasons_are_counted(rows: Rows) -> None:
    for number, presence in enumerate(["offline", "offline", "unauthorized"]):
        rows.device(f"d{number}", presence=presence)
    anywhere = requirement_id(rows.connection, "device", needs=["runtime:torch"])
    why = "none of the 3 that fit takes work: 2 offline, 1 unauthorized"
    assert rows.forecast(rows.job(anywhere)) == [(1, None, why)]


def test_what_nothing_fits_is_said(rows: Rows) -> None:
    device_id = rows.device("d1")
    rare = requirement_id(rows.connection, "device", selector="os>=14")
    missing = rows.pinned(device_id, ("runtime:litert",))
    assert [why for _, _, why in rows.forecast(rows.job(rare), rows.job(missing))] == [
        "no device matches os>=14",
        "no device that fits offers runtime:litert",
    ]


def test_a_lost_host_is_named(rows: Rows) -> None:
    wanted = rows.pinned(rows.device("d1"))
    slot = requirement_id(rows.connection, "slot", host_id=rows.host_id)
    rows.connection.execute(hosts.update().values(presence="lost"))
    found = rows.forecast(rows.job(wanted), rows.job(slot, kind="convert"))
    assert found == [
        (1, None, "d1 is on lab, which is lost"),
        (1, None, "none of the 2 that fit takes work: 2 on lab, which is lost"),
    ]


def test_only_queued_jobs_have_a_forecast(rows: Rows) -> None:
    wanted = rows.pinned(rows.device("d1"))
    assert forecast(rows.connection, [rows.job(wanted, state="blocked"), 99], NOW) == {}
