"""A real Prometheus scrapes a real exporter over a farm that a real dispatcher fills: values, alerts, and faults."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, text

from device_registry.capabilities import DeviceDescription
from device_registry.database import writing
from device_registry.registry import devices
from scheduler.schema import HEAD
from tests.acceptance.conftest import environment
from tests.faults.hosts import wait_until
from tests.integration.prometheus.test_rules import FOLDER
from tests.postgres import PostgresServer, needs_postgres
from tests.prometheus import PrometheusServer, free_port, needs_prometheus
from tests.unit.scheduler.builders import CRASHED, ONNX, TORCH, Farm, only, plan_of
from tests.unit.scheduler.databases import PostgresDatabases

pytestmark = [needs_prometheus, needs_postgres]


class Lab:
    """Everything together."""

    def __init__(self, folder: Path) -> None:
        self.database = PostgresServer()
        self.farm = Farm(folder / "farm", PostgresDatabases(self.database), kind="sim", devices=3)
        self.farm.clock.now = datetime.now(UTC)
        marked = [replace(device, attributes={"simulated": True}) for device in self.farm.host.devices]
        self.farm.host.plug([*marked, DeviceDescription(key="here:p", name="phone", kind="android", driver="scripted")])
        self.farm.tick(0)
        self.port = free_port()
        self.log = folder / "exporter.log"
        with self.log.open("wb") as log:
            self.exporter = subprocess.Popen(
                [sys.executable, "-m", "benchfarm", "exporter", "--listen", f"127.0.0.1:{self.port}"],
                env=environment(folder / "home") | {"BENCHFARM_DATABASE_URL": self.farm.url},
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        for file in (FOLDER / "rules").glob("*.yml"):
            soon = re.sub(r"for: \d+m", "for: 2s", file.read_text())
            (folder / file.name).write_text(soon.replace("interval: 30s", "interval: 1s"))
        self.prometheus = PrometheusServer(folder / "prometheus", _CONFIGURATION.format(folder=folder, port=self.port))

    def close(self) -> None:
        self.prometheus.end()
        if self.exporter.poll() is None:
            self.exporter.kill()
        self.exporter.wait()
        try:
            self.farm.close()
        finally:
            self.database.remove()

    def settle(self) -> None:
        """Work until nothing is left to do, in the present."""
        self.farm.clock.now = datetime.now(UTC)
        for _ in range(8):
            self.farm.tick(0)

    def shows(self, expression: str, wanted: float | None, doing: str = "") -> None:
        """Wait until Prometheus has a value."""
        wait_until(lambda: self.prometheus.value(expression) == wanted, 60, doing=f"{expression} == {wanted} {doing}")

    def firing(self) -> set[tuple[str, str]]:
        """(alert, device) of what fires."""
        found = map(dict, self.prometheus.query('ALERTS{alertstate="firing"}'))
        return {(labels["alertname"], labels.get("device", "")) for labels in found}


_CONFIGURATION = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{folder}/recording.yml", "{folder}/alerts.yml"]
scrape_configs:
  - job_name: benchfarm
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One for the module: the tests below go on where the one before ended."""
    made = Lab(tmp_path_factory.mktemp("lab"))
    yield made
    made.close()


