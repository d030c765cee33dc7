"""Code of the user's own, with calibration inputs of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.acceptance.conftest import call, document

FACTORY = """
import torch

def dense():
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.ReLU(), torch.nn.Linear(64, 4))
    return layers, {"features": torch.randn(1, 32)}
"""
RUN = ("run", "mine:dense", "--allow-code", "--runtime", "onnxruntime", "--max-seconds", "0.3")
QUICK = ("--no-gate", "--executor", "local", "--json")
INT8 = ("--recipe", "int8-static")
FP32 = ("--recipe", "fp32")


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the factory, inputs, and a data directory: what does not differ is converted once."""
    folder = tmp_path_factory.mktemp("factory")
    (folder / "mine.py").write_text(FACTORY)
    generator = np.random.default_rng(0)
    np.savez(folder / "fitting.npz", features=generator.normal(size=(16, 1, 32)).astype(np.float32))
    np.savez(folder / "tiny.npz", features=generator.normal(scale=0.01, size=(16, 1, 32)).astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def fitting(code: Path) -> dict[str, Any]:
    """Recipe to row of a run whose calibration inputs are like the real ones."""
    finished = call(code / "home", *RUN, *FP32, *INT8, *QUICK, "--calibration", "fitting.npz", cwd=code)
    assert finished.returncode == 0, finished.stderr
    return {row["recipe"]: row for row in document(finished)["results"]}


def test_a_factory_is_quantised_with_the_users_own_inputs(code: Path, fitting: dict[str, Any]) -> None:
    finished = call(code / "home", *RUN, *INT8, *QUICK, "--calibration", "tiny.npz", cwd=code)
    assert finished.returncode == 0, finished.stderr
    (tiny,) = document(finished)["results"]
    assert fitting["int8-static"]["quantised_flop_share"] == tiny["quantised_flop_share"] == 1.0
    # Calibrated on inputs a hundred times too small, real ones saturate.
    assert fitting["int8-static"]["fidelity"]["snr_db"] > tiny["fidelity"]["snr_db"] + 6


def test_calibration_of_another_shape_is_the_users_failure(code: Path) -> None:
    np.savez(code / "odd.npz", features=np.zeros((16, 1, 33), dtype=np.float32))
    finished = call(code / "home", *RUN, *INT8, *QUICK, "--calibration", "odd.npz", cwd=code)
    assert finished.returncode == 1
    failed = document(finished)["failed"]
    assert (failed[0]["cause"], failed[0]["code"]) == ("user", "bad_calibration")
    assert "features" in failed[0]["why"]


def test_a_factory_that_changed_is_exported_again(code: Path, fitting: dict[str, Any]) -> None:
    (code / "mine.py").write_text(FACTORY.replace("64", "128"))
    # What the model is exported with is part of what it is known by.
    finished = call(code / "home", *RUN, *FP32, *QUICK, "--calibration", "fitting.npz", cwd=code)
    (code / "mine.py").write_text(FACTORY)
    assert finished.returncode == 0, finished.stderr
    (wider,) = document(finished)["results"]
    assert wider["artifact_bytes"] > fitting["fp32"]["artifact_bytes"]
