"""Sweeps as a user types them: a file is written, checked, run, interrupted, resumed, shown and cancelled."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

import benchfarm
from benchfarm.api import Client
from device_registry.capabilities import DeviceDescription
from device_registry.database import writing
from device_registry.registry import record_hello
from device_registry.tables import utc_now
from tests.acceptance.conftest import Typed, call, command_line, environment
from workers.host import describe_host

NIGHT = """\
name: night
models: [sim/tiny, sim/mobilenet]
devices: [kind=sim]
exclude: [{model: sim/mobilenet, recipe: int8*}]
repeats: 2
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that knows a host with two phones; migrated once for all tests."""
    folder = tmp_path_factory.mktemp("template") / "home"
    client = benchfarm.connect(home=folder)
    found = [
        DeviceDescription(
            key=f"sim:{number}",
            name=f"phone-{number}",
            kind="sim",
            driver="sim",
            attributes={"simulated": True, "model": "Pixel 8"},
        )
        for number in (1, 2)
    ]
    with writing(client.farm.engine) as connection:
        record_hello(connection, describe_host("lab-1"), found, "3", utc_now())
    client.farm.engine.dispose()
    return folder


@pytest.fixture
def lab(home: Path, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A farm of two phones; nothing of it runs. The user is in a folder of sweep files."""
    shutil.copytree(template, home)
    monkeypatch.chdir(tmp_path)
    Path("night.yaml").write_text(NIGHT, encoding="utf-8")
    return benchfarm.connect(home=home)


def test_a_file_is_written_and_what_it_means_is_told_before_anything_runs(
    typed: Typed, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert typed("sweep", "init", "--model", "torchvision/mobilenet_v3_small").code == 0
    written = Path("sweep.yaml").read_text(encoding="utf-8")
    assert written.startswith("# yaml-language-server: $schema=")
    assert Path(written.splitlines()[0].partition("=")[2]).is_file()
    assert typed("sweep", "init").sentence == "benchfarm: sweep.yaml exists; --force writes over it"
    said = typed("sweep", "check", "sweep.yaml")
    assert said.code == 0, said.err
    assert "5 processes each" in said.out
    assert "budget of 60 device minutes: holds" in said.out
    found = typed("sweep", "check", "sweep.yaml", "--json").json
    assert found["cases"] == sum(row["cases"] for row in found["matrix"]) == found["to_measure"] > 2
    assert found["before_deadline"] is True
    assert typed("jobs", "list", "--json").json == []  # nothing was inserted
    too_small = written.replace("device_minutes: 60", "device_minutes: 1")
    Path("small.yaml").write_text(too_small, encoding="utf-8")
    refused = typed("sweep", "check", "small.yaml")
    assert refused.code == 2
    assert "of them fit, which --trim runs" in refused.out.replace("\n", " ")
    trimmed = typed("sweep", "check", "small.yaml", "--trim", "--json")
    assert trimmed.code == 0
    assert trimmed.json["left_out"]


def test_a_sweep_is_queued_shown_and_cancelled(typed: Typed, lab: Client) -> None:
    said = typed("sweep", "run", "night.yaml", "--no-wait", "--json", "--revision", "abc", "--build", "branch=main")
    assert said.code == 0, said.err
    assert said.err.startswith("run 1: 6 cases")
    run = said.json
    assert (run["run"], run["sweep"], run["revision"], run["build"]) == (1, "night", "abc", {"branch": "main"})
    assert run["counts"] == {"waiting": 6}
    assert {(cell["model"], cell["recipe"], cell["device"]) for cell in run["cells"]} == {
        (model, recipe, f"phone-{number} (simulated)")
        for model, recipe in (("sim/tiny", "fp32"), ("sim/tiny", "int8-static"), ("sim/mobilenet", "fp32"))
        for number in (1, 2)
    }
    shown = typed("sweep", "show", "1")
    assert "Run 1 of sweep night: running, 0 of 15 jobs finished, revision abc" in shown.out
    assert "waiting 0/2" in shown.out
    assert typed("sweep", "cancel", "1").out == "run 1: 15 jobs cancelled\n"
    [listed] = typed("sweep", "list", "--json").json
    assert (listed["run"], listed["state"], listed["cancelled"]) == (1, "done", 15)
    assert "benchfarm sweep resume 1" in typed("sweep", "show", "1").out
    resumed = typed("sweep", "resume", "1", "--no-wait")
    assert resumed.code == 0
    assert "run 1: 0 jobs were open, 12 are tried again, 0 cases were missing" in resumed.err
    assert typed("sweep", "show", "1", "--json").json["counts"] == {"waiting": 6}


def test_another_build_of_a_model_is_measured_where_the_sweep_lists_it(typed: Typed, lab: Client) -> None:
    said = typed("sweep", "run", "night.yaml", "--no-wait", "--json", "--model", "sim/tiny=sim/tiny@1.05")
    assert said.code == 0, said.err
    assert {cell["model"] for cell in said.json["cells"]} == {"sim/tiny", "sim/mobilenet"}
    only = typed("sweep", "run", "night.yaml", "--no-wait", "--json", "--model", "sim/tiny", "--no-watch")
    assert {cell["model"] for cell in only.json["cells"]} == {"sim/tiny"}
    assert [run["watched"] for run in typed("sweep", "list", "--json").json] == [False, True]


@pytest.mark.parametrize(
    ("change", "arguments", "says"),
    [
        (("sim/tiny,", "sim/tyni,"), (), "night.yaml:2:10: "),
        (("kind=sim", "kind=phone"), (), "night.yaml:3:11: no device matches 'kind=phone'"),
        (("repeats: 2", "repeats: 2\nrepeats: 3"), (), "night.yaml:6:1: 'repeats' stands twice, first in line 5"),
        (("repeats: 2", "baseline: 9"), (), "night.yaml:5:11: baseline 9: there is no run of that number"),
        (("", ""), ("--model", "other=sim/tiny"), "night lists no other"),
        (("", ""), ("--build", "branch"), "--build 'branch': write KEY=VALUE"),
        (("", ""), ("--revision", ""), "revision '': 1 to 200 printable characters"),
        (("", ""), ("--revision", "auto"), "is in no git repository"),
        (
            ("repeats: 2", "budget: {device_minutes: 2}"),
            (),
            "night.yaml:5:26: its 6 cases take about 4.5 device minutes",
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(
    typed: Typed, lab: Client, change: tuple[str, str], arguments: tuple[str, ...], says: str
) -> None:
    Path("night.yaml").write_text(NIGHT.replace(*change) if change[0] else NIGHT, encoding="utf-8")
    said = typed("sweep", "run", "night.yaml", "--no-wait", *arguments)
    assert said.code == 2
    assert says in said.sentence
    assert lab.jobs() == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "none.yaml"), "no such file: none.yaml"),
        (("check", "."), ". is no file"),
        (("show", "7"), "no run 7"),
        (("resume", "7"), "no run 7"),
        (("cancel", "7"), "no run 7"),
        (("init", "nowhere/sweep.yaml"), "cannot write nowhere/sweep.yaml"),
        (("init", "a b.yaml"), "a name is letters"),
    ],
)
def test_what_is_not_there_is_said(typed: Typed, lab: Client, arguments: tuple[str, ...], says: str) -> None:
    said = typed("sweep", *arguments)
    assert said.code == 2
    assert says in said.sentence


