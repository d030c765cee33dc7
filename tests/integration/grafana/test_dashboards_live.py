"""Every query of every dashboard, asked as Grafana asks: none fails, and what is empty says why."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import psycopg
import pytest

from dashboards.documents import FOLDER, documents
from exporters.server import MetricsServer
from scheduler import schema
from scheduler.home import Home
from scheduler.views import VIEWS
from tests.integration.grafana.asking import Answer, Asker, check_time_series
from tests.integration.grafana.grafana_text import Picked, Range
from tests.integration.grafana.live_farm import LiveFarm
from tests.postgres import PostgresServer, needs_postgres
from tests.prometheus import PrometheusServer, needs_prometheus
from workers.devices.sim_fleet import FLEET_VARIABLE

pytestmark = [needs_postgres, needs_prometheus]

#: Queries that get nothing of this farm, and why that is right. Whatever else gets nothing is a mistake.
EMPTY: Mapping[tuple[str, str, str], str] = {
    ("benchfarm-operations", "Nodes of the cluster", "A"): "no Ray is scraped here",
    ("benchfarm-operations", "CPU of nodes", "A"): "no Ray is scraped here",
    ("benchfarm-operations", "Memory of nodes", "A"): "no Ray is scraped here",
}
#: As deploy/prometheus has it, at another pace.
_CONFIGURATION = """
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: benchfarm
    static_configs: [{targets: ["%s"]}]
