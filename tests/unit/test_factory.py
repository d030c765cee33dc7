"""workers.models.factory: code of the user is refused unless allowed, and known by all of its source."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from workers.contract import ModelRequest
from workers.models.factory import Factory
from workers.models.source import Resolved, UnknownModelError

EXPLODES = "raise SystemExit('ran')"


def resolve(folder: Path, name: str = "mine:make", *, allow_code: bool = True) -> Resolved | None:
    """What a factory's name means, with its modules in a folder."""
    return Factory().resolve(ModelRequest(name=name, allow_code=allow_code, search_path=(str(folder),)))


def test_code_of_the_user_is_refused_unless_it_was_allowed(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(EXPLODES)
    with pytest.raises(UnknownModelError, match="add --allow-code to run it"):
        resolve(tmp_path, allow_code=False)


def test_allowed_code_is_found_but_not_run_while_planning(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(EXPLODES)
    resolved = resolve(tmp_path)
    assert resolved is not None
    assert (resolved.name, resolved.format, resolved.recipe) == ("mine:make", "pt2", "fp32")
    assert "mine" not in sys.modules


@pytest.mark.parametrize("changed", ["mine.py", "helper.py"])
def test_a_change_of_the_module_or_of_its_neighbour_is_another_model(tmp_path: Path, changed: str) -> None:
    (tmp_path / "mine.py").write_text("import helper")
    (tmp_path / "helper.py").write_text("size = 1")
    first, again = resolve(tmp_path), resolve(tmp_path)
    (tmp_path / changed).write_text("size = 2")
    second = resolve(tmp_path)
    assert first is not None
    assert again is not None
    assert second is not None
    assert first.identity == again.identity != second.identity


def test_a_change_anywhere_in_a_package_is_another_model(tmp_path: Path) -> None:
    (tmp_path / "zoo" / "deep").mkdir(parents=True)
    for name in ("zoo/__init__.py", "zoo/deep/__init__.py", "zoo/deep/layers.py"):
        (tmp_path / name).write_text("")
    first = resolve(tmp_path, "zoo.deep:make")
    (tmp_path / "zoo" / "deep" / "layers.py").write_text("size = 2")
    second = resolve(tmp_path, "zoo.deep:make")
    assert first is not None
    assert second is not None
    assert first.identity != second.identity


def test_a_module_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="no module 'no_such_module' found"):
        resolve(tmp_path, "no_such_module:make")


@pytest.mark.parametrize("name", ["torchvision/resnet18", "model.onnx", "a:b:c", "a b:c", "a:", ":b", "C:/x", "1a:b"])
def test_what_is_no_factory_is_left_to_other_sources(tmp_path: Path, name: str) -> None:
    assert resolve(tmp_path, name) is None
