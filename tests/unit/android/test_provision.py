"""Tools on a phone: pushed whole, verified there, kept by digest, and refused where they cannot run."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.android.local_phone import LocalPhone
from workers.android.job_loop import JOB
from workers.android.phone import PhoneFullError, PhoneLostError
from workers.android.provision import TOOLS, chosen_delegate, chosen_tool, ensure_tool, missing_files
from workers.android.settings import Delegate, File, Settings, Tool
from workers.errors import AttemptError, UnsupportedError

HELP = """#!/bin/sh
echo "usage: $0"
echo "Flags:"
echo "        --num_threads=-1        int32   optional        number of threads"
echo "        --use_gpu=false         bool    optional        use gpu"
echo "libraries in $LD_LIBRARY_PATH"
exit 1
"""


@pytest.fixture
def phone(tmp_path: Path) -> LocalPhone:
    return LocalPhone(tmp_path / "phone")


def file(folder: Path, name: str, text: str) -> File:
    path = folder / name
    path.write_text(text)
    return File(path=path, sha256=hashlib.sha256(text.encode()).hexdigest())


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    return Tool(name="benchmark-model", abi="arm64-v8a", binary=file(tmp_path, "benchmark_model", HELP), version="2.19")


def test_tool_is_pushed_once_and_then_known(phone: LocalPhone, tool: Tool) -> None:
    first = ensure_tool(phone, tool)
    assert not first.was_there
    assert first.binary == f"{TOOLS}/{tool.binary.sha256}/benchmark_model"
    assert {"num_threads", "use_gpu"} <= first.flags
    path = phone.root / "tools" / tool.binary.sha256 / "benchmark_model"
    assert path.read_text() == HELP
    assert path.stat().st_mode & 0o777 == 0o755
    phone.calls.clear()
    second = ensure_tool(phone, tool)
    assert second.was_there
    assert second.flags == first.flags
    assert phone.calls == ["run"]  # one question, nothing pushed


def test_libraries_and_delegates_lie_beside_the_binary(phone: LocalPhone, tool: Tool, tmp_path: Path) -> None:
    tool = replace(tool, libraries=(file(tmp_path, "libextra.so", "x"),))
    delegate = Delegate(name="qnn", library=file(tmp_path, "libQnn.so", "q"), options="backend_type:htp")
    found = ensure_tool(phone, tool, delegate)
    files = found.files("/data/model", JOB, delegate)
    assert files.libraries == found.folder
    assert files.delegate.library == f"{found.folder}/libQnn.so"
    assert files.delegate.options == "backend_type:htp"
    there = {path.name for path in (phone.root / "tools" / found.folder.rpartition("/")[2]).iterdir()}
    assert there == {"benchmark_model", "libextra.so", "libQnn.so", "help", "ready"}
    assert ensure_tool(phone, replace(tool, libraries=())).folder != found.folder


def test_delegate_of_the_phone_itself_is_not_pushed(phone: LocalPhone, tool: Tool) -> None:
    delegate = Delegate(name="neuron", on_phone="/vendor/lib64/libneuron.so")
    files = ensure_tool(phone, tool, delegate).files("/data/model", JOB, delegate)
    assert files.delegate.library == "/vendor/lib64/libneuron.so"
    assert files.libraries is None


def test_tool_that_changed_on_the_phone_is_pushed_again(phone: LocalPhone, tool: Tool) -> None:
    found = ensure_tool(phone, tool)
    path = phone.root / "tools" / found.folder.rpartition("/")[2] / "benchmark_model"
    path.write_text("#!/bin/sh\necho other\n")
    assert not ensure_tool(phone, tool).was_there
    assert path.read_text() == HELP


@pytest.mark.parametrize("moment", ["before", "inside", "after"])
def test_cut_at_any_call_leaves_nothing_that_counts_as_ready(tool: Tool, tmp_path: Path, moment: str) -> None:
    whole = LocalPhone(tmp_path / "whole")
    ensure_tool(whole, tool)
    for call in range(len(whole.calls)):
        phone = LocalPhone(tmp_path / f"{moment}{call}")
        phone.calls.clear()
        _cut(phone, call, moment)
        with pytest.raises(PhoneLostError):
            ensure_tool(phone, tool)
        phone.cut = None
        found = ensure_tool(phone, tool)
        assert (phone.root / "tools" / tool.binary.sha256 / "benchmark_model").read_text() == HELP
        assert {"num_threads", "use_gpu"} <= found.flags


def _cut(phone: LocalPhone, call: int, moment: str) -> None:
    from tests.unit.android.local_phone import Cut

    phone.cut = Cut(call=call, moment=moment)  # type: ignore[arg-type]


def test_wrong_digest_here_is_told_before_anything_is_pushed(phone: LocalPhone, tool: Tool) -> None:
    tool = replace(tool, binary=replace(tool.binary, sha256="0" * 64))
    with pytest.raises(AttemptError, match="is it another build") as caught:
        ensure_tool(phone, tool)
    assert caught.value.cause == "user"
    assert "push" not in phone.calls


def test_missing_file_here_is_told(phone: LocalPhone, tool: Tool, tmp_path: Path) -> None:
    gone = replace(tool, binary=replace(tool.binary, path=tmp_path / "gone"))
    assert missing_files(gone) == [tmp_path / "gone"]
    with pytest.raises(AttemptError, match="gone"):
        ensure_tool(phone, gone)


@pytest.mark.parametrize(
    "text",
    ["#!/bin/nothing\n", "#!/bin/sh\necho 'CANNOT LINK EXECUTABLE: library \"libx.so\" not found'\nexit 1\n"],
)
def test_binary_that_cannot_run_there_is_told(phone: LocalPhone, tool: Tool, tmp_path: Path, text: str) -> None:
    tool = replace(tool, binary=file(tmp_path, "other", text))
    with pytest.raises(AttemptError, match="does not run on this phone") as caught:
        ensure_tool(phone, tool)
    assert caught.value.code == "tool_does_not_run"
    with pytest.raises(AttemptError, match="does not run"):  # and it is not taken for ready the next time
        ensure_tool(phone, tool)


def test_full_phone_is_told(phone: LocalPhone, tool: Tool) -> None:
    phone.set_capacity(10)
    with pytest.raises(PhoneFullError):
        ensure_tool(phone, tool)


def test_what_is_not_configured_is_unsupported_with_the_way_to_mend_it(tool: Tool) -> None:
    settings = Settings(tools={"benchmark-model": {"arm64-v8a": tool}})
    assert chosen_tool(settings, "benchmark-model", ("arm64-v8a",)) is tool
    with pytest.raises(UnsupportedError, match=r"\[tools\.benchmark-model\.x86_64\]"):
        chosen_tool(settings, "benchmark-model", ("x86_64",))
    assert chosen_delegate(settings, "gpu") is None
    with pytest.raises(UnsupportedError, match=r"\[delegates\.qnn\]"):
        chosen_delegate(settings, "qnn")
