"""The seam of runtimes: load an artifact, run it once, and say what really ran."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from workers.contract import MeasureTask, RuntimeFacts
from workers.examples import Array


class LoadedModel(ABC):
    """An artifact ready to run."""

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


class Runtime(ABC):
    """What executes artifacts. Constructing one imports nothing heavy."""

    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    formats: ClassVar[tuple[str, ...]] = ()
    #: Kinds of devices it runs on.
    device_kinds: ClassVar[tuple[str, ...]] = ("cpu",)

    def why_not(self, system: str) -> str | None:
        """Why it cannot run on such an operating system (`platform.system()`), or None."""
        return None

    @abstractmethod
    def import_library(self) -> None:
        """Import the library; timed apart from loads."""

    @abstractmethod
    def load(self, artifact: Path, task: MeasureTask) -> LoadedModel:
        """Load an artifact as the task's options say. Raises `UnsupportedError` for what the runtime cannot do here."""
