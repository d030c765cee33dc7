"""A model file of some revisions, swept by the command as a user types it, measured on this machine's CPU."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.acceptance.conftest import Typed

SWEEP = """
name: nightly
models: [net.onnx]
runtimes: [onnxruntime]
recipes: [original]
devices: [kind=cpu]
repeats: 1
gate: none
options:
  max_seconds: 0.2
"""


def _write_net(path: Path, blocks: int) -> None:
    """A chain of equal products: its time is in proportion to them."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = (np.random.default_rng(0).standard_normal((64, 64)) / 8).astype(np.float32)
    steps = [helper.make_node("MatMul", [f"x{number}", "w"], [f"x{number + 1}"]) for number in range(blocks)]
    given = helper.make_tensor_value_info("x0", TensorProto.FLOAT, [64, 64])
    made = helper.make_tensor_value_info(f"x{blocks}", TensorProto.FLOAT, [64, 64])
    graph = helper.make_graph(steps, "net", [given], [made], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


def test_a_slower_revision_is_an_incident_that_names_it_and_its_fix_is_seen(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever else runs on this machine spoils processes; four times as slow shows all the same.
    monkeypatch.setattr("workers.judge._verdict", lambda *_: ("valid", []))
    (tmp_path / "nightly.yaml").write_text(SWEEP)

    def sweep(revision: str, blocks: int) -> None:
        _write_net(tmp_path / "net.onnx", blocks)
        run = ("sweep", "run", str(tmp_path / "nightly.yaml"), "--revision", revision, "--all", "--executor", "local")
        said = typed(*run, "--json")
        assert said.code == 0, said.err

    def incidents() -> list[dict[str, object]]:
        return list(typed("regressions", "list", "--all", "--json").json)

    for revision in ("r1", "r2", "r3", "r4"):
        sweep(revision, 60)
    assert incidents() == []
    sweep("r5", 240)
    [incident] = incidents()
    assert (incident["cause"], incident["state"]) == ("code", "open")
    assert (incident["revision_good"], incident["revision_bad"]) == ("r4", "r5")
    shown = typed("regressions", "show", str(incident["id"])).out
    assert "net.onnx" in shown
    assert "r5" in shown
    sweep("r6", 60)
    # How near to the old level it is now, this machine's noise decides; that it is faster again is beyond it.
    last = typed("sweep", "list", "--json").json[0]
    digest = typed("sweep", "digest", str(last["run"]), "--json").json
    assert digest["improved"]["count"] + digest["recovered"]["count"] > 0, json.dumps(digest)
