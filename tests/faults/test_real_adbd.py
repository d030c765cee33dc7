"""The same as over played phones, over Debian 13's real adbd: transport and jobs. Android is not in it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.adbd import RealAdbd, make_tree, why_not
from tests.android import AdbUnderTest
from tests.integration.android.phone_cases import PhoneCases, Site
from workers.android.adb import AdbServer


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    """Debian 13 with adbd, made once for these tests and thrown away: it is large."""
    folder = Path(tempfile.mkdtemp(prefix="benchfarm-debian-"))
    try:
        reason = why_not()
        made = make_tree(folder) if reason is None else reason
        if isinstance(made, str):
            if "CI" in os.environ:
                pytest.fail(made)
            pytest.skip(made)
        yield made
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def site(adb: AdbUnderTest, tree: Path) -> Iterator[Site]:
    """An adbd, connected to the server."""
    adbd = RealAdbd(tree)
    try:
        adb("connect", adbd.address)
        adb.wait_for(adbd.address)
        yield Site(AdbServer(adb.port, adb.program), adbd.address, adbd)
    finally:
        adbd.close()


@pytest.fixture
def slow() -> Callable[[bool], None]:
    """Nothing slows it down."""
    return lambda _: None


class TestRealAdbd(PhoneCases):
    """Debian 13's adbd in a chroot."""