def test_a_run_of_no_sweep_is_none(typed: Typed, lab: Client) -> None:
    lab.submit("sim/tiny", recipes=["fp32"])
    for command in ("show", "resume", "cancel"):
        assert "run 1 is of no sweep" in typed("sweep", command, "1").sentence
    assert typed("sweep", "list").out.startswith("no sweep was run yet")


def test_several_mistakes_have_a_line_each(typed: Typed, lab: Client) -> None:
    Path("night.yaml").write_text("name: a b\nmodels: []\ngate: x\n", encoding="utf-8")
    said = typed("sweep", "check", "night.yaml")
    assert said.code == 2
    assert [line.split(": ")[-2] for line in said.err.splitlines()] == ['"a b"', "[]", '"x"']
    assert said.err.startswith("benchfarm: night.yaml:1:7: name:")
    assert said.err.splitlines()[1].startswith("night.yaml:2:9: models:")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A model that takes microseconds, and its sweep."""
    onnx = pytest.importorskip("onnx")
    weights = onnx.numpy_helper.from_array(np.eye(8, dtype="float32"), "w")
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 8]) for name in ("x", "y")]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weights]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "tiny.onnx")
    (tmp_path / "tiny.yaml").write_text(
        "name: tiny\nmodels: [tiny.onnx]\nruntimes: onnxruntime\nrecipes: original\nrepeats: 3\ngate: none\n"
        "options: {max_seconds: 0.1}\ndevices: [kind=cpu]\n",
        encoding="utf-8",
    )
    return tmp_path / "tiny.yaml"


def test_a_sweep_on_this_machine_is_interrupted_and_goes_on_in_the_same_run(
    typed: Typed, home: Path, tiny: Path
) -> None:
    line = command_line("sweep", "run", str(tiny), "--executor", "local")
    with subprocess.Popen(
        line, env=environment(home), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr is not None
        said = []
        for text in run.stderr:
            said.append(text)
            if "measured tiny.onnx" in text:
                run.send_signal(signal.SIGINT)
                break
        said += run.stderr
        assert run.wait(120) == 130, said
    assert "interrupted; go on with: benchfarm sweep resume 1" in "".join(said)
    assert "Traceback" not in "".join(said)
    [left] = typed("sweep", "list", "--json").json
    assert (left["state"], left["finished"] < left["jobs"]) == ("interrupted", True)
    resumed = call(home, "sweep", "resume", "1", "--executor", "local", "--json")
    assert resumed.returncode == 0, resumed.stderr
    found = json.loads(resumed.stdout)
    assert (found["run"], found["state"], found["counts"]) == (1, "done", {"done": 1})
    [cell] = found["cells"]
    assert (cell["state"], cell["done"], cell["p50_ms"] > 0) == ("done", 3, True)
    assert found["screened_at"] is not None  # its points were looked at in the same command
