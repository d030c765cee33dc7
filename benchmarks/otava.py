"""apache-otava with its defaults, in an environment of its own: it pins numpy and is no dependency of ours."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import say

#: What of its packages the detector itself needs.
_PACKAGES = ("apache-otava==0.8.0", "numpy==2.4.6", "scipy==1.17.1")
_SCRIPT = """
import json, sys
from otava.analysis import compute_change_points
asked = json.load(sys.stdin)
json.dump([[int(point.index) for point in compute_change_points(values)[0]] for values in asked], sys.stdout)
"""


class Otava:
    """Its change points of many histories, by one process of its interpreter."""

    def __init__(self, python: Path) -> None:
        self._python = python

    def change_points(self, histories: list[list[float]]) -> list[list[int]]:
        """Change points of each history."""
        done = subprocess.run(
            [self._python, "-c", _SCRIPT], input=json.dumps(histories), capture_output=True, text=True, check=True
        )
        found: list[list[int]] = json.loads(done.stdout)
        return found


@contextmanager
def installed() -> Iterator[Otava | None]:
    """Otava in a new environment, gone afterwards; None, and a line that says why, where there can be none."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    with tempfile.TemporaryDirectory(prefix="benchfarm-otava-") as folder:
        python = Path(folder, "bin", "python")
        steps = (
            ("venv", "--quiet", "--python", "3.11", folder),
            ("pip", "install", "--quiet", "--no-deps", "--python", str(python), *_PACKAGES),
        )
        try:
            if uv is None:
                raise FileNotFoundError("no uv here")
            for step in steps:
                subprocess.run([uv, *step], capture_output=True, text=True, check=True, timeout=300)
            Otava(python).change_points([[1.0] * 20 + [2.0] * 20])
        except (OSError, subprocess.SubprocessError) as error:
            why = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
            say(f"no comparison with apache-otava: {why[-1] if why else error!r}")
            yield None
            return
        yield Otava(python)
