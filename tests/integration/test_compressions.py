"""Modules are pruned for real: what is removed is gone, what is left computes what it should, and chains go on.

One process of torch does it all, for importing it is most of the time.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.warm import WarmTorch

NETS = """
import os
import torch
from torch import nn

class Net(nn.Module):
    "Residual addition, depthwise convolution, squeeze-excitation, batch norms, grouped convolution, concatenation."
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.wide = nn.Sequential(nn.Conv2d(16, 32, 1, bias=False), nn.BatchNorm2d(32), nn.Hardswish())
        self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.squeeze, self.excite = nn.Conv2d(32, 8, 1), nn.Conv2d(8, 32, 1)
        self.narrow = nn.Conv2d(32, 16, 1)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.head = nn.Sequential(nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 5))
    def forward(self, x):
        x = self.stem(x)
        y = self.depthwise(self.wide(x))
        y = y * torch.sigmoid(self.excite(torch.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        x = x + self.narrow(y)
        x = torch.cat([torch.relu(self.grouped(x)), x], 1)
        return self.head(x.mean((2, 3)))

class Attention(nn.Module):
    def __init__(self, width=16, heads=4):
        super().__init__()
        self.n_heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
    def forward(self, x):
        q, k, v = (f(x).view(1, -1, self.n_heads, 4).transpose(1, 2) for f in (self.query, self.key, self.value))
        return self.out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(1, -1, 16))

class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.attention, self.norm = nn.Embedding(50, 16), Attention(), nn.LayerNorm(16)
        self.inner, self.outer, self.classes = nn.Linear(16, 64), nn.Linear(64, 16), nn.Linear(16, 3)
    def forward(self, ids):
        x = self.embed(ids)
        x = self.norm(x + self.attention(x))
        return self.classes((x + self.outer(nn.functional.gelu(self.inner(x)))).mean(1))

class Flat(nn.Module):
    "Rows of a picture become inputs of a linear layer, several of each channel."
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, stride=2), nn.Linear(8 * 9, 4)
    def forward(self, x):
        return self.last(torch.relu(self.first(x)).flatten(1))

class Flipped(nn.Module):
    "Channels change places where nothing says so."
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)
        # The first four go: of a choice that is the same from both ends, changing places would not show.
        self.first.weight.data *= torch.logspace(-4, 4, 8).reshape(8, 1, 1, 1)
    def forward(self, x):
        return self.last(self.first(x).flip(1)).mean((2, 3))

class Fixed(nn.Module):
    "The number of channels is written into the code."
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Linear(8, 4)
    def forward(self, x):
        return self.last(self.first(x).reshape(1, 8, -1).mean(2))

class Tied(nn.Module):
    "Two layers with one weight, and one of their own."
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        self.b.weight = self.a.weight
        self.inner, self.last = nn.Linear(8, 12), nn.Linear(12, 2)
    def forward(self, x):
        return self.last(torch.relu(self.inner(torch.relu(self.b(torch.relu(self.a(x)))))))

def net():
    "Another one every time: no seed can bring it back."
    torch.manual_seed(int.from_bytes(os.urandom(4), "big"))
    return Net(), torch.randn(1, 3, 8, 8)