"""
_FIELD = re.compile(r"\$\{__data\.fields\.(\w+):percentencode\}")
_LABEL = re.compile(r"\$\{__field\.labels\.(\w+):percentencode\}")


@pytest.fixture(scope="module")
def asker(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    """Both data sources, after a farm worked: SQL as a role that may read the views and nothing else."""
    folder = tmp_path_factory.mktemp("live")
    postgres.execute("CREATE DATABASE dashboards")
    url = postgres.url("dashboards")
    schema.migrate(url)
    views = ", ".join(view.name for view in VIEWS)
    postgres.execute(
        "CREATE ROLE dashboards_reader LOGIN", f"GRANT SELECT ON {views} TO dashboards_reader", database="dashboards"
    )
    home = Home(folder / "home", url, f"file://{folder / 'store'}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHFARM_HOME", str(home.path))
        patch.setenv(FLEET_VARIABLE, str(folder / "fleet.json"))
        began = time.time()
        farm = LiveFarm(home, folder / "fleet.json")
        farm.begin()
        exporter = MetricsServer(url, home.path, "127.0.0.1", 0)
        prometheus = PrometheusServer(folder / "prometheus", _CONFIGURATION % exporter.address)
        try:
            # The exporter looks anew every few seconds: what is to be seen as a change happens between two looks.
            _until(farm, prometheus, "benchfarm_exporter_scrape_success == 1")
            farm.go_on()
            _until(farm, prometheus, 'sum(benchfarm_attempts_total{outcome="succeeded"}) > 50')
            _until(farm, prometheus, "sum(benchfarm_device_reconnects_total) > 0")
            farm.end()
            _until(farm, prometheus, "sum(benchfarm_queue_oldest_seconds) > 0")
            _until(farm, prometheus, "sum(benchfarm_incidents_open) > 0")
            _until(farm, prometheus, 'sum(benchfarm_watched_series{sight="blind"}) > 0')
            connection = psycopg.connect(
                host=str(postgres.folder), port=postgres.port, user="dashboards_reader", dbname="dashboards"
            )
            connection.read_only = connection.autocommit = True
            with connection:
                yield Asker(prometheus, connection, Range(float(int(began) - 60), float(int(time.time()) + 2)))
        finally:
            prometheus.end()
            exporter.close()
            farm.close()
    postgres.execute("DROP DATABASE dashboards", "DROP ROLE dashboards_reader")


def _until(farm: LiveFarm, prometheus: PrometheusServer, expr: str) -> None:
    deadline = time.monotonic() + 60
    while prometheus.value(expr) is None:
        assert time.monotonic() < deadline, f"never: {expr}"
        farm.tick()


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.json")))
def test_every_query_is_answered(asker: Asker, name: str) -> None:
    board = json.loads((FOLDER / name).read_text())
    panels = [panel for panel in board["panels"] if panel.get("targets")]
    got: dict[tuple[str, str, str], bool] = {}
    offered: dict[str, bool] = {}
    for picked in asker.picks(board["templating"]["list"]):
        for variable, pick in picked.items():
            offered[variable] = offered.get(variable, False) or bool(pick.value)
        for panel in panels:
            answers = [asker.answer(target, picked) for target in panel["targets"]]
            for target, answer in zip(panel["targets"], answers, strict=True):
                query = (board["uid"], panel["title"], target["refId"])
                got[query] = got.get(query, False) or bool(answer.rows)
                if target.get("format") == "time_series" and "rawSql" in target:
                    check_time_series(answer)
                _check_sense(panel, answer)
            _check_columns(panel, answers)
    for mark in board["annotations"]["list"]:
        assert _annotations(asker, board, mark), f"{mark['name']} never marks anything"
    assert all(offered.values()), offered
    empty = {query for query, filled in got.items() if not filled}
    allowed = {query for query in EMPTY if query[0] == board["uid"]}
    assert empty == allowed


def test_what_may_be_empty_is_there_and_says_why() -> None:
    said = {
        (board["uid"], panel["title"], target["refId"]): panel["fieldConfig"]["defaults"]["noValue"]
        for board in documents()
        for panel in board["panels"]
        for target in panel.get("targets", ())
    }
    assert set(EMPTY) <= set(said)
    assert all(said[query] for query in EMPTY)


def test_an_empty_farm_is_no_error(postgres: PostgresServer, asker: Asker) -> None:
    """Nothing is offered and nothing picked before the first device joins: every query is still answered."""
    for board in documents():
        picked = {
            variable["name"]: Picked((), many=True) if variable.get("includeAll") else Picked("")
            for variable in board["templating"]["list"]
        }
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                asker.answer(target, picked)


def _annotations(asker: Asker, board: Mapping[str, Any], mark: Mapping[str, Any]) -> bool:
    """Whether it marks something for some pick; columns are those that Grafana reads."""
    found = False
    for picked in asker.picks(board["templating"]["list"]):
        answer = asker.answer(mark["target"], picked)
        assert {"time", "text"} <= set(answer.columns) <= {"time", "timeend", "text", "tags"}
        found = found or bool(answer.rows)
    return found


def _check_columns(panel: Mapping[str, Any], answers: list[Answer]) -> None:
    """What a panel names is among what it gets: columns of overrides, links, transformations."""
    columns = {column for answer in answers for column in answer.columns}
    transformed = {step["id"]: step["options"] for step in panel.get("transformations", ())}
    if (matrix := transformed.get("groupingToMatrix")) is not None:
        wanted = {matrix[name] for name in ("columnField", "rowField", "valueField")}
        assert wanted == columns, panel["title"]
        return
    named = {
        override["matcher"]["options"]
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"]["id"] == "byName"
    }
    texts = json.dumps(panel["fieldConfig"])
    named |= set(_FIELD.findall(texts))
    if not all(answer.rows for answer in answers) and "rawSql" not in panel["targets"][0]:
        return  # without series no labels are known
    assert named <= columns, (panel["title"], named - columns)
    assert set(_LABEL.findall(texts)) <= columns, panel["title"]


def _check_sense(panel: Mapping[str, Any], answer: Answer) -> None:
    """Numbers fit the unit that they are shown in."""
    units: dict[str, str] = {
        override["matcher"]["options"]: item["value"]
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"]["id"] == "byName"
        for item in override["properties"]
        if item["id"] == "unit"
    }
    steps = {step["id"]: step["options"] for step in panel.get("transformations", ())}
    value = steps.get("groupingToMatrix", {}).get("valueField")
    for column in answer.columns:
        unit = units.get(column)
        if unit is None and panel["type"] == "table" and column != value:
            continue
        unit = unit or panel["fieldConfig"]["defaults"]["unit"]
        if column == "time":
            continue
        if unit.startswith("dateTime"):
            index = answer.columns.index(column)
            assert all(row[index] is None or isinstance(row[index], datetime) for row in answer.rows), column
            continue
        for number in answer.numbers(column):
            low, high = _BOUNDS.get(unit, (-1e18, 1e18))
            assert low <= number <= high, (panel["title"], column, unit, number)


#: What numbers of this farm can be, in each unit.
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "percentunit": (0, 1),
    "celsius": (10, 120),
    "ms": (0.01, 1e4),
    "s": (0, 1e4),
    "joule": (1e-4, 10),
    "watt": (0.01, 100),
    "amp": (-5, 5),
    "hertz": (1e8, 1e10),
    "decbytes": (1, 1e15),
}
