"""`benchfarm run` on a real model through three runtimes, with an embedded Ray: what it prints, stores and reuses."""

from __future__ import annotations

import csv
import io
import sqlite3
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import MODEL, Typed, call, document

#: The other runtimes: test_runtimes.
RUNTIMES = ("--runtime", "torch", "--runtime", "onnxruntime", "--runtime", "litert")
#: The rest of the recipes: integration tests of each runtime.
RECIPES = [word for recipe in ("fp32", "int8-static") for word in ("--recipe", recipe)]
RUN = ("run", MODEL, *RUNTIMES, *RECIPES, "--max-seconds", "0.5", "--no-gate", "--json")
QUICK = ("--max-seconds", "0.3", "--no-gate", "--executor", "local", "--json")


@dataclass
class Farm:
    """A data directory in which the model was run once."""

    home: Path
    first: subprocess.CompletedProcess[str]

    @property
    def outcome(self) -> Any:
        return document(self.first)

    def case(self, runtime: str, recipe: str) -> Any:
        found = [row for row in self.outcome["results"] if (row["runtime"], row["recipe"]) == (runtime, recipe)]
        assert len(found) == 1, f"{runtime} {recipe} is not among the results"
        return found[0]


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Farm:
    home = tmp_path_factory.mktemp("farm") / "home"
    return Farm(home, call(home, *RUN))


