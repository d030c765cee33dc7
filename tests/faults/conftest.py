"""The command line as in the acceptance tests."""

from __future__ import annotations

from tests.acceptance.conftest import benchfarm

__all__ = ["benchfarm"]
