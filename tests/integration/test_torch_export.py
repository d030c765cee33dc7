"""The canonical program: a user's own weights are left alone, fresh random ones get batch norms that mean something."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.warm import WarmTorch

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
means = load_program(made.artifact).state_dict["1.running_mean"].tolist()
Path(sys.argv[1], "means.json").write_text(json.dumps(means))
"""


@pytest.mark.parametrize(("weights", "kept"), [("trained", True), ("fresh", False)])
def test_batch_norms_are_calibrated_for_fresh_weights_only(
    tmp_path: Path, warm_torch: WarmTorch, weights: str, kept: bool
) -> None:
    warm_torch.run(EXPORT, str(tmp_path), weights, folder=tmp_path)
    assert (json.loads((tmp_path / "means.json").read_text()) == [5.0, 5.0]) is kept
