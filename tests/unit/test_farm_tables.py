"""Tables of a farm: what is simulated says so, what waits says for what."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

from rich.console import Console, RenderableType

from exporters.farm_tables import devices_table, jobs_table, status_view
from exporters.tables import results_view
from tests.unit.builders import NOW, make_row


def shown(renderable: RenderableType, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def make_job(**changed: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": 1,
        "run": 2,
        "owner": "ci",
        "priority": 0,
        "kind": "measure",
        "state": "queued",
        "title": "sim/tiny on sim fp32, any device",
        "device": None,
        "queue_position": None,
        "expected_start": None,
        "why": None,
    }
    return values | changed


def test_a_job_says_where_in_the_queue_it_is_and_when_it_begins() -> None:
    text = shown(jobs_table([make_job(queue_position=7, expected_start=NOW + timedelta(seconds=90), priority=3)], NOW))
    assert "ci (+3)" in text
    assert " 7 " in text
    assert "in 1 min 30 s" in text


def test_a_device_that_is_put_aside_says_why() -> None:
    device = {
        "label": "phone-1 (simulated)",
        "kind": "sim",
        "host": "lab-1",
        "attributes": {"model": "Pixel 8"},
        "presence": "online",
        "admin": "quarantined",
        "tags": ("canary",),
        "admin_why": "three failures",
    }
    text = shown(devices_table([device]))
    for part in ("phone-1 (simulated)", "Pixel 8", "quarantined", "canary", "three failures"):
        assert part in text


def status(**changed: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "at": NOW,
        "dispatcher": {"alive": True, "host": "head", "pid": 7},
        "hosts": [],
        "devices": {"idle": 1200, "busy": 3},
        "set_aside": [],
        "queue": [{"owner": "ci", "wants": "any device", "jobs": 123456, "first_waits_s": 70.0}],
        "blocked": 5,
        "running_count": 1,
        "running": [
            {
                "job": 9,
                "what": "x",
                "owner": "ci",
                "place": "sim:1",
                "since": NOW - timedelta(seconds=30),
                "expected_end": NOW - timedelta(seconds=10),
            }
        ],
        "failures": [{"job": 8, "what": "y", "code": "c", "why": "z" * 500, "at": NOW - timedelta(seconds=5)}],
    }
    return values | changed


def test_a_farm_at_a_glance() -> None:
    text = shown(status_view(status()))
    assert "dispatcher: process 7 on head" in text
    assert "1,200 idle, 3 busy" in text
    assert "123,456 queued, 5 blocked" in text
    assert "1 min 10 s" in text
    assert "10 s over" in text
    assert "z" * 101 not in text
    assert "no dispatcher" in shown(status_view(status(dispatcher={"alive": False, "host": None, "pid": None})))


def results(*rows: dict[str, Any]) -> str:
    return shown(results_view(rows, [], [], width=200))


def test_simulated_results_say_so_and_never_share_a_table_with_real_ones() -> None:
    assert "on host-1-cpu (simulated)" in results(make_row(simulated=True))
    interval = {"p50_ci_ms": [1.0, 2.0]}
    many = [make_row(device=f"d{number}", p50_ms=10.0 - number, **interval) for number in range(4)]
    made_up = [make_row(device=f"s{number}", simulated=True, p50_ms=0.1, **interval) for number in range(4)]
    real, simulated = results(*many, *made_up).split("on simulated devices")
    assert "on each device" in real
    assert [line.split()[0] for line in real.splitlines() if line.startswith(" d") and "device" not in line] == [
        "d3",
        "d2",
        "d1",
        "d0",
    ]
    assert "s0" not in real
    assert " d0" not in simulated
    assert "s0 (simulated)" in simulated
