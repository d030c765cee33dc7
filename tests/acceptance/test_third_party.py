"""A backend of somebody else's: a package of its own, installed as any other, found by its entry points alone."""

from __future__ import annotations

import json
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import environment

_PACKAGE = Path(__file__).parents[1] / "plugins" / "benchfarm-jax"


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds all of this one, and the package: nothing of it reaches other tests."""
    folder = tmp_path_factory.mktemp("third-party")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    lines = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
    (packages / "beneath.pth").write_text("\n".join(lines), encoding="utf-8")
    source = folder / "source"
    shutil.copytree(_PACKAGE, source)  # building leaves files beside the code
    # Its dependencies are there already, the build backend too: nothing is downloaded.
    install = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--no-deps",
        "--no-build-isolation",
        "--python",
        str(python),
    ]
    subprocess.run([*install, str(source)], check=True, capture_output=True, timeout=120)
    return python


def _benchfarm(python: Path, home: Path, *arguments: str) -> Any:
    finished = subprocess.run(
        [str(python), "-m", "benchfarm", *arguments, "--json"],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def test_its_model_runs_on_its_runtime_through_the_whole_farm(interpreter: Path, home: Path) -> None:
    shown = _benchfarm(interpreter, home, "run", "jax/mlp", "--max-seconds", "1", "--no-gate")
    (row,) = shown["results"]
    assert (row["runtime"], row["format"], row["recipe"]) == ("jax", "stablehlo", "fp32")
    assert (row["precision"], row["compute_unit"]) == ("fp32", "cpu")
    assert row["compile_ms"] > 0
    assert row["p50_ms"] > 0
    assert row["fidelity"]["identical"] or row["fidelity"]["snr_db"] > 100
    assert row["environment"]["jax"]


def test_it_stands_beside_the_built_in_backends(interpreter: Path, home: Path) -> None:
    shown = _benchfarm(interpreter, home, "runtimes", "list")
    rows = [item for item in shown["support"] if item["runtime"] == "jax"]
    assert {(row["recipe"], row["status"]) for row in rows} == {("fp32", "not yet run")}
    assert {"jax", "torch", "onnxruntime"} <= set(shown["options"])


def test_a_profile_it_does_not_offer_is_unsupported_in_one_sentence(interpreter: Path, home: Path) -> None:
    finished = subprocess.run(
        [str(interpreter), "-m", "benchfarm", "profile", "jax/mlp", "--no-gate", "--executor", "local"],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert finished.returncode == 2
    assert "offers no profile of its operations" in finished.stdout
    assert "Traceback" not in finished.stderr
