"""`benchfarm compare --gate` as a CI server types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Typed, command_line, environment
from tests.unit.gates.junit_schema import read_junit

FLEET = {"seed": 1, "time_scale": 0.002, "devices": [{"model": "Pixel 8", "count": 2, "soc": "tensor-g3"}]}
GATE = ("compare", "sim/mobilenet", "sim/mobilenet@1.05", "--gate", "--device", "kind=sim", "--executor", "local")


@pytest.fixture
def simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fleet file of two simulated phones."""
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(FLEET))
    monkeypatch.setenv("BENCHFARM_SIM", str(path))
    return path


def gate(home: Path, simulated: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A gate in a process of its own: it dispatches."""
    return subprocess.run(
        command_line(*arguments),
        env={**environment(home), "BENCHFARM_SIM": str(simulated)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_slower_build_fails_the_gate_and_every_file_says_so(
    home: Path, simulated: Path, tmp_path: Path, typed: Typed
) -> None:
    files = {name: tmp_path / name for name in ("gate.md", "gate.xml")}
    written = ("--markdown", str(files["gate.md"]), "--junit", str(files["gate.xml"]))
    done = gate(home, simulated, *GATE, "--json", *written)
    assert done.returncode == 4, done.stderr
    document = json.loads(done.stdout)
    assert (document["answer"], document["exit_code"], document["measured"]) == ("worse", 4, True)
    assert len(document["cases"]) == 4  # two recipes on two phones
    for case in document["cases"]:
        assert (case["answer"], case["alternated"], case["verdict"]["processes"]) == ("slower", True, [10, 10])
        assert case["verdict"]["interval"][1] < 1
        assert case["simulated"] is True
    assert "worse (4 slower of 4 cases)" in files["gate.md"].read_text()
    root = read_junit(files["gate.xml"].read_text())
    assert (root.attrib["tests"], root.attrib["failures"]) == ("4", "4")
    # No history is made of it, and its run can be read.
    assert typed("results", "list", "--json").json == []
    assert len(typed("results", "show", str(document["run"]), "--json").json["results"]) == 8
    same = typed("compare", "sim/mobilenet", "sim/mobilenet", *GATE[3:])
    assert same.code == 0
    assert "nothing was measured, for nothing can differ" in same.out


def test_an_interrupted_gate_goes_on_where_it_was(home: Path, simulated: Path, typed: Typed) -> None:
    simulated.write_text(json.dumps({**FLEET, "time_scale": 0.15}))
    slow = (*GATE, "--recipe", "fp32", "--device", "name~-01", "--json")
    variables = {**environment(home), "BENCHFARM_SIM": str(simulated)}
    process = subprocess.Popen(
        command_line(*slow), env=variables, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 60
        assert process.stderr is not None
        for line in process.stderr:
            if "candidate 2" in line or time.monotonic() > deadline:
                break
        os.kill(process.pid, signal.SIGTERM)  # who starts tests may have SIGINT ignored
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert "interrupted; the same command resumes run 1" in err
    before = _measured(typed)
    assert 0 < before < 20
    simulated.write_text(json.dumps(FLEET))
    done = gate(home, simulated, *slow)
    assert done.returncode == 4, done.stderr
    assert "resuming run 1" in done.stderr
    assert json.loads(done.stdout)["run"] == 1
    assert _measured(typed) == 20


def _measured(typed: Typed) -> int:
    jobs: list[dict[str, Any]] = typed("jobs", "list", "--run", "1", "--limit", "100", "--json").json
    return sum(job["kind"] == "measure" and job["state"] == "succeeded" for job in jobs)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("a", "--gate"), "--gate compares two: name BASE and CANDIDATE; these are 1"),
        (("run:1",), "name two to compare"),
        (("run:1", "sim/tiny"), "compare two stored results, or two models"),
        (("run:one", "run:2"), "a run has a number"),
        (("sim/tiny", "sim/mobilenet", "--gate", "--csv"), "--csv has no meaning for --gate"),
        (("sim/tiny", "--junit", "x.xml"), "--junit needs --gate, or two stored results"),
        (("sim/tiny", "--processes", "10"), "--processes needs --gate"),
        (("run:1", "run:2", "--processes", "10"), "these results are stored"),
        (("sim/tiny", "sim/tyny", "--gate", "--device", "kind=sim"), "did you mean sim/tiny"),
        (("sim/tiny", "sim/mobilenet", "--gate", "--least-effect", "0"), "a percentage above 0"),
        (("sim/tiny", "sim/mobilenet", "--gate", "--max-minutes", "-1"), "--max-minutes -1: must be above 0"),
        (("sim/tiny", "sim/mobilenet", "--gate", "--markdown", "/none/x.md"), "there is no folder /none"),
        (("m:f", "m:f", "--gate", "--base-path", "."), "add --allow-code"),
        (("m:f", "m:f", "--gate", "--base-path", "/none", "--allow-code"), "there is no such folder"),
    ],
)
def test_a_wrong_gate_is_refused_with_one_sentence(
    home: Path, simulated: Path, typed: Typed, arguments: tuple[str, ...], says: str
) -> None:
    refused = typed("compare", *arguments)
    assert refused.code == 2
    assert says in refused.sentence
