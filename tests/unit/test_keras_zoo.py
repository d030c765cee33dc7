"""workers.models.keras_zoo: names are known without importing Keras or TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import pytest

from workers.contract import ModelRequest
from workers.models import keras_zoo
from workers.models.keras_zoo import KerasZoo
from workers.models.source import UnknownModelError

RESNET = '''
@keras_export(
    [
        "keras.applications.resnet50.ResNet50",
        "keras.applications.resnet.ResNet50",
        "keras.applications.ResNet50",
    ]
)
def ResNet50(
    include_top=True,
):
    """Builds it."""


@keras_export("keras.applications.ResNet101")
def ResNet101(include_top=True):
    pass


@keras_export("keras.applications.resnet.preprocess_input")
def preprocess_input(x):
    pass


def ResNet(stack_fn):
    pass
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Keras with two applications."""
    applications = tmp_path / "keras" / "src" / "applications"
    applications.mkdir(parents=True)
    (applications / "resnet.py").write_text(RESNET)
    found_with(monkeypatch, ModuleSpec("keras", None, origin=str(tmp_path / "keras" / "__init__.py")))


def found_with(monkeypatch: pytest.MonkeyPatch, spec: ModuleSpec | None) -> None:
    """Let the zoo find this Keras."""
    monkeypatch.setattr(keras_zoo, "find_spec", lambda name: spec)
    monkeypatch.setattr(keras_zoo, "_applications", keras_zoo._applications.__wrapped__)  # without its cache


def refusal(name: str) -> str:
    """What a name is refused with."""
    with pytest.raises(UnknownModelError) as refused:
        KerasZoo().resolve(ModelRequest(name=name))
    assert refused.value.exit_code == 2
    return str(refused.value)


@pytest.mark.usefixtures("installed")
def test_the_zoo_lists_exported_applications_and_nothing_else() -> None:
    assert KerasZoo().names() == ["keras/ResNet101", "keras/ResNet50"]


@pytest.mark.usefixtures("installed")
def test_a_known_name_resolves_to_a_program() -> None:
    request = ModelRequest(name="keras/ResNet50", seed=3)
    resolved = KerasZoo().resolve(request)
    assert resolved is not None
    assert (resolved.name, resolved.format, resolved.recipe) == ("keras/ResNet50", "savedmodel", "fp32")
    assert resolved.request == request


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["keras/ResNet05", "keras/resnet50", "keras/Resnet-50"])
def test_an_unknown_name_is_answered_with_close_ones_whatever_its_case(name: str) -> None:
    assert "did you mean keras/ResNet50" in refusal(name)


@pytest.mark.usefixtures("installed")
def test_a_name_like_no_other_is_answered_with_where_names_are() -> None:
    assert "see benchfarm models list" in refusal("keras/zzz")


@pytest.mark.usefixtures("installed")
def test_a_name_of_another_source_is_left_to_it() -> None:
    assert KerasZoo().resolve(ModelRequest(name="ResNet50")) is None
    assert KerasZoo().resolve(ModelRequest(name="torchvision/resnet50")) is None


def test_without_keras_the_answer_is_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found_with(monkeypatch, None)
    assert KerasZoo().names() == []
    assert "pip install 'benchfarm[tensorflow]'" in refusal("keras/ResNet50")


LIST_AND_RESOLVE = """
import sys
from workers.contract import ModelRequest
from workers.models.keras_zoo import KerasZoo
zoo = KerasZoo()
for name in ("MobileNetV3Small", "MobileNetV2", "ResNet50", "EfficientNetB0"):
    assert "keras/" + name in zoo.names() and zoo.resolve(ModelRequest(name="keras/" + name))
print(*sorted({"keras", "tensorflow"} & set(sys.modules)))
"""


@pytest.mark.skipif(find_spec("keras") is None and "CI" not in os.environ, reason="Keras is not installed")
def test_listing_and_resolving_import_neither_keras_nor_tensorflow() -> None:
    done = subprocess.run([sys.executable, "-c", LIST_AND_RESOLVE], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""
