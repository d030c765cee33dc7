"""The runtime of simulated devices. They run its programs themselves (`workers.devices.sim`); nothing else can."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from workers.contract import MeasureTask
from workers.errors import UnsupportedError
from workers.models.sim_zoo import FORMAT
from workers.runtimes.runtime import LoadedModel, Runtime


class Sim(Runtime):
    """Has a name, formats and kinds of devices for plans; computes nothing."""

    formats: ClassVar[tuple[str, ...]] = (FORMAT,)
    device_kinds: ClassVar[tuple[str, ...]] = ("sim",)
    no_answers: ClassVar[str | None] = "a simulated device computes nothing: it has no accuracy"

    def import_library(self) -> None:
        """There is none."""

    def load(self, artifact: Path, task: MeasureTask) -> LoadedModel:
        """Refuse: a real device has nothing to run."""
        raise UnsupportedError("only simulated devices run simulated programs")
