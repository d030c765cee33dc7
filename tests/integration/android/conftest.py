"""An adb server for each file of tests and each adb."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.android import AdbUnderTest


@pytest.fixture(scope="module", params=["system", "carried"])
def adb(request: pytest.FixtureRequest) -> Iterator[AdbUnderTest]:
    """A server, by the system's adb and by the one that adbutils carries."""
    server = AdbUnderTest.of(request.param)
    yield server
    server.close()
