"""The canonical program: a user's own weights are left alone, fresh random ones get batch norms that mean something."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXPORT = """
import json, sys
from pathlib import Path
import numpy as np, torch
from workers.contract import ModelRequest
from workers.models.source import BuiltModule
from workers.models.torch_export import export_canonical, load_program
module = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2))
torch.nn.init.constant_(module[1].running_mean, 5.0)
make = lambda generator, count: {"image": generator.normal(size=(count, 1, 3, 4, 4)).astype(np.float32)}
request = ModelRequest(name="m")
built = BuiltModule(module, make, calibrate_norms=sys.argv[2] == "fresh")
made = export_canonical(built, request, Path(sys.argv[1]))
print(json.dumps(load_program(made.artifact).state_dict["1.running_mean"].tolist()))
"""


@pytest.mark.parametrize(("weights", "kept"), [("trained", True), ("fresh", False)])
def test_batch_norms_are_calibrated_for_fresh_weights_only(tmp_path: Path, weights: str, kept: bool) -> None:
    command = [sys.executable, "-c", EXPORT, str(tmp_path), weights]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (json.loads(finished.stdout.splitlines()[-1]) == [5.0, 5.0]) is kept
