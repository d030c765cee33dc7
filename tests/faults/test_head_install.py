"""A head as its image installs it: no package of machine learning, and everything that a head does works."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import environment
from tests.deploy import DEPLOY, ROOT, tool
from tests.faults.hosts import wait_until

#: What brings a framework, or is one.
FRAMEWORKS = ("torch", "tensorflow", "onnx", "onnxruntime", "openvino", "executorch", "coremltools", "jax", "scipy")


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `benchfarm` of such an environment."""
    folder = tmp_path_factory.mktemp("install")
    extras = ",".join(re.findall(r"--extra (\w+)", (DEPLOY / "docker" / "head.Dockerfile").read_text()))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "head"], check=True)
    uv = tool("uv")
    assert uv is not None
    told = ["pip", "install", "--quiet", "--compile-bytecode", "--constraint", "constraints.txt", f".[{extras}]"]
    variables = {**os.environ, "VIRTUAL_ENV": str(folder / "head")}
    done = subprocess.run([uv, *told], cwd=ROOT, env=variables, capture_output=True, text=True)
    if done.returncode != 0 and "CI" not in os.environ:
        pytest.skip(f"packages cannot be had here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return folder / "head" / "bin" / "benchfarm"


def _call(head: Path, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Another folder than the checkout's: what is imported is what was installed.
    return subprocess.run(
        [head, *arguments], env=environment(home), cwd=home.parent, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def service(head: Path, home: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """`benchfarm up`, and what it prints."""
    out = tmp_path / "up.out"
    with out.open("wb") as file:
        command = [head, "up", "--metrics", "127.0.0.1:9465"]
        process = subprocess.Popen(command, env=environment(home), cwd=tmp_path, stdout=file, stderr=file)
    yield process, out
    if process.poll() is None:
        process.terminate()
        process.wait(timeout=60)
    _call(head, home, "down")


def test_no_framework_comes_with_it(head: Path) -> None:
    code = f"from importlib.util import find_spec; print([n for n in {FRAMEWORKS!r} if find_spec(n)])"
    found = subprocess.run([head.with_name("python"), "-I", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_it_serves(head: Path, home: Path, tmp_path: Path, service: tuple[subprocess.Popen[bytes], Path]) -> None:
    process, out = service
    wait_until(lambda: "dispatching" in out.read_text() or process.poll() is not None, 90, doing="up")
    assert process.poll() is None, out.read_text()
    assert _call(head, home, "doctor").returncode == 0
    assert "dispatcher: process" in _call(head, home, "status").stdout
    checked = subprocess.run(
        [head.with_name("python"), "-I", DEPLOY / "docker" / "health.py", "farm"],
        env={**environment(home), "BENCHFARM_METRICS": "127.0.0.1:9465"},
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr
    assert _call(head, home, "grafana", "export", str(tmp_path / "boards")).returncode == 0
    assert len(list((tmp_path / "boards").glob("*.json"))) >= 6
    assert _call(head, home, "backup", str(tmp_path / "backup.tar")).returncode == 0
    assert _call(head, tmp_path / "again", "restore", str(tmp_path / "backup.tar")).returncode == 0
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
