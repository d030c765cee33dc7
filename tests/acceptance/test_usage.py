"""Wrong usage is answered with one clear sentence and exit code 2, before anything slow begins.

Most commands run in this process, as typed; what begins or ends a process is started as users start it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import Command, Typed, command_line, environment, one_sentence

#: None of these may be imported to print help.
HEAVY = {"torch", "ray", "scipy", "onnx", "onnxruntime", "ai_edge_litert", "coremltools", "transformers", "tensorflow"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["torchvision/mobilenet_v3_smal"], "did you mean torchvision/mobilenet_v3_small"),
        (["mobilenetv3small"], "did you mean torchvision/mobilenet_v3_small"),
        (["transformers/distilber"], "did you mean transformers/distilbert"),
        (["nothing.onnx"], "no such file: nothing.onnx"),
        (["folder.of:factory"], "--allow-code"),
        (["torchvision/resnet18", "--runtime", "lite"], "did you mean litert"),
        (["torchvision/resnet18", "--recipe", "int9"], "unknown recipe 'int9'"),
        (["torchvision/resnet18", "--runtime", "torch", "--recipe", "palettize-4"], "only mlpackage has palettize-4"),
        (["torchvision/resnet18", "--runtime", "torch", "--recipe", "int8-static"], "eager torch dequantises"),
        (["torchvision/resnet18", "--device", "kind=phone"], "no device matches 'kind=phone'"),
        (["torchvision/resnet18", "--device", "kind=="], "at position 1"),
        (["torchvision/resnet18", "--threads", "1,x"], "whole numbers"),
        (["torchvision/resnet18", "--threads", "100000"], "this machine has"),
        (["torchvision/resnet18", "--affinity", "100000"], "this machine has no CPU 100000"),
        (["torchvision/resnet18", "--max-seconds", "-1"], "must be above 0"),
        (["torchvision/resnet18", "--rate", "0"], "must be above 0"),
        (["torchvision/resnet18", "--percentile", "42"], "choose 90, 95 or 99"),
        (["torchvision/resnet18", "--no-gate", "--strict-gate"], "exclude each other"),
        (["torchvision/resnet18", "--calibration", "nothing.npz"], "cannot read the calibration file"),
    ],
)
def test_a_wrong_run_is_refused_with_one_sentence(typed: Typed, arguments: list[str], says: str) -> None:
    said = typed("run", *arguments)
    assert said.code == 2
    assert says in said.sentence


def test_a_process_that_refuses_says_it_as_well(benchfarm: Command) -> None:
    finished = benchfarm("run", "torchvision/mobilenet_v3_smal")
    assert finished.returncode == 2
    assert "did you mean torchvision/mobilenet_v3_small" in one_sentence(finished)


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML can be measured on a Mac")
def test_a_runtime_named_where_it_cannot_run_is_refused(typed: Typed) -> None:
    said = typed("run", "torchvision/resnet18", "--runtime", "coreml")
    assert said.code == 2
    assert "Core ML runs on macOS only" in said.sentence


def test_an_empty_file_is_refused(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").write_bytes(b"")
    said = typed("run", str(tmp_path / "empty.onnx"))
    assert said.code == 2
    assert "is empty" in said.sentence


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["jobs", "show", "99"], "no job 99"),
        (["jobs", "logs", "99"], "no job 99"),
        (["jobs", "cancel", "99"], "no job 99"),
        (["jobs", "list", "--state", "odd"], "no state 'odd'"),
        (["results", "show"], "nothing was run yet"),
        (["results", "show", "7"], "no run 7"),
        (["results", "export", "--format", "parquet"], "--output"),
        (["devices", "show", "phone"], "no device 'phone'"),
        (["devices", "list", "kind="], "device selector"),
    ],
)
def test_what_does_not_exist_is_said_in_one_sentence(typed: Typed, arguments: list[str], says: str) -> None:
    said = typed(*arguments)
    assert said.code == 2
    assert says in said.sentence


def test_a_data_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    env = environment(tmp_path / "file" / "home")
    finished = subprocess.run(command_line("devices", "list"), env=env, capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert "BENCHFARM_HOME" in one_sentence(finished)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_data_directory_is_said(benchfarm: Command, home: Path) -> None:
    home.mkdir(mode=0o500)
    finished = benchfarm("devices", "list")
    assert finished.returncode == 2
    assert "cannot be written" in one_sentence(finished)


def test_a_damaged_database_is_said(benchfarm: Command, home: Path) -> None:
    home.mkdir()
    (home / "benchfarm.db").write_bytes(b"no database" * 1000)
    finished = benchfarm("jobs", "list")
    assert finished.returncode == 1
    assert "damaged" in one_sentence(finished)


def test_a_newer_database_is_refused(typed: Typed, home: Path) -> None:
    import sqlite3

    assert typed("jobs", "list").code == 0
    with sqlite3.connect(home / "benchfarm.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    said = typed("jobs", "list")
    assert said.code == 2
    assert "newer" in said.sentence


def test_lists_are_json_where_asked(typed: Typed) -> None:
    devices = typed("devices", "list", "--json").json
    assert [device["kind"] for device in devices] == ["cpu"]
    shown = typed("devices", "show", devices[0]["name"], "--json").json
    assert shown["attributes"]["cores"] >= 1
    assert typed("jobs", "list", "--json").json == []
    assert typed("results", "list", "--json").json == []
    assert "torchvision/resnet18" in typed("models", "list", "resnet", "--json").json
    findings = typed("doctor", "--json").json
    seams = {item["seam"] for item in findings} - {"phone", "phone tool"}  # what hangs on this machine
    assert {"data", "device", "runtime", "converter", "sensor", "model source", "android"} == seams
    assert all(item["ok"] or item["detail"] for item in findings)


def test_the_version_is_told_by_both_commands(benchfarm: Command) -> None:
    finished = benchfarm("--version")
    assert finished.returncode == 0
    assert finished.stdout.startswith("benchfarm 0.")


def test_help_imports_nothing_heavy(home: Path) -> None:
    probe = (
        "import sys\n"
        "from benchfarm.cli.app import app\n"
        "try:\n    app(['run', '--help'])\nexcept SystemExit:\n    pass\n"
        f"heavy = {HEAVY!r}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", probe], env=environment(home), capture_output=True, text=True, check=True
    )
    assert finished.stderr.strip() == "[]"
    assert "--strict-gate" in finished.stdout
