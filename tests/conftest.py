"""Fixtures for all tests: a data directory of its own for each, so that nothing touches the user's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import PostgresServer, binaries
from tests.warm import WarmTorch
from workers.runtimes.torch_compile import TorchCompile

_LACKING = TorchCompile().missing()
#: A missing service skips on a laptop and fails in CI.
needs_compiler = pytest.mark.skipif(
    _LACKING is not None and "CI" not in os.environ, reason=f"{_LACKING[0]}: {_LACKING[1]}" if _LACKING else ""
)


#: Files that take longest, the longest first: processes end together only if what is long begins first.
LONGEST = (
    "acceptance/test_run.py",
    "acceptance/test_runtimes.py",
    "acceptance/test_factory.py",
    "integration/prometheus/test_scrape.py",  # it waits more than it works
    "integration/test_torch_compile.py",
    "acceptance/test_evaluate.py",
    "integration/test_embedded_ray.py",
    "integration/test_torch_int8.py",
    "unit/scheduler/test_nights.py",
    "acceptance/test_third_party.py",
    "acceptance/test_profile.py",
    "integration/test_openvino.py",
    "integration/test_executorch.py",
    "integration/test_litert_profile.py",
    "integration/test_tensorflow.py",
    "unit/scheduler/test_watch.py",
    "integration/android/test_android_command.py",
    "unit/android/test_leftovers.py",
    "integration/android/test_phone_agent.py",
    "integration/android/test_phones.py",
    "acceptance/test_suite.py",
    "integration/test_agent.py",
    "acceptance/test_sweep.py",
    "acceptance/test_gate.py",
    "unit/scheduler/test_gates.py",
)


@pytest.hookimpl(trylast=True)  # after pytest has brought together what shares a session's parameters
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; all else in its order."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    assert all(path.is_file() for path in places), "LONGEST names a file that is gone"
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh data directory."""
    folder = tmp_path / "home"
    monkeypatch.setenv("BENCHFARM_HOME", str(folder))
    for name in ("BENCHFARM_DATABASE_URL", "BENCHFARM_STORE_URL"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server for the session: each test makes databases of its own on it, and none stops it."""
    if binaries() is None and "CI" not in os.environ:
        pytest.skip("PostgreSQL's server is not installed")
    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def warm_torch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmTorch]:
    """Children with torch imported; what they compile is kept for all tests of this session, whichever process's."""
    base = tmp_path_factory.getbasetemp()
    warm = WarmTorch((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled-by-torch")
    yield warm
    warm.end()
