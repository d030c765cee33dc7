"""android.toml: everything it can say, and every slip refused by its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_registry.errors import UsageError
from workers.android.settings import Settings, load_settings, settings_path

SHA = "ab" * 32
FULL = f"""
[tools.benchmark-model.arm64-v8a]
path = "tools/benchmark_model"
sha256 = "{SHA}"
version = "2.19"
libraries = [{{ path = "/opt/libc++_shared.so", sha256 = "{SHA}" }}]
[tools.benchmark-model.armeabi-v7a]
path = "tools/benchmark_model_32"
sha256 = "{SHA}"
[delegates.qnn]
library = "libQnnTFLiteDelegate.so"
sha256 = "{SHA}"
options = "backend_type:htp"
[delegates.neuron]
on_phone = "/vendor/lib64/libneuron.so"
[gate]
battery_min_percent = 40
battery_max_percent = 80
skin_limit_c = 36.5
thermal_status_max = 1
[prepare]
fixed_performance = false
screen = "leave"
airplane = true
[adb]
port = 5038
path = "/usr/bin/adb"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "android.toml"


def load(file: Path, text: str) -> Settings:
    file.write_text(text)
    return load_settings(file)


def test_full_file_is_read(file: Path) -> None:
    found = load(file, FULL)
    tool = found.tools["benchmark-model"]["arm64-v8a"]
    assert tool.binary.path == file.parent / "tools/benchmark_model"  # beside the file, wherever that is read from
    assert [library.path for library in tool.libraries] == [Path("/opt/libc++_shared.so")]
    assert tool.label == f"2.19 ({SHA[:12]})"
    assert found.tools["benchmark-model"]["armeabi-v7a"].label == f"sha256:{SHA[:12]}"
    assert found.delegates["qnn"].options == "backend_type:htp"
    assert found.delegates["neuron"].on_phone == "/vendor/lib64/libneuron.so"
    assert (found.gate.battery_min_percent, found.gate.battery_max_percent) == (40, 80)
    assert (found.gate.skin_limit_c, found.gate.thermal_status_max) == (36.5, 1)
    assert (found.prepare.fixed_performance, found.prepare.screen, found.prepare.airplane) == (False, "leave", True)
    assert (found.adb.port, found.adb.path) == (5038, "/usr/bin/adb")


def test_phone_gets_the_build_for_its_best_abi(file: Path) -> None:
    found = load(file, FULL)
    chosen = found.tool("benchmark-model", ("arm64-v8a", "armeabi-v7a"))
    assert chosen is not None
    assert chosen.abi == "arm64-v8a"
    assert found.tool("benchmark-model", ("x86_64",)) is None
    assert found.tool("executor-runner", ("arm64-v8a",)) is None


def test_without_a_file_there_are_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BENCHFARM_ANDROID", raising=False)
    monkeypatch.setenv("BENCHFARM_HOME", str(tmp_path))
    assert load_settings() == Settings()


def test_file_is_found_by_its_variable_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BENCHFARM_ANDROID", raising=False)
    monkeypatch.setenv("BENCHFARM_HOME", str(tmp_path))
    (tmp_path / "android.toml").write_text("")
    assert settings_path() == tmp_path / "android.toml"
    monkeypatch.setenv("BENCHFARM_ANDROID", str(tmp_path / "other.toml"))
    assert settings_path() == tmp_path / "other.toml"
    with pytest.raises(UsageError, match=r"other\.toml: No such file"):  # named, so it must be there
        load_settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[gates]\n", "unknown key gates; known here are tools, delegates, gate"),
        ("[gate]\nbattery_min = 3\n", r"unknown key gate\.battery_min; known here are battery_min_percent"),
        ("[gate]\nbattery_min_percent = 101\n", r"gate\.battery_min_percent must be a number from 0 to 100"),
        ("[gate]\nbattery_min_percent = true\n", "must be a number"),
        ("[gate]\nskin_limit_c = nan\n", "must be a number"),
        ("[gate]\nbattery_min_percent = 90\nbattery_max_percent = 80\n", "above battery_max_percent"),
        ("gate = 3\n", "gate must be a table"),
        ("[prepare]\nscreen = 'dim'\n", "'dim' is none of off, on, leave"),
        ("[prepare]\nairplane = 'yes'\n", r"prepare\.airplane must be true or false"),
        ("[adb]\nport = 70000\n", "from 1 to 65535"),
        ("[tools.benchmark_model.arm64-v8a]\n", "unknown tool; known are benchmark-model"),
        ("[tools.benchmark-model.'../x']\n", "no ABI is called so"),
        ("[tools.benchmark-model.arm64-v8a]\npath = 'x'\n", "needs path and sha256"),
        ("[tools.benchmark-model.arm64-v8a]\npath = 'x'\nsha256 = 'AB'\n", "64 hexadecimal digits"),
        (f"[tools.benchmark-model.arm64-v8a]\npath = 'a b'\nsha256 = '{SHA}'\n", "cannot be pushed"),
        (f"[tools.benchmark-model.arm64-v8a]\npath = 'x'\nsha256 = '{SHA}'\nlibraries = ['y']\n", "must be a list of"),
        (
            f"[tools.benchmark-model.arm64-v8a]\npath = 'x'\nsha256 = '{SHA}'\nflavour = 'y'\n",
            "unknown key tools.*flavour",
        ),
        ("[delegates.hexagon]\non_phone = '/x'\n", "unknown delegate"),
        ("[delegates.qnn]\n", "either library"),
        (f"[delegates.qnn]\nlibrary = 'x'\nsha256 = '{SHA}'\non_phone = '/x'\n", "either library"),
        ("[gate\n", "is no TOML"),
    ],
)
def test_slip_is_refused_by_its_place(file: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        load(file, text)
    assert str(file) in str(caught.value)


def test_file_that_is_no_text_is_refused(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is no TOML"):
        load_settings(file)


_KEYS = st.sampled_from(["tools", "delegates", "gate", "prepare", "adb", "benchmark-model", "qnn", "arm64-v8a", "path"])
_VALUES = st.one_of(
    st.sampled_from(["true", "3", "-1", "1.5", "nan", "inf", "'x'", "[]", "{}", "[{}]", f"'{SHA}'", "1979-05-27", "''"])
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.lists(_KEYS, min_size=1, max_size=3), _KEYS, _VALUES), max_size=4))
def test_any_file_is_read_or_refused(file: Path, entries: list[tuple[list[str], str, str]]) -> None:
    text = "\n".join(f"[{'.'.join(table)}]\n{key} = {value}" for table, key, value in entries)
    try:
        load(file, text)
    except UsageError as error:
        assert "\n" not in str(error).removesuffix("\n") or "TOML" in str(error)  # noqa: PT017
