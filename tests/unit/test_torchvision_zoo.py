"""workers.models.torchvision_zoo: names are known without importing what makes the models."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import pytest

from workers.contract import ModelRequest
from workers.models import torchvision_zoo
from workers.models.source import UnknownModelError
from workers.models.torchvision_zoo import TorchvisionZoo

RESNET = """
@register_model()
@handle_legacy_interface(weights=("pretrained", None))
def resnet18(*, weights=None):
    pass


@register_model()
def resnet34(*, weights=None):
    pass


@register_model(name="quantized_resnet18")
def resnet_q(*, weights=None):
    pass


def resnet_not_registered():
    pass
"""
DETECTOR = """
@register_model()
def ssd300():
    pass
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torchvision with three classifiers and a detector."""
    models = tmp_path / "torchvision" / "models"
    (models / "detection").mkdir(parents=True)
    (models / "resnet.py").write_text(RESNET)
    (models / "detection" / "ssd.py").write_text(DETECTOR)
    found_with(monkeypatch, ModuleSpec("torchvision", None, origin=str(tmp_path / "torchvision" / "__init__.py")))


def found_with(monkeypatch: pytest.MonkeyPatch, spec: ModuleSpec | None) -> None:
    """Let the zoo find this torchvision."""
    monkeypatch.setattr(torchvision_zoo, "find_spec", lambda name: spec)
    monkeypatch.setattr(torchvision_zoo, "_registered", torchvision_zoo._registered.__wrapped__)  # without its cache


def refusal(name: str) -> str:
    """What a name is refused with."""
    with pytest.raises(UnknownModelError) as refused:
        TorchvisionZoo().resolve(ModelRequest(name=name))
    assert refused.value.exit_code == 2
    return str(refused.value)


@pytest.mark.usefixtures("installed")
def test_the_zoo_lists_registered_classifiers_and_nothing_else() -> None:
    assert TorchvisionZoo().names() == [
        "torchvision/quantized_resnet18",
        "torchvision/resnet18",
        "torchvision/resnet34",
    ]


@pytest.mark.usefixtures("installed")
def test_a_known_name_resolves_to_a_program() -> None:
    request = ModelRequest(name="torchvision/resnet18", seed=3)
    resolved = TorchvisionZoo().resolve(request)
    assert resolved is not None
    assert (resolved.name, resolved.format, resolved.recipe) == ("torchvision/resnet18", "pt2", "fp32")
    assert resolved.request == request


@pytest.mark.usefixtures("installed")
def test_an_unknown_name_is_answered_with_close_ones() -> None:
    assert "did you mean torchvision/resnet18" in refusal("torchvision/resnet81")
    assert "see benchfarm models list" in refusal("torchvision/zzz")


@pytest.mark.usefixtures("installed")
def test_a_name_of_another_source_is_left_to_it() -> None:
    assert TorchvisionZoo().resolve(ModelRequest(name="resnet18")) is None


def test_without_torchvision_the_answer_is_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found_with(monkeypatch, None)
    assert TorchvisionZoo().names() == []
    assert "pip install 'benchfarm[torch]'" in refusal("torchvision/resnet18")


LIST_AND_RESOLVE = """
import sys
from workers.contract import ModelRequest
from workers.models.source import UnknownModelError
from workers.models.torchvision_zoo import TorchvisionZoo
zoo = TorchvisionZoo()
assert len(zoo.names()) > 50 and "torchvision/mobilenet_v3_small" in zoo.names()
assert zoo.resolve(ModelRequest(name="torchvision/resnet18"))
try:
    zoo.resolve(ModelRequest(name="torchvision/mobilenet_v3_smal"))
except UnknownModelError as error:
    print(error)
print(*sorted({"torch", "torchvision"} & set(sys.modules)))
"""


@pytest.mark.skipif(find_spec("torchvision") is None and "CI" not in os.environ, reason="torchvision is not installed")
def test_listing_and_resolving_import_neither_torch_nor_torchvision() -> None:
    done = subprocess.run([sys.executable, "-c", LIST_AND_RESOLVE], check=True, capture_output=True, text=True)
    sentence, imported = done.stdout.split("\n")[:2]
    assert "torchvision/mobilenet_v3_small" in sentence
    assert imported == ""
