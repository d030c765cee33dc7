"""Children that begin with torch imported: forked from one process that has, for importing it is most of what they do.

Each is a process of its own with an environment of its own, so no setting of torch outlives it. How an agent starts a
runner from nothing is tested by acceptance tests.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workers.runtimes.runtime import CACHE_VARIABLE

#: What a child runs is text; what it prints goes to a file. One thread until it forks: a lock of another would stay.
_SERVER = """
import json, os, sys
import torch, torch.export
from workers.runtimes.torch_compile import TorchCompile
TorchCompile().import_library()

def run(code, arguments, environment, folder, log):
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})

def ended():
    # As an interpreter ends, but for what it would do to locks of a process that forked it.
    try:
        run(**asked)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0

for line in sys.stdin:
    asked = json.loads(line)
    if (pid := os.fork()) == 0:
        code = ended()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class WarmTorch:
    """Starts children one after the other; started itself by the first."""

    def __init__(self, cache: Path) -> None:
        """Nothing runs yet.

        Args:
            cache: where compiled code is kept from one child to the next.
        """
        self.cache = cache
        self._server: subprocess.Popen[str] | None = None

    def run(
        self,
        code: str,
        *arguments: str,
        folder: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Run code to its end as `python -c CODE ARGUMENTS` would.

        Args:
            code: what to run.
            *arguments: what it finds in `sys.argv`.
            folder: where the child's log is written.
            environment: all of it; None: this process's.

        Raises:
            AssertionError: it did not end well; the message is what it printed.
        """
        log = folder / "child.log"
        asked: dict[str, Any] = {
            "code": code,
            "arguments": arguments,
            "environment": dict(os.environ if environment is None else environment),
            "folder": str(Path.cwd()),
            "log": str(log),
        }
        server = self._started()
        assert server.stdin is not None
        assert server.stdout is not None
        print(json.dumps(asked), file=server.stdin, flush=True)
        answer = server.stdout.readline().strip()
        assert answer == "0", f"{answer}: {log.read_text(errors='replace') if log.exists() else ''}"

    def end(self) -> None:
        """End the process, and a child that hangs."""
        if self._server is not None:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.communicate()

    def _started(self) -> subprocess.Popen[str]:
        if self._server is None:
            once = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
            environment = {**os.environ, **dict.fromkeys(once, "1"), "PYTHONHASHSEED": "0", "CUDA_VISIBLE_DEVICES": ""}
            self._server = subprocess.Popen(
                [sys.executable, "-c", _SERVER],
                env={**environment, CACHE_VARIABLE: str(self.cache)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        return self._server
