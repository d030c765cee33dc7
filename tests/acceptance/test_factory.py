"""Code of the user's own, with calibration inputs of the user's own."""

from __future__ import annotations

from pathlib import Path

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
RUN = (
    "run",
    "mine:dense",
    "--allow-code",
    "--runtime",
    "onnxruntime",
    "--recipe",
    "int8-static",
    "--max-seconds",
    "0.3",
)
QUICK = ("--no-gate", "--executor", "local", "--json")


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the factory, inputs, and a data directory: what does not differ is converted once."""
    folder = tmp_path_factory.mktemp("factory")
    (folder / "mine.py").write_text(FACTORY)
    generator = np.random.default_rng(0)
    np.savez(folder / "fitting.npz", features=generator.normal(size=(16, 1, 32)).astype(np.float32))
    np.savez(folder / "tiny.npz", features=generator.normal(scale=0.01, size=(16, 1, 32)).astype(np.float32))
    return folder


def test_a_factory_is_quantised_with_the_users_own_inputs(code: Path) -> None:
    snr_db = {}
    for name in ("fitting", "tiny"):
        finished = call(code / "home", *RUN, *QUICK, "--calibration", f"{name}.npz", cwd=code)
        assert finished.returncode == 0, finished.stderr
        (row,) = document(finished)["results"]
        assert row["quantised_flop_share"] == 1.0
        snr_db[name] = row["fidelity"]["snr_db"]
    # Calibrated on inputs a hundred times too small, real ones saturate.
    assert snr_db["fitting"] > snr_db["tiny"] + 6


def test_calibration_of_another_shape_is_the_users_failure(code: Path) -> None:
    np.savez(code / "odd.npz", features=np.zeros((16, 1, 33), dtype=np.float32))
    finished = call(code / "home", *RUN, *QUICK, "--calibration", "odd.npz", cwd=code)
    assert finished.returncode == 1
    failed = document(finished)["failed"]
    assert (failed[0]["cause"], failed[0]["code"]) == ("user", "bad_calibration")
    assert "features" in failed[0]["why"]


def test_a_factory_that_changed_is_exported_again(code: Path) -> None:
    plain = ("run", "mine:dense", "--allow-code", "--runtime", "onnxruntime", "--recipe", "fp32")
    # What the model is exported with is part of what it is known by.
    known = ("--calibration", "fitting.npz", "--max-seconds", "0.3", *QUICK)
    sizes = []
    for width in (64, 128):
        (code / "mine.py").write_text(FACTORY.replace("64", str(width)))
        finished = call(code / "home", *plain, *known, cwd=code)
        assert finished.returncode == 0, finished.stderr
        sizes.append(document(finished)["results"][0]["artifact_bytes"])
    (code / "mine.py").write_text(FACTORY)
    assert sizes[1] > sizes[0]
