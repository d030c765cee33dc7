"""The seam of runtimes: load an artifact, run it once, and say what really ran."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from workers.contract import MeasureTask, Op, RuntimeFacts
from workers.errors import UnsupportedError
from workers.examples import Array

#: Environment variable of the child: the folder where runtimes keep what they compiled, between attempts.
CACHE_VARIABLE = "BENCHFARM_CACHE"

#: Where runtimes are used: name to operating system (`platform.system()`) and kind of device.
PLATFORMS = {
    "Linux x86-64 CPU": ("Linux", "cpu"),
    "Linux GPU": ("Linux", "gpu"),
    "macOS CPU": ("Darwin", "cpu"),
    "macOS GPU and Neural Engine": ("Darwin", "mac"),
    "Android": ("Android", "android"),
}
LINUX_CPU = "Linux x86-64 CPU"


@dataclass(frozen=True)
class OpTimes:
    """What each operation of one inference took."""

    #: How the times were taken, in a few words.
    method: str
    #: In the order they ran; `source` is filled in by the runner, from `layers`.
    ops: tuple[Op, ...]
    #: Wall time of each profiled run, measured around the runtime's own call.
    run_ms: tuple[float, ...]


class LoadedModel(ABC):
    """An artifact ready to run."""

    def compile(self, inputs: dict[str, Array]) -> bool:
        """Compile for such inputs, where the runtime compiles apart from its load; whether it did.

        Timed by the runner as `compile_ms`, between load and first inference.
        """
        return False

    @abstractmethod
    def bind(self, inputs: dict[str, Array]) -> Callable[[], object]:
        """Place the inputs (in the order the program takes them) and return the function that runs once.

        The function is what is timed: it holds nothing but the runtime's own call, and returns when the result is
        there.
        """

    @abstractmethod
    def outputs(self) -> list[Array]:
        """Outputs of the last run, in order."""

    @abstractmethod
    def facts(self, inputs: dict[str, Array]) -> RuntimeFacts:
        """What the runtime says of itself: precision and compute unit read back, not repeated. Called after timing."""

    def profile(self, inputs: dict[str, Array], runs: int) -> OpTimes:
        """Time each operation over so many runs; called on a warm model.

        Raises:
            UnsupportedError: the runtime does not tell.
        """
        raise UnsupportedError("this runtime offers no profile of its operations")


class Runtime(ABC):
    """What executes artifacts. Constructing one imports nothing heavy."""

    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    formats: ClassVar[tuple[str, ...]] = ()
    #: Kinds of devices it runs on.
    device_kinds: ClassVar[tuple[str, ...]] = ("cpu",)
    #: Recipes of its formats that it never computes as they promise, with the reason: known before anything runs.
    refuses: ClassVar[Mapping[str, str]] = {}
    #: Why its answers over a data set cannot be had; None where they can.
    no_answers: ClassVar[str | None] = None
    #: Options of its own: name to the values it takes, the default first. Each value is a case of its own.
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    #: What was seen where: platform (one of `PLATFORMS`) to recipe to why it cannot be had there, None where it ran.
    #: What is not listed counts as not yet run on real hardware. benchmarks/runtimes.py holds this to the truth.
    seen: ClassVar[Mapping[str, Mapping[str, str | None]]] = {}

    def why_not(self, system: str) -> str | None:
        """Why it cannot run on such an operating system (`platform.system()`), or None."""
        return None

    def missing(self) -> tuple[str, str] | None:
        """What this host lacks beyond packages, and the command that mends it; asked on the host itself."""
        return None

    @abstractmethod
    def import_library(self) -> None:
        """Import the library; timed apart from loads."""

    @abstractmethod
    def load(self, artifact: Path, task: MeasureTask) -> LoadedModel:
        """Load an artifact as the task's options say. Raises `UnsupportedError` for what the runtime cannot do here."""


def option(runtime: Runtime, task: MeasureTask, name: str) -> str:
    """The value of a runtime's own option in a task: what was asked for, else the default."""
    return task.options.runtime_options.get(name, runtime.options[name][0])


def compile_cache(name: str) -> Path:
    """A folder of this host that outlives the attempt: what was compiled once need not be compiled again.

    Args:
        name: whatever the compiled code depends on beside the program: the runtime and its version.
    """
    folder = Path(os.environ.get(CACHE_VARIABLE) or tempfile.gettempdir()) / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def time_runs(run: Callable[[], object], runs: int) -> tuple[float, ...]:
    """Wall time of each of so many runs, in milliseconds."""
    out = []
    for _ in range(runs):
        began = time.perf_counter_ns()
        run()
        out.append((time.perf_counter_ns() - began) / 1e6)
    return tuple(out)


def median_times(runs: list[list[float]]) -> list[float]:
    """Median of each operation over the runs.

    Args:
        runs: per run the operations' times, all of the same length.
    """
    return [statistics.median(times) for times in zip(*runs, strict=True)]
