"""Tools of phones as runtimes: names, formats and options for plans; nothing of them is loaded on a host."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.android.tasks import task
from workers.errors import UnsupportedError
from workers.runtimes.phone_tools import (
    PHONE_TOOLS,
    BenchmarkModelRuntime,
    ExecutorRunnerRuntime,
    OrtPerfTestRuntime,
    PhoneRuntime,
)

RUNTIMES = [BenchmarkModelRuntime(), ExecutorRunnerRuntime(), OrtPerfTestRuntime()]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("BENCHFARM_ANDROID", raising=False)
    monkeypatch.setenv("BENCHFARM_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_runtime_is_for_phones_and_loads_nothing_here(runtime: PhoneRuntime) -> None:
    assert runtime.device_kinds == ("android",)
    assert runtime.formats == runtime.tool.formats
    assert PHONE_TOOLS[runtime.tool.binary] is runtime.tool
    with pytest.raises(UnsupportedError, match="on phones only"):
        runtime.load(Path("x"), task())


def test_first_value_of_an_option_is_its_default() -> None:
    assert BenchmarkModelRuntime.options["delegate"] == ("cpu", "gpu", "nnapi", "qnn", "neuron", "tensor")
    assert BenchmarkModelRuntime.options["require_full_delegation"][0] == "no"
    assert OrtPerfTestRuntime.options["delegate"][0] == "cpu"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_missing_binary_is_told_with_what_mends_it(runtime: PhoneRuntime, home: Path) -> None:
    why, mend = runtime.missing() or ("", "")
    assert runtime.tool.binary in why
    assert f"[tools.{runtime.tool.binary}.arm64-v8a]" in mend
    (home / "android.toml").write_text(
        f"[tools.{runtime.tool.binary}.arm64-v8a]\npath = 'tool'\nsha256 = '{'0' * 64}'\n"
    )
    assert runtime.missing() is None


def test_settings_with_a_slip_are_told(home: Path) -> None:
    (home / "android.toml").write_text("[tool]\n")
    why, mend = RUNTIMES[0].missing() or ("", "")
    assert "unknown key tool" in why
    assert "android.toml" in mend