def test_the_farm_as_it_is(lab: Lab) -> None:
    lab.shows('up{job="benchfarm"}', 1)
    lab.shows("benchfarm_exporter_scrape_success", 1)
    lab.farm.play(only("measure onnx", CRASHED))
    lab.farm.submit(plan_of(lab.farm.devices(), TORCH, ONNX))
    lab.settle()
    lab.shows('benchfarm_attempts_total{kind="measure", outcome="succeeded"}', 4)
    lab.shows('benchfarm_attempts_total{kind="measure", outcome="failed", cause="model"}', 4)
    lab.shows("sum(benchfarm_results_total)", 4)
    of_phone = '{device="phone", simulated="false", model="net", runtime="torch", options="t1 b1 burst"'
    lab.shows(f"benchfarm_result_latency_seconds{of_phone}, quantile='0.5'}}", 0.001)
    lab.shows("count(benchfarm_result_timestamp_seconds{simulated='true'})", 3)
    lab.shows("benchfarm_devices{device_kind='sim', state='idle'}", 3)
    lab.shows("benchfarm_coverage_cells{device_kind='android', state='failed'}", 1)
    lab.shows("sum(benchfarm_run_seconds_count{kind='measure'})", 8)
    lab.shows("benchfarm:devices_at_work:ratio{device_kind='sim'}", 1)
    unlabelled: dict[str, Any] = lab.prometheus.get("targets", state="active")["activeTargets"][0]
    assert unlabelled["health"] == "up"
    assert unlabelled["lastError"] == ""


def test_a_device_goes_and_its_alert_fires(lab: Lab) -> None:
    assert ("DeviceDown", "d1") not in lab.firing()
    lab.farm.clock.now = datetime.now(UTC)
    staying = [device for device in lab.farm.host.devices if device.name != "d1"]
    lab.farm.host.plug(staying)
    lab.farm.tick(0)
    wait_until(lambda: ("DeviceDown", "d1") in lab.firing(), 60, doing="DeviceDown")
    assert {device for alert, device in lab.firing() if alert == "DeviceDown"} == {"d1"}
    lab.shows("benchfarm_device_up{device='d1'}", 0)


def test_series_vanish_with_their_device(lab: Lab) -> None:
    extra = DeviceDescription(key="here:extra", name="extra", kind="sim", driver="scripted")
    lab.farm.clock.now = datetime.now(UTC)
    lab.farm.host.plug([*lab.farm.host.devices, extra])
    lab.farm.tick(0)
    lab.shows("benchfarm_device_up{device='extra'}", 1)
    with writing(lab.farm.engine) as connection:
        connection.execute(delete(devices).where(devices.c.name == "extra"))
    lab.shows("benchfarm_device_up{device='extra'}", None)
    lab.shows("count({device='extra', __name__=~'benchfarm_.*'})", None)


def test_a_migration_leaves_the_last_state(lab: Lab) -> None:
    lab.shows("benchfarm_exporter_scrape_success", 1)
    with lab.farm.engine.connect() as migrating:  # it holds every lock until it is done
        for table in ("alembic_version", "event", "job", "device"):
            migrating.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        lab.shows("benchfarm_exporter_scrape_success", 0)
        assert lab.prometheus.value("up{job='benchfarm'}") == 1
        assert lab.prometheus.value("benchfarm_device_up{device='phone'}") == 1
        migrating.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        migrating.commit()
    wait_until(lambda: f"the database has schema 9999, this exporter reads {HEAD}" in lab.log.read_text(), 60)
    assert lab.prometheus.value("benchfarm_exporter_scrape_success") == 0
    with writing(lab.farm.engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :head"), {"head": HEAD})
    lab.shows("benchfarm_exporter_scrape_success", 1, "after the migration")


def test_a_database_that_is_killed_comes_back(lab: Lab) -> None:
    lab.database.kill()
    lab.shows("benchfarm_exporter_scrape_success", 0)
    assert lab.prometheus.value("up{job='benchfarm'}") == 1
    assert lab.prometheus.value("benchfarm_device_up{device='phone'}") == 1
    lab.database.start()
    lab.shows("benchfarm_exporter_scrape_success", 1)


def test_it_ends_when_told(lab: Lab) -> None:
    lab.exporter.send_signal(signal.SIGTERM)
    assert lab.exporter.wait(timeout=30) == 0
    lines = lab.log.read_text()
    assert f"metrics at http://127.0.0.1:{lab.port}/metrics" in lines
    assert "metrics show the last good state: " in lines
    assert lines.strip().endswith("the exporter ended")
    assert "password" not in lines
    assert "Traceback" not in lines