"""

SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np, torch
from workers.compressions.channels import remove_channels
from workers.compressions.checkpoint import Checkpoint, load_checkpoint
from workers.contract import ConvertTask, Limits, ModelRequest, Order
from workers.conversion import convert
from workers.data_sets.labelled import Labelled
from workers.errors import AttemptError
from workers.examples import Examples, load_examples
from workers.fidelity import compare_outputs
from workers.models.torch_export import load_program

root = Path(sys.argv[1])
FACTORY = "workers.models.factory:Factory"
told, attempts = {}, 0

def attempt(task, paths):
    global attempts
    attempts += 1
    folder = root / str(attempts)
    (folder / "tmp").mkdir(parents=True)
    order = Order(attempt_id=attempts, token="t", place="p", limits=Limits(deadline_s=60, memory_bytes=2**33),
                  convert=task, paths={role: str(path) for role, path in paths.items()})
    made = convert(order, task, folder)
    files = {role: folder / file.path for role, file in {"artifact": made.artifact, **made.companions}.items()}
    return made, {**paths, **files}

def step(text, request, paths, before=()):
    name = text.partition("(")[0].replace("-", "_")
    entry = f"workers.compressions.{name}:" + "".join(part.title() for part in name.split("_"))
    task = ConvertTask(entry=entry, format="pt2", recipe="+".join((*before, text)), input_format="pt2", step=text,
                       model=request, source=FACTORY, before=before)
    return attempt(task, paths)

def answers(paths):
    examples = load_examples(paths["examples"])
    program = load_program(paths["artifact"]).module()
    answers = [[program(*map(torch.from_numpy, example.values())).detach().numpy()] for example in examples.each()]
    return compare_outputs([[stack[index] for stack in examples.outputs] for index in range(len(examples))], answers,
                           classification=False).snr_db

def seen(made, paths):
    program = load_program(paths["artifact"])
    weights = {name: list(value.shape) for name, value in program.state_dict.items()}
    return {"facts": made.facts, "snr_db": answers(paths), "weights": weights,
            "zeros": sum(int((value == 0).sum()) for name, value in program.state_dict.items() if value.ndim > 1)}

def failure(act):
    try:
        act()
    except AttemptError as error:
        return [error.code, error.message]
    return None

request = ModelRequest(name="nets:net", allow_code=True, search_path=(str(root),))
made, paths = attempt(ConvertTask(entry=FACTORY, format="pt2", recipe="fp32", model=request), {})
told["net"] = seen(made, paths)
half_made, half = step("prune-structured(0.5)", request, paths)
told["half"] = seen(half_made, half)
little_made, little = step("prune-unstructured(0.002)", request, paths)
told["little"] = seen(little_made, little)
again_made, again = step("prune-structured(0.5)", request, half, ("prune-structured(0.5)",))
told["again"] = seen(again_made, again)
zeros_made, zeros = step("prune-unstructured(0.5)", request, again, ("prune-structured(0.5)",) * 2)
told["zeros"] = seen(zeros_made, zeros)
told["most"] = seen(*step("prune-structured(0.999)", request, paths))

generator = np.random.default_rng(0)
train = Labelled({"x": generator.normal(size=(64, 3, 8, 8)).astype(np.float32)}, np.arange(64) % 5, tuple("abcde"))
train.save(root / "train.npz")
for kind in ("structured", "unstructured"):
    text = f"prune-iterative(0.5,steps=2,kind={kind},epochs=1)"
    told[kind] = seen(*step(text, request, {**paths, "train": root / "train.npz"}))
told["no data"] = failure(lambda: step("prune-iterative(0.5)", request, paths))

saved = load_checkpoint(half["checkpoint"])
def bad(cuts=saved.cuts, weights=saved.weights, steps=saved.steps):
    Checkpoint(weights=weights, cuts=cuts, steps=steps).save(half["checkpoint"])
    return failure(lambda: step("prune-unstructured(0.5)", request, half, ("prune-structured(0.5)",)))
layer, outputs, channels = saved.cuts[0][0]
told["bad"] = {
    "layer": bad(cuts=([("forward.__globals__", True, [0])],)),
    "channel": bad(cuts=([(layer, True, [10**9])],)),
    "all channels": bad(cuts=([(layer, True, list(range(24)))],)),
    "other cut": bad(cuts=()),
    "weights": bad(weights={**saved.weights, "head.2.bias": torch.zeros(7)}),
    "steps": bad(steps=("prune-structured(0.3)",)),
}
half["checkpoint"].write_bytes(b"no checkpoint at all")
told["bad"]["file"] = failure(lambda: step("prune-unstructured(0.5)", request, half, ("prune-structured(0.5)",)))

sys.path.insert(0, str(root))
import nets
image = torch.randn(1, 3, 8, 8)
def prune(name, example, module):
    shapes = lambda: {name: list(value.shape) for name, value in module.state_dict().items()}
    before = shapes()
    failed = failure(lambda: remove_channels(module.eval(), Examples({"x": example.numpy()[None]}), 0.5, name))
    told[name] = failed or {name: shape for name, shape in shapes().items() if before[name] != shape}
prune("transformer", torch.arange(12).reshape(1, 12), nets.Transformer())
prune("tied", torch.randn(1, 8), nets.Tied())
prune("flat", image, nets.Flat())
prune("flipped", image, nets.Flipped())
prune("fixed", image, nets.Fixed())
prune("single", torch.randn(1, 8), torch.nn.Linear(8, 3))
(root / "told.json").write_text(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, warm_torch: WarmTorch) -> dict[str, Any]:
    """What the script saw."""
    root = tmp_path_factory.mktemp("compressions")
    (root / "nets.py").write_text(NETS, encoding="utf-8")
    warm_torch.run(SCRIPT, str(root), folder=root)
    found: dict[str, Any] = json.loads((root / "told.json").read_bytes())
    return found


def parameters(seen: dict[str, Any]) -> int:
    """Of the exported program, as facts have it."""
    count: int = seen["facts"]["parameters"]
    return count


def test_channels_are_really_gone(told: dict[str, Any]) -> None:
    whole, half = told["net"], told["half"]
    assert half["weights"]["stem.0.weight"] == [8, 3, 3, 3]
    assert half["weights"]["depthwise.weight"] == [16, 1, 3, 3]
    assert half["weights"]["squeeze.weight"] == [4, 16, 1, 1]
    assert half["weights"]["narrow.weight"] == [8, 16, 1, 1]
    assert half["weights"]["grouped.weight"] == [8, 2, 3, 3]
    assert half["weights"]["head.2.weight"] == [5, 12]  # the output layer keeps its classes
    assert half["facts"]["removed_share"] == pytest.approx(1 - parameters(half) / parameters(whole))
    assert half["facts"]["removed_share"] > 0.6
    assert half["facts"]["flops"] < 0.5 * whole["facts"]["flops"]


def test_the_same_weights_are_pruned_although_the_source_would_build_others(told: dict[str, Any]) -> None:
    assert told["little"]["snr_db"] > 20
    assert told["little"]["facts"]["nonzero_parameters"] < parameters(told["little"]) == parameters(told["net"])


def test_chains_go_on_where_earlier_steps_ended(told: dict[str, Any]) -> None:
    half, again, zeros = told["half"], told["again"], told["zeros"]
    assert again["weights"]["stem.0.weight"] == [4, 3, 3, 3]
    assert parameters(again) < parameters(half)
    assert again["facts"]["removed_share"] > half["facts"]["removed_share"]
    assert zeros["weights"] == again["weights"]
    weights = sum(_size(shape) for shape in zeros["weights"].values() if len(shape) > 1)
    assert zeros["zeros"] == pytest.approx(weights / 2, abs=1)


def test_little_by_little_comes_to_what_was_asked_for(told: dict[str, Any]) -> None:
    assert told["structured"]["weights"] == told["half"]["weights"]
    whole, zeros = told["net"], told["unstructured"]
    assert zeros["weights"] == whole["weights"]
    weights = sum(_size(shape) for shape in whole["weights"].values() if len(shape) > 1)
    assert zeros["zeros"] == pytest.approx(weights / 2, abs=2)
    assert [len(told[kind]["facts"]["fine_tunings"]) for kind in ("structured", "unstructured")] == [2, 2]
    assert told["no data"][0] == "no_data"


def test_one_channel_of_each_layer_stays(told: dict[str, Any]) -> None:
    assert told["most"]["weights"]["wide.0.weight"][0] == 1
    assert told["most"]["weights"]["grouped.weight"] == [4, 1, 3, 3]  # one of each group
    assert told["most"]["weights"]["head.2.weight"] == [5, 1]


def test_attention_keeps_its_heads(told: dict[str, Any]) -> None:
    assert told["transformer"] == {"inner.weight": [32, 16], "inner.bias": [32], "outer.weight": [16, 32]}


def test_what_is_flattened_loses_all_inputs_of_a_channel(told: dict[str, Any]) -> None:
    assert told["flat"]["last.weight"] == [4, 4 * 9]


def test_layers_that_share_a_weight_keep_it(told: dict[str, Any]) -> None:
    assert told["tied"] == {"inner.weight": [6, 8], "inner.bias": [6], "last.weight": [2, 6]}


@pytest.mark.parametrize(
    ("net", "code", "words"),
    [
        ("flipped", "does_not_prune", "do not belong together"),
        ("fixed", "does_not_prune", "does not run with fewer channels"),
        ("single", "unsupported", "no channels between its layers"),
    ],
)
def test_what_cannot_be_pruned_says_why(told: dict[str, Any], net: str, code: str, words: str) -> None:
    assert told[net][0] == code
    assert words in told[net][1]


def test_a_checkpoint_is_not_believed(told: dict[str, Any]) -> None:
    assert {what: failed and failed[0] for what, failed in told["bad"].items()} == dict.fromkeys(
        ("layer", "channel", "all channels", "other cut", "weights", "steps", "file"), "bad_checkpoint"
    )


def _size(shape: list[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size
