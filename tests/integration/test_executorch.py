"""ExecuTorch: what ran is read from its own trace, and every kernel of XNNPACK names its layers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.warm import WarmTorch
from workers.contract import MeasureTask, Options, RuntimeFacts
from workers.errors import UnsupportedError
from workers.examples import Examples, load_examples
from workers.fidelity import compare_outputs
from workers.runner import keep_promise
from workers.runtimes.execu_torch import ExecuTorch
from workers.runtimes.runtime import LoadedModel

#: Activations in place, dropout, a residual sum with its ReLU, attention-free tokens whose positions are sums of
#: integers, and a program that XNNPACK takes nothing of. In a child: the exporter would stay in this process.
MAKE = """
import sys
from pathlib import Path
import numpy as np, torch
from torch import nn
from workers.contract import ModelRequest
from workers.converters.converter import ConversionInput
from workers.converters.executorch_export import ExecuTorchExport
from workers.errors import AttemptError
from workers.models.source import BuiltModule
from workers.models.torch_export import export_canonical

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.Hardswish(inplace=True))
        self.deep = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU(inplace=True)
        )
        self.sum = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(16, 10)

    def forward(self, image):
        stem = self.stem(image)
        return self.head(self.drop(self.pool(self.sum(stem + self.deep(stem))).flatten(1)))

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(50, 32), nn.Embedding(20, 32)
        self.norm = nn.LayerNorm(32)
        self.wide = nn.Linear(32, 64)
        self.narrow = nn.Linear(64, 32)

    def forward(self, tokens):
        places = torch.arange(tokens.shape[1]) + 2
        hidden = self.norm(self.words(tokens) + self.places(places)[None])
        return hidden + self.narrow(torch.nn.functional.gelu(self.wide(hidden)))

class Running(nn.Module):
    def forward(self, values):
        return torch.cumsum(values, -1)

class Untranslatable(nn.Module):
    def forward(self, values):
        return torch.linalg.svdvals(values)

root = Path(sys.argv[1])
def make(name, module, make_inputs, recipes):
    folder = root / name
    folder.mkdir()
    made = export_canonical(BuiltModule(module, make_inputs, calibrate_norms=True), ModelRequest(name=name), folder)
    for recipe in recipes:
        out = folder / recipe
        out.mkdir()
        ExecuTorchExport().convert(ConversionInput(
            artifact=made.artifact, format="pte", recipe=recipe, examples=made.examples,
            calibration=made.calibration, folder=out,
        ))

def values(*shape):
    return lambda generator, count: {"values": generator.normal(size=(count, *shape)).astype(np.float32)}

def tokens(generator, count):
    return {"tokens": generator.integers(0, 50, size=(count, 1, 12)).astype(np.int32)}

torch.manual_seed(0)
make("net", Net(), values(1, 3, 16, 16), ("fp32", "int8-static", "int8-dynamic"))
make("words", Words(), tokens, ("fp32", "int8-static"))
make("running", Running(), values(1, 8), ("fp32",))
try:
    make("untranslatable", Untranslatable(), values(4, 4), ("fp32",))
except AttemptError as error:
    (root / "failure.txt").write_text(f"{error.cause} {error.code} {error.message}")
