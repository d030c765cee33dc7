"""Importing coremltools without what it would import beside it."""

from __future__ import annotations

import sys
from typing import Any


def import_coremltools() -> Any:
    """coremltools, which is told for the time of its import that TensorFlow is absent.

    It imports TensorFlow wherever that is installed, to convert its models; TensorFlow's native libraries and torch's
    in one process have crashed it.
    """
    if "coremltools" in sys.modules:
        return sys.modules["coremltools"]
    there = sys.modules.get("tensorflow")
    sys.modules["tensorflow"] = None  # type: ignore[assignment]  # an import of it raises ImportError
    try:
        import coremltools
    finally:
        del sys.modules["tensorflow"]
        if there is not None:
            sys.modules["tensorflow"] = there
    return coremltools
