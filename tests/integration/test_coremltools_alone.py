"""coremltools beside an installed TensorFlow: imported together with torch in one process, they crash it."""

from __future__ import annotations

import subprocess
import sys

_CODE = """
import sys
import torch
from workers.coremltools_alone import import_coremltools
coremltools = import_coremltools()
assert import_coremltools() is coremltools
assert "tensorflow" not in sys.modules, "what comes after must be able to import it"
assert coremltools.convert
"""


def test_it_is_imported_without_tensorflow_and_leaves_no_trace() -> None:
    subprocess.run([sys.executable, "-W", "ignore", "-c", _CODE], check=True, capture_output=True, timeout=120)