"""

#: Multiply-accumulates of the networks, by hand: the stem, the depthwise one, the classifier; the two linear layers.
STEM, DEEP, HEAD = 16 * 16 * 16 * 27, 16 * 16 * 16 * 9, 16 * 10
LINEAR = 12 * 32 * 64


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, warm_torch: WarmTorch) -> Path:
    folder = tmp_path_factory.mktemp("executorch")
    warm_torch.run(MAKE, str(folder), folder=folder)
    return folder


def load(made: Path, name: str, recipe: str, threads: int = 1) -> tuple[LoadedModel, Examples]:
    runtime = ExecuTorch()
    runtime.import_library()
    task = MeasureTask(
        runtime="executorch",
        entry="",
        format="pte",
        recipe=recipe,
        model=name,
        weights="random",
        compute_unit="cpu",
        options=Options(threads=threads),
    )
    return runtime.load(made / name / recipe / "model", task), load_examples(made / name / "examples.npz")


def measured(made: Path, name: str, recipe: str) -> tuple[RuntimeFacts, float]:
    """What ran, and the signal-to-noise ratio over all examples."""
    model, examples = load(made, name, recipe)
    actual = []
    for example in examples.each():
        model.bind(example)()
        actual.append(model.outputs())
    wanted = [[stack[index] for stack in examples.outputs] for index in range(len(examples))]
    fidelity = compare_outputs(wanted, actual, classification=False)
    return model.facts(examples.input_at(0)), 999.0 if fidelity.identical else fidelity.snr_db or 0.0


@pytest.mark.parametrize("name", ["net", "words", "running"])
def test_a_float_program_computes_what_the_model_does_in_fp32(made: Path, name: str) -> None:
    facts, snr_db = measured(made, name, "fp32")
    assert snr_db > 60
    keep_promise("fp32", facts)
    assert facts.quantised_flop_share in (0, None)
    assert (facts.precision == "fp32") == (name != "running")  # it multiplies nothing


def test_int8_is_what_the_kernels_name(made: Path) -> None:
    facts, snr_db = measured(made, "net", "int8-static")
    assert (facts.precision, facts.quantised_flop_share) == ("int8", 1)
    assert snr_db > 15
    facts, snr_db = measured(made, "net", "int8-dynamic")
    # Depthwise convolutions have no kernel for dynamic activations.
    assert facts.quantised_flop_share == pytest.approx((STEM + HEAD) / (STEM + DEEP + HEAD))
    assert facts.precision == "int8"
    assert snr_db > 25


def test_positions_stay_integers_when_a_program_of_tokens_is_quantised(made: Path) -> None:
    facts, snr_db = measured(made, "words", "int8-static")
    assert facts.quantised_flop_share == 1
    assert snr_db > 15


def test_what_xnnpack_took_is_told(made: Path) -> None:
    facts, _ = measured(made, "net", "fp32")
    assert facts.options["delegates"] == ["XnnpackBackend"]
    assert facts.delegated_share == 1
    facts, _ = measured(made, "words", "fp32")
    assert facts.delegated_share is not None
    assert 0 < facts.delegated_share < 1  # embeddings and norms are the program's own


def test_a_delegate_that_took_nothing_is_not_named(made: Path) -> None:
    facts, _ = measured(made, "running", "fp32")
    assert facts.options["delegates"] == []
    assert facts.delegated_share == 0
    assert facts.precision == "unknown"


def test_int8_without_integer_kernels_is_refused(made: Path) -> None:
    facts, _ = measured(made, "net", "fp32")
    with pytest.raises(UnsupportedError, match="no multiplication in integers"):
        keep_promise("int8-dynamic", facts)


@pytest.mark.parametrize("recipe", ["fp32", "int8-static", "int8-dynamic"])
def test_a_profile_names_the_layers_that_each_kernel_computes(made: Path, recipe: str) -> None:
    model, examples = load(made, "net", recipe)
    seen = model.profile(examples.input_at(0), 3)
    assert len(seen.run_ms) == 3
    multiplying = [op for op in seen.ops if op.flops is not None]
    assert [op.flops for op in multiplying] == [2 * STEM, 2 * DEEP, 2 * HEAD]
    # What is folded into a convolution, or done by it, is its own.
    assert [op.layers for op in multiplying] == [
        ("stem.0", "stem.1"),
        ("deep.0", "deep.1", "deep.2"),
        ("head",),
    ]
    assert {layer for op in seen.ops for layer in op.layers} >= {"stem.2", "sum", "pool"}
    quantised = {"fp32": [], "int8-static": multiplying, "int8-dynamic": [multiplying[0], multiplying[2]]}
    assert [op for op in multiplying if op.precision == "int8"] == quantised[recipe]
    assert all(op.bytes is not None for op in seen.ops if op.layers)


def test_a_profile_accounts_for_all_of_a_run(made: Path) -> None:
    model, examples = load(made, "words", "fp32")
    seen = model.profile(examples.input_at(0), 20)
    assert 0 < sum(op.time_us for op in seen.ops) / 1e3 <= 1.3 * float(np.median(seen.run_ms))
    assert "XNNPACK" in seen.method
    assert {op.type for op in seen.ops} >= {"aten::embedding", "aten::native_layer_norm", "DELEGATE_CALL"}
    assert [op.flops for op in seen.ops if op.flops is not None] == [2 * LINEAR, 2 * LINEAR]


def test_outputs_outlive_the_next_run(made: Path) -> None:
    model, examples = load(made, "net", "fp32")
    model.bind(examples.input_at(0))()
    first = model.outputs()
    kept = first[0].copy()
    model.bind(examples.input_at(1))()
    assert np.array_equal(first[0], kept)
    assert not np.array_equal(model.outputs()[0], kept)
    assert first[0].dtype == np.float32


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_are_set_and_read_back(made: Path, threads: int) -> None:
    model, examples = load(made, "net", "fp32", threads)
    model.bind(examples.input_at(0))()
    assert model.facts(examples.input_at(0)).options["threads"] == threads


def test_what_executorch_cannot_translate_is_the_models_failure(made: Path) -> None:
    cause, code, message = (made / "failure.txt").read_text().split(" ", 2)
    assert (cause, code) == ("model", "does_not_convert")
    assert message.startswith("ExecuTorch cannot make fp32 of it: ")


def test_running_does_not_import_the_exporter() -> None:
    code = (
        "import sys; from workers.runtimes.execu_torch import ExecuTorch; ExecuTorch().import_library();"
        "sys.exit('executorch.exir' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0
