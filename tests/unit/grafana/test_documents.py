"""The committed dashboards: what the code makes, what Grafana's schema admits, and what every panel must have."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from dashboards import links
from dashboards.documents import documents, texts, write
from dashboards.generate import generate
from dashboards.queries import FOREIGN_METRICS, METRICS, checked_promql, checked_sql, metrics_in, views_in
from exporters.grafana import FOLDER

Panel = Mapping[str, Any]
SCHEMA: Mapping[str, Any] = json.loads((Path(__file__).parent / "schema.json").read_text())
BOARDS = {board["uid"]: board for board in documents()}
PROVISIONING = Path(__file__).parents[3] / "deploy" / "grafana" / "provisioning"
#: Options of fields that are not of one kind of panel.
_OF_EVERY_KIND = {
    "displayName",
    "unit",
    "decimals",
    "noValue",
    "mappings",
    "thresholds",
    "color",
    "links",
    "min",
    "max",
}
#: Grafana's names of units that are used; `suffix:` takes any text.
_UNITS = {"none", "short", "s", "ms", "celsius", "percentunit", "decbytes", "joule", "watt", "amp", "hertz", "dB"}
_UNITS |= {"dateTimeFromNow", "dateTimeAsIso", "bool_yes_no"}
_VARIABLE = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$(\w+)")
_MATCHER = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"")


def panels(board: Mapping[str, Any]) -> list[Panel]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def every_panel() -> Iterator[Any]:
    for uid, board in BOARDS.items():
        for panel in panels(board):
            yield pytest.param(board, panel, id=f"{uid}-{panel['title']}")


def test_the_committed_json_is_what_the_code_makes() -> None:
    assert texts() == generate(), "run python -m dashboards and commit what it writes"


def test_another_process_makes_the_same(tmp_path: Path) -> None:
    environment = {"PYTHONHASHSEED": "7", "PATH": ""}
    subprocess.run([sys.executable, "-m", "dashboards", str(tmp_path)], check=True, env=environment)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == texts()


def test_without_the_sdk_making_them_says_what_to_install() -> None:
    code = "import runpy, sys; sys.modules['grafana_foundation_sdk'] = None; "
    code += "runpy.run_module('dashboards', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "benchfarm[grafana]" in done.stderr


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    assert [path.name for path in write(texts(), tmp_path / "new")] == list(texts())
    (tmp_path / "new" / "benchfarm-run.json").write_text("{}")
    assert [path.name for path in write(texts(), tmp_path / "new")] == ["benchfarm-run.json"]


def test_there_is_one_for_each_purpose() -> None:
    wanted = {links.FLEET, links.DEVICE, links.MODEL, links.RUN, links.HISTORY, links.OPERATIONS}
    wanted |= {links.REGRESSIONS}
    assert set(BOARDS) == wanted
    assert {f"{uid}.json" for uid in wanted} == set(texts())


@pytest.mark.parametrize("uid", sorted(BOARDS))
def test_grafanas_schema_admits_it(uid: str) -> None:
    board = json.loads(json.dumps(BOARDS[uid]))
    for mark in board["annotations"]["list"]:
        assert set(mark.pop("target")) == {"datasource", "editorMode", "format", "rawQuery", "rawSql", "refId"}
    Draft7Validator(SCHEMA["dashboard"]).validate(board)


@pytest.mark.parametrize(("board", "panel"), list(every_panel()))
def test_the_schema_of_its_kind_admits_a_panel(board: Mapping[str, Any], panel: Panel) -> None:
    Draft7Validator(SCHEMA["options"][panel["type"]]).validate(panel["options"])
    custom = SCHEMA["custom"].get(panel["type"])
    if custom is None:
        assert "custom" not in panel.get("fieldConfig", {}).get("defaults", {})
        return
    Draft7Validator(custom).validate(panel["fieldConfig"]["defaults"]["custom"])
    own = set(custom["definitions"]["FieldConfig"]["properties"]) | {"hidden"}  # as Grafana before 12 has it
    for override in panel["fieldConfig"]["overrides"]:
        for item in override["properties"]:
            name = item["id"]
            assert name in _OF_EVERY_KIND or name.removeprefix("custom.") in own, name


def test_the_schema_finds_a_misspelt_key() -> None:
    board = json.loads(texts()["benchfarm-operations.json"])
    board["annotations"]["list"] = []
    assert not list(Draft7Validator(SCHEMA["dashboard"]).iter_errors(board))
    board["panels"][1]["grid_pos"] = board["panels"][1].pop("gridPos")
    assert list(Draft7Validator(SCHEMA["dashboard"]).iter_errors(board))


@pytest.mark.parametrize(("board", "panel"), list(every_panel()))
def test_a_panel_says_what_it_shows_and_why_it_may_be_empty(board: Mapping[str, Any], panel: Panel) -> None:
    if panel["type"] == "text":
        assert panel["options"]["content"]
        return
    assert panel["title"]
    assert panel["description"].endswith(".")
    defaults = panel["fieldConfig"]["defaults"]
    assert len(defaults["noValue"]) > 5
    units = [defaults["unit"]]
    units += [
        item["value"]
        for override in panel["fieldConfig"]["overrides"]
        for item in override["properties"]
        if item["id"] == "unit"
    ]
    assert all(unit in _UNITS or unit.startswith("suffix:") for unit in units), units
    # A description names a view or a metric that the panel asks, or what else tells the number.
    told = {name for target in panel["targets"] for name in _asked(target)}
    short = {name.removeprefix("benchfarm").removesuffix("_bucket") for name in told}
    assert any(name in panel["description"] for name in told | short) or panel["type"] == "stat", told


@pytest.mark.parametrize(("board", "panel"), list(every_panel()))
def test_queries_name_what_there_is(board: Mapping[str, Any], panel: Panel) -> None:
    known = {variable["name"] for variable in board["templating"]["list"]}
    for target in panel.get("targets", ()):
        text = target.get("rawSql") or target["expr"]
        used = {a or b for a, b in _VARIABLE.findall(text)}
        assert {name for name in used if not name.startswith("__")} <= known
        kind = "grafana-postgresql-datasource" if "rawSql" in target else "prometheus"
        assert target["datasource"]["type"] == kind
        if "rawSql" in target:
            assert checked_sql(text) == text
            continue
        assert checked_promql(text) == text
        own = [METRICS[name] for name in metrics_in(text) if name in METRICS]
        labels = {label for metric in own for label in metric.label_names}
        assert set(_MATCHER.findall(text)) <= labels


@pytest.mark.parametrize("uid", sorted(BOARDS))
def test_panels_fill_the_grid_and_have_names_of_their_own(uid: str) -> None:
    board = BOARDS[uid]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    titles = [panel["title"] for panel in panels(board)]
    assert len(set(titles)) == len(titles)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


@pytest.mark.parametrize("uid", sorted(BOARDS))
def test_links_lead_to_dashboards_and_variables_that_are_there(uid: str) -> None:
    board = BOARDS[uid]
    own = {variable["name"] for variable in board["templating"]["list"]}
    urls = re.findall(r'"url": "(/d/[^"]+)"', json.dumps(board))
    assert uid == links.OPERATIONS or len(urls) > 1
    for url in urls:
        path, _, query = url.partition("?")
        there = {variable["name"] for variable in BOARDS[path.removeprefix("/d/")]["templating"]["list"]}
        given = set(re.findall(r"var-(\w+)=", query))
        carried = set(re.findall(r"\$\{(\w+):queryparam\}", query))
        assert given | carried <= there, url
        assert carried <= own, url
        assert {"prometheus", "postgresql"} <= carried
    [to_others] = board["links"]
    assert to_others["includeVars"]
    assert to_others["keepTime"]
    assert set(to_others["tags"]) <= set(board["tags"])


@pytest.mark.parametrize("uid", sorted(BOARDS))
def test_what_is_offered_depends_on_what_was_picked_before(uid: str) -> None:
    seen: set[str] = set()
    for variable in BOARDS[uid]["templating"]["list"]:
        query = variable.get("query")
        text = query if isinstance(query, str) else json.dumps(query)
        if variable["type"] == "query":
            assert {a or b for a, b in _VARIABLE.findall(text)} <= seen, variable["name"]
        seen.add(variable["name"])
    assert seen >= {"prometheus", "postgresql"}


def test_rankings_leave_simulated_devices_out_unless_asked() -> None:
    [variable] = [one for one in BOARDS[links.MODEL]["templating"]["list"] if one["name"] == "simulated"]
    assert variable["current"]["value"] == "false"
    for panel in panels(BOARDS[links.MODEL]):
        for target in panel["targets"]:
            if views_in(target["rawSql"]) & {
                "latest_result",
                "variant_vs_baseline",
                "device_vs_device",
                "energy_vs_latency",
            }:
                assert "${simulated:sqlstring}" in target["rawSql"], panel["title"]


@pytest.mark.parametrize("expr", ["sum(benchfarm_device_upp)", "rate(benchfarm_nothing_total[5m])", "ray_nothing"])
def test_a_metric_that_nobody_exports_is_an_error(expr: str) -> None:
    with pytest.raises(ValueError, match="no metric"):
        checked_promql(expr)


@pytest.mark.parametrize("sql", ["SELECT 1 FROM device", "SELECT 1 FROM coverage JOIN telemetry ON true"])
def test_what_is_no_view_is_an_error(sql: str) -> None:
    with pytest.raises(ValueError, match="no view"):
        checked_sql(sql)


def test_rays_metrics_are_rays() -> None:
    """Ray's reporter names them, without its prefix."""
    spec = find_spec("ray")  # importing it would take a second
    assert spec is not None
    assert spec.origin is not None
    reporter = Path(spec.origin).parent / "dashboard" / "modules" / "reporter" / "reporter_agent.py"
    reported = set(re.findall(r'"(\w+)": Gauge\(', reporter.read_text()))
    wanted = {name.removeprefix("ray_") for name in FOREIGN_METRICS if name.startswith("ray_")}
    assert wanted
    assert wanted <= reported


def test_provisioned_data_sources_are_those_that_dashboards_pick() -> None:
    given = yaml.safe_load((PROVISIONING / "datasources" / "benchfarm.yml").read_text())["datasources"]
    uids = {source["type"]: source["uid"] for source in given}
    for board in BOARDS.values():
        for variable in board["templating"]["list"]:
            if variable["type"] == "datasource":
                assert variable["current"]["value"] == uids[variable["query"]]
    secrets = [source["secureJsonData"] for source in given if "secureJsonData" in source]
    assert all(value.startswith("$__file{") for secret in secrets for value in secret.values())


def test_provisioned_dashboards_lie_in_the_folder_that_the_publisher_uses() -> None:
    [provider] = yaml.safe_load((PROVISIONING / "dashboards" / "benchfarm.yml").read_text())["providers"]
    assert provider["folderUid"] == FOLDER
    assert provider["type"] == "file"


def _asked(target: Mapping[str, Any]) -> set[str]:
    return views_in(target["rawSql"]) if "rawSql" in target else metrics_in(target["expr"])
