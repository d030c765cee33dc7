"""The stand-ins of benchmark_model on played phones, told what to do and read by the product's own tool.

One runs the program that was pushed; what it says of delegates is the phone's description.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.android import AdbUnderTest, play
from tests.integration.android.phone_cases import Site
from tests.tflite import write_tflite
from tests.unit.android.tasks import task
from workers.android import cache
from workers.android.adb import AdbServer
from workers.android.fake.handle import FakeRack
from workers.android.fake.stand_ins import write_running, write_sleeping
from workers.android.phone import Phone
from workers.android.provision import ensure_tool
from workers.android.settings import File, Tool
from workers.android.shell import words
from workers.android.tools.benchmark_model import BenchmarkModel
from workers.android.tools.tool import ToolOutput

needs_litert = pytest.mark.skipif(importlib.util.find_spec("ai_edge_litert") is None, reason="LiteRT is not installed")
pytestmark = [needs_litert, pytest.mark.parametrize("adb", ["carried"], indirect=True)]
TOOL = BenchmarkModel()
SHARES = {"full": 1.0, "partial": 0.75, "none": 0.0}


@pytest.fixture(scope="module")
def rack(adb: AdbUnderTest) -> Iterator[FakeRack]:
    """Phones by what their GPU takes."""
    phones = [{"name": share, "delegates": {"gpu": share}} for share in (*SHARES, "missing")]
    with play(adb, *phones) as played:
        yield played


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program of four operations."""
    return write_tflite(tmp_path_factory.mktemp("model") / "model.tflite")


def invoke(
    adb: AdbUnderTest, rack: FakeRack, name: str, binary: Path, model: Path, delegate: str, *, profile: bool = False
) -> ToolOutput:
    """Bring the tool and the program to a phone, and run it once as an attempt would."""
    phone: Phone = Site(AdbServer(adb.port, adb.program), rack[name].emulator, rack[name]).phone
    tool = Tool(name=TOOL.binary, abi="arm64-v8a", binary=File(path=binary, sha256=sha256(binary)))
    provisioned = ensure_tool(phone, tool)
    wanted = cache.Wanted(sha256=sha256(model), local=model, bytes=model.stat().st_size)
    cache.ensure(phone, [wanted], 1 << 30)
    files = provisioned.files(wanted.remote, "/data/local/tmp")
    command = TOOL.command(task(delegate, threads=1), files, 0.1, profile=profile)
    done = phone.run(words(*command), 60)
    assert done.exit_code == 0, done.stdout + done.stderr
    return TOOL.read(done.stdout + done.stderr, {}, delegate)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_pushed_program_runs_and_is_measured(
    adb: AdbUnderTest, rack: FakeRack, model: Path, tmp_path: Path
) -> None:
    read = invoke(adb, rack, "full", write_running(tmp_path / "benchmark_model"), model, "cpu")
    assert (read.statistic, read.unread, read.errors) == ("median", (), ())
    assert read.runs is not None
    assert read.runs >= 5
    assert None not in (read.min_ms, read.value_ms, read.max_ms, read.init_ms, read.first_ms, read.memory_growth_bytes)
    assert read.min_ms <= read.value_ms <= read.max_ms  # type: ignore[operator]


def test_operations_are_those_of_the_program(adb: AdbUnderTest, rack: FakeRack, model: Path, tmp_path: Path) -> None:
    read = invoke(adb, rack, "full", write_running(tmp_path / "benchmark_model"), model, "cpu", profile=True)
    assert [op.type for op in read.ops].count("FULLY_CONNECTED") == 4


def test_what_is_no_program_fails(adb: AdbUnderTest, rack: FakeRack, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no program")
    with pytest.raises(AssertionError, match="Benchmarking failed"):
        invoke(adb, rack, "full", write_running(tmp_path / "benchmark_model"), broken, "cpu")


@pytest.mark.parametrize("share", [*SHARES, "missing"])
def test_what_the_gpu_takes_is_read(adb: AdbUnderTest, rack: FakeRack, model: Path, tmp_path: Path, share: str) -> None:
    read = invoke(adb, rack, share, write_sleeping(tmp_path / "benchmark_model"), model, "gpu")
    assert read.value_ms == 1.002
    assert (read.delegate.share or 0.0) == SHARES.get(share, 0.0)