@pytest.fixture
def asked(farm: Farm, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Type a command that only reads the farm."""
    monkeypatch.setenv("BENCHFARM_HOME", str(farm.home))
    monkeypatch.setenv("COLUMNS", "200")
    return typed


def _count_jobs(asked: Typed, kind: str) -> int:
    return sum(job["kind"] == kind for job in asked("jobs", "list", "--limit", "1000", "--json").json)


def test_a_run_ends_well_and_prints_one_document(farm: Farm) -> None:
    assert farm.first.returncode == 0, farm.first.stderr
    assert set(farm.outcome) == {"run", "results", "failed", "unsupported"}
    assert farm.outcome["failed"] == []


def test_every_runtime_that_can_run_here_is_measured(farm: Farm) -> None:
    measured = {(row["runtime"], row["recipe"]) for row in farm.outcome["results"]}
    assert {
        ("torch", "fp32"),
        ("onnxruntime", "fp32"),
        ("onnxruntime", "int8-static"),
        ("litert", "fp32"),
        ("litert", "int8-static"),
    } == measured


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime", "litert"])
def test_fp32_is_the_reference_model_and_says_so(farm: Farm, runtime: str) -> None:
    row = farm.case(runtime, "fp32")
    assert (row["precision"], row["compute_unit"]) == ("fp32", "cpu")
    assert not row["quantised_flop_share"]
    assert row["fidelity"]["snr_db"] is None or row["fidelity"]["snr_db"] > 60
    assert row["fidelity"]["top1_agreement"] == 1.0
    assert row["weights"] == "random"


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_int8_runs_in_integers_and_is_smaller(farm: Farm, runtime: str) -> None:
    row = farm.case(runtime, "int8-static")
    assert row["quantised_flop_share"] > 0.9
    assert row["artifact_bytes"] < farm.case(runtime, "fp32")["artifact_bytes"] / 3
    assert 3 < row["fidelity"]["snr_db"] < 60


def test_a_row_holds_what_it_must(farm: Farm) -> None:
    row = farm.case("litert", "fp32")
    assert row["first_inference_ms"] > 0
    assert row["load_ms"] > 0
    assert row["peak_rss_bytes"] > row["rss_after_imports_bytes"] > 10_000_000
    assert row["throughput_per_s"] == pytest.approx(1000 / row["p50_ms"], rel=0.5)
    assert len(row["artifact_sha256"]) == 64
    assert row["p50_ci_ms"] is None  # one process tells nothing of the spread between processes
    assert row["speedup"] == pytest.approx(farm.case("torch", "fp32")["p50_ms"] / row["p50_ms"])
    assert row["environment"]["ai-edge-litert"]
    assert all(row["speedup"] is not None for row in farm.outcome["results"])
    process = row["processes"][0]
    assert process["iterations"] >= 7
    assert process["p50_within_ci_ms"][0] <= process["p50_ms"] <= process["p50_within_ci_ms"][1]


def test_a_missing_sensor_is_said_and_no_zero(farm: Farm) -> None:
    row = farm.case("torch", "fp32")
    if row["energy_quality"] != "ok":
        assert row["energy_per_inference_mj"] is None
        assert row["energy_quality"] in ("unsupported", "no_permission", "partial")
        assert row["energy_why"]


def test_chatter_of_native_libraries_goes_to_the_log_only(farm: Farm, asked: Typed) -> None:
    jobs = asked("jobs", "list", "--limit", "1000", "--json").json
    export = next(job for job in jobs if job["title"].startswith("tflite fp32"))
    assert "LiteRT" in asked("jobs", "logs", str(export["id"])).out
    assert "LiteRT-Torch Convert" not in farm.first.stderr


def test_a_job_tells_its_history(asked: Typed) -> None:
    jobs = asked("jobs", "list", "--limit", "1000", "--json").json
    measured = next(job for job in jobs if job["kind"] == "measure" and job["state"] == "succeeded")
    shown = asked("jobs", "show", str(measured["id"]), "--json").json
    changes = [(event["before"], event["after"]) for event in shown["events"] if event["entity"] == "job"]
    assert changes == [(None, "blocked"), ("blocked", "queued"), ("queued", "running"), ("running", "succeeded")]
    assert [attempt["state"] for attempt in shown["attempts"]] == ["finished"]


def test_raw_iterations_telemetry_and_points_are_stored(farm: Farm) -> None:
    with sqlite3.connect(farm.home / "benchfarm.db") as database:
        counts = {
            table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("result", "series", "point", "telemetry")
        }
        qualities = dict(database.execute("SELECT quality, count(value) FROM telemetry GROUP BY quality").fetchall())
    database.close()
    cases = len(farm.outcome["results"])
    assert counts["result"] == counts["series"] == counts["point"] == cases
    assert counts["telemetry"] > cases
    assert qualities.get("unsupported", 0) == 0  # no number where a sensor is missing
    assert qualities["ok"] > 0


def test_a_second_run_converts_nothing_and_repeats_give_an_interval(farm: Farm, asked: Typed) -> None:
    converted = _count_jobs(asked, "convert")
    again = call(farm.home, "run", MODEL, "--runtime", "litert", "--recipe", "fp32", "--repeats", "5", *QUICK)
    assert again.returncode == 0, again.stderr
    assert _count_jobs(asked, "convert") == converted
    (row,) = document(again)["results"]
    assert len(row["processes"]) == 5
    valid = [process["p50_ms"] for process in row["processes"] if process["verdict"] == "valid"]
    if len(valid) == 5:
        assert row["p50_ci_ms"][0] <= row["p50_ms"] <= row["p50_ci_ms"][1]
    else:
        assert row["p50_ci_ms"] is None


def test_a_damaged_artifact_is_noticed_and_made_again(farm: Farm) -> None:
    before = farm.case("litert", "int8-static")
    sha256 = before["artifact_sha256"]
    stored = farm.home / "artifacts" / sha256[:2] / sha256
    stored.write_bytes(stored.read_bytes()[:-1] + b"\xff")
    again = call(farm.home, "run", MODEL, "--runtime", "litert", "--recipe", "int8-static", *QUICK)
    assert again.returncode == 0, again.stderr
    (row,) = document(again)["results"]
    assert row["fidelity"]["snr_db"] == pytest.approx(before["fidelity"]["snr_db"], abs=1)
    assert "try 2" in again.stderr


def test_results_are_listed_shown_and_exported(farm: Farm, asked: Typed, tmp_path: Path) -> None:
    listed = asked("results", "list", "--json").json
    assert {row["model"] for row in listed} == {MODEL}
    shown = asked("results", "show", "1")
    assert shown.code == 0
    assert "speed-up" in shown.out
    assert "Unsupported here" in shown.out
    text = asked("results", "export", "--format", "csv", "--run", "1").out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {(row["runtime"], row["recipe"]) for row in rows} == {
        (row["runtime"], row["recipe"]) for row in farm.outcome["results"]
    }
    assert all(float(row["p50_ms"]) > 0 for row in rows)
    parquet = tmp_path / "out.parquet"
    assert asked("results", "export", "--format", "parquet", "-o", str(parquet)).code == 0
    assert parquet.read_bytes()[:4] == b"PAR1"


def test_the_token_of_ray_is_for_its_owner_only(farm: Farm) -> None:
    assert (farm.home / "ray-token").stat().st_mode & 0o777 == 0o600
    assert farm.home.stat().st_mode & 0o077 == 0
