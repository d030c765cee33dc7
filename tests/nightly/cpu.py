"""Nights of a real model on this machine's CPU, by the real commands: a factory with a switch, swept by revision."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

#: Blocks that take the same time each: one more of twenty is 5 % slower.
_FACTORY = """
import torch

BLOCKS = {blocks}


def net():
    torch.manual_seed(0)
    first = torch.nn.Conv2d(3, {width}, 3, padding=1)
    blocks = []
    for _ in range(BLOCKS):
        blocks += [torch.nn.Conv2d({width}, {width}, 3, padding=1), torch.nn.ReLU()]
    return torch.nn.Sequential(first, *blocks), {{"image": torch.randn(1, 3, {size}, {size})}}
"""
_SWEEP = """
name: nightly
models: ["mine:net"]
runtimes: [onnxruntime]
recipes: [fp32]
devices: [kind=cpu]
repeats: {repeats}
gate: none
options:
  max_seconds: {max_seconds}
"""
_LONGEST_S = 1800
#: The same command, to which no load of others spoils a process.
_ANY_LOAD = "import workers.judge; workers.judge.FOREIGN_LOAD_LIMIT = 1e9; import benchfarm.__main__ as b; b.main()"


class CpuNights:
    """A folder with code and a sweep file, a farm of its own, and what a user types each night."""

    def __init__(
        self,
        folder: Path,
        *,
        repeats: int = 5,
        max_seconds: float = 1.0,
        width: int = 32,
        size: int = 32,
        any_load: bool = False,
    ) -> None:
        """Write the sweep file; the farm's data goes below the folder, too.

        Args:
            folder: an empty one.
            repeats: processes of a night.
            max_seconds: that each measures at most.
            width: channels of a block.
            size: of its images.
            any_load: whether foreign load is let pass, which else spoils a process.
        """
        self._command = ("-c", _ANY_LOAD) if any_load else ("-m", "benchfarm")
        self._home, self._code, self._width, self._size = folder / "home", folder / "code", width, size
        (self._code / "mine").mkdir(parents=True)
        text = _SWEEP.format(repeats=repeats, max_seconds=max_seconds)
        (self._code / "nightly.yaml").write_text(text, encoding="utf-8")
        self.revision = 0

    def commit(self, blocks: int) -> str:
        """Change the code; returns its revision."""
        text = _FACTORY.format(blocks=blocks, width=self._width, size=self._size)
        (self._code / "mine" / "__init__.py").write_text(text, encoding="utf-8")
        self.revision += 1
        return f"r{self.revision}"

    def sweep(self, revision: str) -> dict[str, Any]:
        """`benchfarm sweep run`; returns what it said.

        Raises:
            RuntimeError: it failed.
        """
        options = ("--revision", revision, "--allow-code", "--all", "--executor", "local", "--json")
        return self._json("sweep", "run", "nightly.yaml", *options)

    def incidents(self) -> list[dict[str, Any]]:
        """`benchfarm regressions list`, those that are over, too."""
        return list(self._json("regressions", "list", "--all", "--json"))

    def show(self, number: int) -> str:
        """`benchfarm regressions show` as people read it."""
        return self._call("regressions", "show", str(number)).stdout

    def _json(self, *arguments: str) -> Any:
        done = self._call(*arguments)
        if done.returncode not in (0, 3, 4):
            said = f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
            raise RuntimeError(f"benchfarm {' '.join(arguments)} exited with {done.returncode}: {said}")
        return json.loads(done.stdout)

    def _call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BENCHFARM_", "RAY_"))}
        return subprocess.run(
            [sys.executable, *self._command, *arguments],
            env={**kept, "BENCHFARM_HOME": str(self._home), "COLUMNS": "160"},
            capture_output=True,
            text=True,
            timeout=_LONGEST_S,
            cwd=self._code,
            check=False,
        )
