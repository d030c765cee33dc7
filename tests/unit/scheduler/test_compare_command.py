"""`benchfarm compare`, `report` and `results export` over a farm's database: what is printed, written and refused."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import benchfarm
from benchfarm.cli.app import app
from device_registry.errors import UsageError
from device_registry.tables import utc_now
from scheduler.executors.scripted import Succeed
from tests.unit.scheduler.builders import CRASHED, INT8, ONNX, TORCH, Farm, only, plan_of
from tests.unit.scheduler.databases import SqliteDatabases


@pytest.fixture
def empty(tmp_path: Path, sqlite_databases: SqliteDatabases, monkeypatch: pytest.MonkeyPatch) -> Iterator[Farm]:
    """A farm of two devices that measured nothing; a command closes no connection of its own, so it is on SQLite."""
    farm = Farm(tmp_path / "farm", sqlite_databases, devices=2)
    monkeypatch.setenv("BENCHFARM_DATABASE_URL", farm.url)
    monkeypatch.setenv("COLUMNS", "160")
    yield farm
    farm.close()


@pytest.fixture
def farm(empty: Farm) -> Farm:
    """Three variants on two devices, one of which crashes."""
    empty.clock.now = utc_now() - timedelta(minutes=10)
    empty.play(only("measure onnx int8-static", CRASHED))
    empty.run(plan_of(empty.devices(), TORCH, ONNX, INT8))
    return empty


def printed(*arguments: str) -> str:
    """Standard output of a command that ends well."""
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str) -> str:
    """The sentence of a command that is refused."""
    result = CliRunner().invoke(app, list(arguments))
    assert isinstance(result.exception, UsageError), result.output
    assert result.exception.exit_code == 2
    assert result.stdout == ""
    return str(result.exception)


def rows_of(*arguments: str) -> list[dict[str, Any]]:
    """Rows of `compare --json`."""
    document = json.loads(printed("compare", *arguments, "--json"))
    rows: list[dict[str, Any]] = document["rows"]
    return rows


def test_compare_prints_the_matrix_and_the_same_as_json_and_csv(farm: Farm) -> None:
    text = printed("compare")
    assert "net: random weights, 1 thread, batch 1: latency p50 (ms)" in text
    assert "failed" in text
    assert "SIGSEGV" in text
    rows = rows_of()
    assert len(rows) == 6
    assert {row["state"] for row in rows} == {"valid", "failed"}
    lines = list(csv.DictReader(io.StringIO(printed("compare", "--csv"))))
    assert [line["device"] for line in lines] == [row["device"] for row in rows]


def test_compare_by_options(farm: Farm) -> None:
    assert {row["device"] for row in rows_of("--device", "name=d1")} == {"d1"}
    assert {row["runtime"] for row in rows_of("--runtime", "torch")} == {"torch"}
    assert {row["recipe"] for row in rows_of("net", "--recipe", "int8-static")} == {"int8-static"}
    assert {row["baseline"] for row in rows_of("--baseline", "onnxruntime/fp32")} == {None, "onnxruntime/fp32"}
    assert {row["unit"] for row in rows_of("--metric", "size")} == {"bytes"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nett"], "no result of a model 'nett': did you mean net?"),
        (["--device", "name=nobody"], "no device matches 'name=nobody'; see benchfarm devices list"),
        (["--device", "kind=="], "cannot read"),
        (["--baseline", "torch"], "baseline 'torch': write RUNTIME/RECIPE, for example torch/fp32"),
        (["--json", "--csv"], "--json and --csv exclude each other"),
        (["--runtime", "nobody"], "nothing that was measured fits these options"),
    ],
)
def test_compare_refuses_in_a_sentence(farm: Farm, arguments: list[str], sentence: str) -> None:
    assert sentence in refused("compare", *arguments)


def test_nothing_measured_is_a_sentence(empty: Farm) -> None:
    for command in ("compare", "report"):
        assert refused(command) == "nothing was measured yet: benchfarm run MODEL measures"


def test_report_writes_one_file(farm: Farm, tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    assert printed("report", "net", "-o", str(path)).startswith(f"{path}: ")
    assert "<title>benchfarm report: net, every device</title>" in path.read_text(encoding="utf-8")
    assert "did you mean" in refused("report", "nett", "-o", str(path))
    assert "no run 9" in refused("report", "--run", "9", "-o", str(path))


def exported(*arguments: str) -> list[dict[str, str]]:
    """Lines of an export."""
    return list(csv.DictReader(io.StringIO(printed("results", "export", *arguments))))


def test_export_by_model_device_run_and_time(farm: Farm) -> None:
    assert len(exported()) == 4
    assert {line["device"] for line in exported("--device", "name=d0")} == {"d0"}
    assert len(exported("--model", "net")) == 4
    assert "no result of a model 'other': measured are net" in refused("results", "export", "--model", "other")
    assert len(exported("--since", "1h")) == 4
    assert exported("--since", "2200-01-01") == []
    assert len(exported("--run", "1")) == 4
    assert len(json.loads(printed("results", "export", "--format", "json"))) == 4


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "7x", "0d", "999999999d999999999d"])
def test_export_since_nonsense_is_refused(farm: Farm, text: str) -> None:
    assert "write 2026-11-30" in refused("results", "export", "--since", text)


def test_a_long_export_tells_how_far_it_is(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchfarm.cli.results._TELL_EVERY_S", -1.0)
    monkeypatch.setattr("benchfarm.cli.results._LOG_EVERY_S", -1.0)
    result = CliRunner().invoke(app, ["results", "export"], catch_exceptions=False)
    assert "4 rows, 4 of at most 4 results" in result.stderr
    assert len(result.stdout.splitlines()) == 5


def test_the_same_rows_from_python(farm: Farm) -> None:
    client = benchfarm.connect(farm.url)
    rows = client.compare("net", device="name=d1", baseline="onnxruntime/fp32", as_="dicts")
    assert [(row["device"], row["baseline"]) for row in rows if row["value"]] == [("d1", "onnxruntime/fp32")] * 2
    with pytest.raises(UsageError, match="write RUNTIME/RECIPE"):
        client.compare(baseline="torch")


def test_two_stored_runs_are_compared_with_and_without_a_gate(empty: Farm, tmp_path: Path) -> None:
    for ms in (10.0, 10.5):
        empty.play(Succeed(p50_ms=ms))
        empty.run(plan_of(empty.devices(), ONNX, repeats=6, salt=str(ms)))
    table = printed("compare", "run:1", "run:2")
    assert "not measured in turns" in table
    assert "answer: worse (2 slower of 2 cases)" in table
    gate = CliRunner().invoke(app, ["compare", "run:1", "run:2", "--gate", "--junit", str(tmp_path / "gate.xml")])
    assert gate.exit_code == 4
    assert 'failures="2"' in (tmp_path / "gate.xml").read_text()
    lenient = CliRunner().invoke(app, ["compare", "run:1", "run:2", "--gate", "--least-effect", "20", "--json"])
    assert (lenient.exit_code, json.loads(lenient.stdout)["answer"]) == (0, "passed")
    assert CliRunner().invoke(app, ["compare", "run:2", "run:1", "--gate", "--device", "name=d0"]).exit_code == 0
    assert refused("compare", "run:1", "run:9").startswith("no run 9: it was deleted or never was")
    assert refused("compare", "run:1", "revision:abc").startswith("nothing was measured of revision:abc")
    assert "no device matches" in refused("compare", "run:1", "run:2", "--device", "name=nobody")
    assert "has no point that fits these options" in refused("compare", "run:1", "run:2", "--recipe", "fp16")
