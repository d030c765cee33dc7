"""`benchfarm suite` as users type it, on simulated phones."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.conftest import Typed, command_line, environment

FLEET = {"seed": 1, "time_scale": 0.05, "devices": [{"model": "Pixel 8", "count": 2, "soc": "tensor-g3"}]}
SUITE = """\
suite: lab
title: In the lab
source: somebody who did it before
sweep: {recipes: [fp32, int8-static], devices: [kind=sim], repeats: 2}
quick: {sweep: {repeats: 1, recipes: fp32}}
blocks:
  - {name: tiny, title: Tiny, sweep: {models: [sim/tiny]}}
  - {name: phones, title: On real phones, sweep: {models: [sim/tiny], runtimes: [benchmark-model]}}
  - name: others
    title: Larger ones
    sweep: {models: ["sim/{name}"]}
    grid: {name: [mobilenet, detector]}
    plots: [{kind: bar, x: model, y: p50_ms, series: [recipe]}]
published:
  - {block: others, hardware: a phone, model: sim/mobilenet, recipe: fp32, mean_ms: 7.5}
"""


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fleet file of two simulated phones, and beside it `lab.yaml`."""
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(FLEET))
    (tmp_path / "lab.yaml").write_text(SUITE)
    monkeypatch.setenv("BENCHFARM_SIM", str(path))
    monkeypatch.chdir(tmp_path)
    return path


def start(home: Path, fleet: Path, *arguments: str) -> subprocess.Popen[str]:
    """`benchfarm suite run lab.yaml` in a process of its own: it dispatches."""
    return subprocess.Popen(
        command_line("suite", "run", "lab.yaml", "--executor", "local", *arguments),
        env={**environment(home), "BENCHFARM_SIM": str(fleet)},
        cwd=fleet.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_an_interrupted_suite_goes_on_with_the_same_command(home: Path, fleet: Path, typed: Typed) -> None:
    interrupted = start(home, fleet)
    assert interrupted.stderr is not None
    said: list[str] = []
    for line in interrupted.stderr:
        said.append(line)
        if "block 3 of 3" in line:
            interrupted.send_signal(signal.SIGINT)
            break
    _, rest = interrupted.communicate(timeout=120)
    assert interrupted.returncode == 130, rest
    assert "block 2 of 3, phones: nothing can be measured: " in "".join(said)
    assert "the same command goes on where this one stopped" in rest

    goes_on = start(home, fleet, "--json")
    out, err = goes_on.communicate(timeout=120)
    assert goes_on.returncode == 0, err
    assert "block 1 of 3, tiny: 0 cases to measure, 4 fresh" in err
    document = json.loads(out)
    tiny, phones, others = document["runs"]
    assert (tiny["run"], tiny["fresh"], phones["run"], others["failed_jobs"]) == (None, 4, None, 0)
    assert "benchmark-model" in phones["why_not"]

    shown = typed("suite", "show", "lab.yaml", "--json").json
    assert (shown["cases"], shown["fresh"], shown["to_measure"]) == (12, 12, 0)
    reported = typed("suite", "report", "lab.yaml", "-o", "lab.html")
    assert reported.code == 0, reported.err
    assert "sim/mobilenet" in (fleet.parent / "lab.html").read_text()
    quick = typed("suite", "report", "lab.yaml", "--quick")
    assert quick.code == 2
    assert "nothing of suite lab was run yet" in quick.err


def test_what_cannot_be_ends_in_one_sentence(fleet: Path, typed: Typed) -> None:
    assert typed("suite", "run", "mobil").sentence == (
        "benchfarm: unknown suite mobil: did you mean mobile? (a suite of your own: its file, NAME.yaml)"
    )
    assert typed("suite", "show", "lab.yaml", "--block", "tinny").sentence == (
        "benchfarm: suite lab has no block tinny: did you mean tiny?"
    )
    nowhere = typed("suite", "run", "lab.yaml", "--device", "kind=gpu")
    assert (nowhere.code, nowhere.out) == (2, "")
    assert nowhere.sentence.startswith("benchfarm: no device matches kind=gpu; devices are ")
    (fleet.parent / "wrong.yaml").write_text(SUITE.replace("recipes: fp32", "recipes: fp33"))
    assert typed("suite", "show", "wrong.yaml", "--quick").sentence.startswith("benchfarm: wrong.yaml:5:")


def test_suites_are_listed(typed: Typed) -> None:
    found = typed("suite", "list", "--json").json
    assert [suite["suite"] for suite in found] == ["backbones", "blocks", "ladder", "mobile", "operators"]
    assert all(suite["source"] and suite["blocks"] for suite in found)
