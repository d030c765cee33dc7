"""workers.plugins: a duplicate name fails at start, and what is missing says how to get it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint

import pytest

from workers import plugins as plugins_module
from workers.plugins import PluginError, capability, load_entry, package_versions, plugins

Register = Callable[..., None]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[Register]:
    """Replace what is registered: (name, entry) each."""

    def replace(*points: tuple[str, str]) -> None:
        plugins.cache_clear()
        monkeypatch.setattr(
            plugins_module, "entry_points", lambda group: [EntryPoint(name, value, group) for name, value in points]
        )

    yield replace
    monkeypatch.undo()
    plugins.cache_clear()


@pytest.mark.parametrize(
    ("seam", "name"),
    [
        ("model_sources", "torchvision"),
        ("converters", "onnx-export"),
        ("runtimes", "onnxruntime"),
        ("devices", "cpu"),
        ("sensors", "rapl"),
    ],
)
def test_every_seam_has_its_built_ins_registered(seam: str, name: str) -> None:
    assert plugins(seam)[name].load() is not None


def test_two_backends_of_one_name_fail_and_both_are_named(register: Register) -> None:
    register(("torch", "ours:Torch"), ("other", "x:Y"), ("torch", "theirs:Torch"))
    with pytest.raises(PluginError, match=r"two runtimes are called 'torch': ours:Torch and theirs:Torch"):
        plugins("runtimes")


def test_one_backend_registered_twice_is_one(register: Register) -> None:
    register(("torch", "ours:Torch"), ("torch", "ours:Torch"))
    assert list(plugins("runtimes")) == ["torch"]


def test_the_order_does_not_depend_on_what_was_installed_first(register: Register) -> None:
    register(("b", "m:B"), ("a", "m:A"))
    first = list(plugins("runtimes"))
    register(("a", "m:A"), ("b", "m:B"))
    assert list(plugins("runtimes")) == first


def test_an_installation_without_backends_says_what_to_do(register: Register) -> None:
    register()
    with pytest.raises(PluginError, match="not installed in this interpreter"):
        plugins("runtimes")
    assert plugins("sensors") == {}


def test_an_entry_is_made_from_module_and_class() -> None:
    from collections import OrderedDict

    assert load_entry("collections:OrderedDict") == OrderedDict()


def test_versions_of_what_is_not_installed_are_left_out() -> None:
    assert list(package_versions(("pytest", "no-such-distribution"))) == ["pytest"]


def test_a_backend_with_its_packages_is_able() -> None:
    able = capability("x", ("pytest",), "extra")
    assert (able.name, able.why_not, able.fix) == ("x", None, None)
    assert able.versions == {"pytest": pytest.__version__}


def test_a_backend_without_its_packages_says_which_and_the_command_that_mends_it() -> None:
    lacking = capability("x", ("pytest", "no-such-a", "no-such-b"), "onnx")
    assert lacking.why_not == "no-such-a, no-such-b not installed"
    assert lacking.fix == "pip install 'benchfarm[onnx]'"
    assert lacking.versions == {}


def test_another_reason_is_told_where_no_package_is_missing() -> None:
    assert capability("x", ("pytest",), "", "macOS only").why_not == "macOS only"
    assert capability("x", ("no-such",), "extra", "macOS only").why_not == "no-such not installed"


def test_a_module_without_metadata_is_there_all_the_same() -> None:
    assert capability("x", ("json",), "").why_not is None


def test_a_package_with_a_dot_in_its_name_can_be_missing() -> None:
    assert capability("x", ("no.such",), "extra").why_not == "no.such not installed"


def test_a_backend_without_an_extra_is_mended_by_its_packages() -> None:
    fix = capability("x", ("no-such",), "").fix
    assert fix is not None
    assert "benchfarm[]" not in fix
