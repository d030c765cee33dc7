"""`benchfarm noise` as users type it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.conftest import Typed, command_line, environment

FLEET = {"seed": 1, "time_scale": 0.002, "devices": [{"model": "Pixel 8", "count": 2, "soc": "tensor-g3"}]}


@pytest.fixture
def simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fleet file of two simulated phones."""
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(FLEET))
    monkeypatch.setenv("BENCHFARM_SIM", str(path))
    return path


def measure(home: Path, simulated: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own: it dispatches."""
    return subprocess.run(
        command_line(*arguments, "--device", "kind=sim", "--executor", "local"),
        env={**environment(home), "BENCHFARM_SIM": str(simulated)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_noise_of_each_series_is_learnt_and_shown(home: Path, simulated: Path, typed: Typed) -> None:
    nothing = typed("noise", "--show")
    assert (nothing.code, nothing.err.strip()) == (2, "benchfarm: no valid result yet: benchfarm run measures one")
    assert measure(home, simulated, "run", "sim/mobilenet", "--recipe", "fp32").returncode == 0
    unknown = typed("noise", "--show")
    assert "0 of 0 cannot see a change of 5 %; 2 are not learnt yet" in unknown.out
    done = measure(home, simulated, "noise", "--processes", "5", "--json")
    assert done.returncode == 0, done.stderr
    assert "2 series, 5 + 5 processes of each" in done.stderr
    document = json.loads(done.stdout)
    assert document["not_learnt"] == []
    assert document == typed("noise", "--show", "--json").json
    for series in document["series"]:
        assert (series["processes"], series["sees_5_percent"], series["simulated"]) == (10, True, True)
        assert 0 < series["noise"] < series["least_change"] <= 0.05
    again = typed("noise")
    assert again.code == 0
    assert "nothing to measure" in again.err
    assert typed("noise", "--model", "sim/other", "--show").code == 2
    [row, _] = typed("compare", "sim/mobilenet", "--json").json["rows"]
    assert row["noise_floor"] in [series["noise"] for series in document["series"]]
