"""The command line as in the acceptance tests, and adb servers as in the integration tests."""

from __future__ import annotations

from tests.acceptance.conftest import benchfarm, typed
from tests.integration.android.conftest import adb

__all__ = ["adb", "benchfarm", "typed"]
