"""Sweep files are read with the place of everything that is wrong with them; hostile ones end in a sentence."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from device_registry.errors import UsageError
from scheduler.sweeps.complaints import SweepFileError
from scheduler.sweeps.document import MOST_CHARACTERS, read_document
from scheduler.sweeps.file import load_sweep, read_sweep, seconds_of
from scheduler.sweeps.schema import schema
from scheduler.sweeps.submission import with_models
from scheduler.sweeps.template import template

FOLDER = Path("/lab")
LEAST = "name: night\nmodels: [sim/tiny]\n"


def complaints(text: str) -> list[str]:
    """What is said of a file."""
    with pytest.raises(SweepFileError) as refused:
        read_sweep(text, FOLDER, source="s.yaml")
    return str(refused.value).splitlines()


def said(text: str) -> list[str]:
    """What is said of a file that may be well."""
    with suppress(SweepFileError):
        read_sweep(text, FOLDER, source="s.yaml")
        return []
    return complaints(text)


def test_the_least_file_has_the_defaults_that_the_schema_states() -> None:
    sweep = read_sweep(LEAST, FOLDER, source="s.yaml")
    assert (sweep.name, sweep.models, sweep.repeats, sweep.threads, sweep.batches) == (
        "night",
        ("sim/tiny",),
        5,
        (1,),
        (1,),
    )
    assert (sweep.modes, sweep.selectors, sweep.spread, sweep.gate) == (("burst",), ("",), "each", "wait")
    assert (sweep.stale_after_s, sweep.budget_s, sweep.deadline_s) == (86400.0, None, None)


def test_paths_start_from_the_folder_of_the_file_and_names_stay() -> None:
    text = "name: x\nmodels: [a.onnx, ../b/c.tflite, /abs/d.pt2, torchvision/resnet18, pkg.mod:make]\n"
    sweep = read_sweep(text + "calibration: in.npz\n", FOLDER, source="s.yaml")
    assert sweep.models == (
        "/lab/a.onnx",
        "/lab/../b/c.tflite",
        "/abs/d.pt2",
        "torchvision/resnet18",
        "pkg.mod:make",
    )
    assert sweep.calibration == "/lab/in.npz"


def test_words_of_yaml_1_1_are_texts() -> None:
    data = read_document("a: [on, no, yes, off, 1:30, 2026-01-02, 0x10, 0o7, .inf]\nb: [true, ~, 012, 1.5]", "s").data
    assert data["a"] == ["on", "no", "yes", "off", "1:30", "2026-01-02", "0x10", "0o7", ".inf"]
    assert data["b"] == [True, None, 12, 1.5]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "s.yaml:1:1: the file is empty"),
        ("[1, 2]", "s.yaml:1:1: a sweep is a mapping of fields"),
        ("name: x", "s.yaml:1:1: models is missing"),
        ("name: [", "s.yaml:1:8: not YAML"),
        ("a: 1\n\tb: 2", "s.yaml:2:1: not YAML"),
        ("a: \x00", "s.yaml:1:4: a character that YAML does not allow: U+0000"),
        (LEAST + "name: again\n", "s.yaml:3:1: 'name' stands twice, first in line 1"),
        (LEAST + "<<: {a: 1}\n", "s.yaml:3:1: << is not merged"),
        (LEAST + "seed: !!python/object/apply:os.system [id]\n", "has no meaning here"),
        (LEAST + "? [a]\n: b\n", "s.yaml:3:3: a key is a word"),
        (LEAST + "exclude: &x [*x]\n", "an anchor that contains itself"),
        (LEAST + "exclude: [*nowhere]\n", "s.yaml:3:11: not YAML: found undefined alias"),
        (LEAST + "seed: 1e999\n", "s.yaml:3:7: '1e999' is too large a number"),
        (LEAST + "exclude: " + "[" * 100, "nested deeper than 20 levels"),
        (LEAST + "#" * MOST_CHARACTERS, "a sweep has"),
        (LEAST + "runtime: [sim]\n", 's.yaml:3:1: unknown field "runtime": did you mean runtimes?'),
        (
            LEAST + "runtimes: [sim, onnxruntim]\n",
            "s.yaml:3:17: unknown runtime 'onnxruntim': did you mean onnxruntime?",
        ),
        (LEAST + "recipes: int9\n", "s.yaml:3:10: unknown recipe 'int9'"),
        (LEAST + "runtime_options: {exec: x}\n", "s.yaml:3:19: unknown option 'exec'"),
        (LEAST + "runtime_options: {execution: odd}\n", "unknown value of option execution 'odd'"),
        (LEAST + "devices: ['kind==a']\n", "s.yaml:3:11: devices: device selector 'kind==a': cannot read"),
        (LEAST + "options: {threads: [1, 0]}\n", "s.yaml:3:24: options.threads: 0: a whole number from 1"),
        (LEAST + "options: {mode: offline, rate_hz: 3}\n", "rate_hz has no place in mode offline"),
        (LEAST + "options: {percentile: 91}\n", "a percentile is 90, 95 or 99"),
        (LEAST + "budget: {deadline: soon}\n", "a time is written 90s, 15m, 6h, 1d or 1h30m"),
        (LEAST + "budget: {deadline: 999999999d}\n", "ten years at most"),
        (LEAST + "stale_after: 0s\n", "above 0"),
        (LEAST + "repeats: true\n", "repeats: true: a whole number from 1 to 1000"),
        (LEAST + "exclude: [{}]\n", "one field at least"),
        (LEAST + "exclude: [{runtimes: x}]\n", "did you mean runtime?"),
        (LEAST + "gate: no\n", "gate is wait, strict or none"),
        ("name: a b\nmodels: [1]\n", "a name is letters"),
    ],
)
def test_a_mistake_is_said_with_its_place(text: str, says: str) -> None:
    assert any(says in line for line in complaints(text)), complaints(text)


def test_several_mistakes_are_said_at_once_in_the_order_of_the_file() -> None:
    told = complaints("name: a b\nmodels: []\nrepeats: 0\ngate: x\n")
    assert [line.split(" ")[0] for line in told] == ["s.yaml:1:7:", "s.yaml:2:9:", "s.yaml:3:10:", "s.yaml:4:7:"]
    assert complaints(LEAST + "\n".join(f"x{n}: 1" for n in range(30)))[-1] == "s.yaml: and 10 more"


def test_anchors_are_allowed_and_bounded() -> None:
    text = "exclude:\n  - &a {recipe: fp32, runtime: sim}\n  - *a\n"
    sweep = read_sweep(LEAST + text, FOLDER, source="s.yaml")
    assert sweep.exclude[0].fields == sweep.exclude[1].fields
    bomb = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdef", "bcdefg", strict=True)
    )
    assert complaints(bomb) == ["s.yaml:1:32: with its anchors unfolded it has more than 20000 values"]


_WORDS = st.sampled_from(
    [
        *schema()["properties"],
        "threads",
        "batch",
        "model",
        "runtime",
        "sim",
        "each",
        "1h",
        "fp32",
        "*a",
        "&a",
        "!!x",
        "<<",
    ]
)
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    _WORDS,
    st.dates(),
    st.binary(max_size=5),
)
_DATA = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_WORDS | st.text(max_size=5), inner, max_size=5),
    max_leaves=15,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=200) | _DATA.map(lambda data: yaml.safe_dump(data, allow_unicode=True)))
@example("a: &a {b: *a}")
@example("- \ud800")
@example("%YAML 3.0\n---\n")
@example("'\\")
@example("a: !<tag:yaml.org,2002:int> x")
@example("&a : 1")
def test_no_text_ends_in_anything_but_a_sentence(text: str) -> None:
    assert all(line.startswith("s.yaml") for line in said(text))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(sorted(schema()["properties"])), _DATA, max_size=4))
def test_no_values_of_known_fields_end_in_anything_but_a_sentence(data: dict[str, object]) -> None:
    text = yaml.safe_dump({"name": "x", "models": ["sim/tiny"], **data}, allow_unicode=True)
    assert all(line.startswith("s.yaml:") for line in said(text))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_no_file_ends_in_anything_but_a_sentence(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile.yaml"
    path.write_bytes(content)
    with pytest.raises(SweepFileError):
        load_sweep(path)


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    for path, says in (
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path, "is no file"),
        (Path("\0"), "no such file"),
    ):
        with pytest.raises(UsageError, match=says):
            load_sweep(path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"name: x\nmodels: [\xe9]\n")
    with pytest.raises(SweepFileError, match=r"latin.yaml:2:10: not UTF-8"):
        load_sweep(latin)


def test_times() -> None:
    assert [seconds_of(text) for text in ("90s", "15m", "6h", "1d", "1h30m", "1.5h")] == [
        90,
        900,
        21600,
        86400,
        5400,
        5400,
    ]


def test_accuracy_and_memory_are_asked_for() -> None:
    text = "name: x\nmodels: [sim/tiny]\nevaluate: true\ndata: npz:d.npz\nmax_memory: 1.5GB\n"
    sweep = read_sweep(text, FOLDER, source="s.yaml")
    assert (sweep.evaluate, sweep.data, sweep.max_memory_bytes) == (True, "npz:/lab/d.npz", 1_500_000_000)
    plain = read_sweep("name: x\nmodels: [sim/tiny]\ndata: digits\n", FOLDER, source="s.yaml")
    assert (plain.evaluate, plain.data, plain.max_memory_bytes) == (False, "digits", None)
    for wrong in ("1.5", "8 gigabytes", "1MB"):
        with pytest.raises(SweepFileError, match="max_memory"):
            read_sweep(f"name: x\nmodels: [sim/tiny]\nmax_memory: '{wrong}'\n", FOLDER, source="s.yaml")


def test_the_file_that_init_writes_names_every_field_and_is_valid_as_it_stands() -> None:
    text = template("mine", ["sim/tiny", "./it's.onnx"], 'kind=cpu,model="a, b"', file="s.yaml", schema="x.json")
    sweep = read_sweep(text, FOLDER, source="s.yaml")
    assert sweep.models == ("sim/tiny", "/lab/it's.onnx")
    assert sweep.selectors == ('kind=cpu,model="a, b"',)
    unnamed = {"description", "weights", "seed", "calibration"}
    assert all(f"{name}:" in text for name in set(schema()["properties"]) - unnamed)


def test_every_field_of_the_schema_is_described() -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(schema())
    fields = [schema()["properties"], schema()["properties"]["options"]["properties"]]
    fields += [schema()["properties"]["budget"]["properties"], schema()["$defs"]["rule"]["properties"]]
    for properties in fields:
        assert all(field["description"].endswith(".") for field in properties.values()), json.dumps(properties)


def test_models_are_replaced_by_others_of_the_same_series() -> None:
    sweep = read_sweep("name: x\nmodels: [a.onnx, sim/tiny]\n", FOLDER, source="s.yaml")
    assert with_models(sweep, ["sim/tiny=sim/tiny@1.05"], FOLDER).models == ("/lab/a.onnx", "sim/tiny@1.05")
    assert with_models(sweep, ["sim/mobilenet"], Path("/ci")).models == ("sim/mobilenet",)
    assert with_models(sweep, ["./b.onnx"], Path("/ci")).models == ("/ci/b.onnx",)
    assert with_models(sweep, (), FOLDER) == sweep
    for given_, says in (
        (["other=sim/tiny"], "lists no other"),
        (["sim/tiny=sim/mobilenet"], "known as sim/mobilenet: its points would make other series"),
        (["a.onnx=/ci/a.onnx"], "no such file"),
        (["sim/tiny=sim/tiny", "sim/mobilenet"], "exclude each other"),
    ):
        with pytest.raises(UsageError, match=says):
            with_models(sweep, given_, FOLDER)
