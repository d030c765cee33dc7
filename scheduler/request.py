"""What a user asks for: a matrix of models, runtimes, recipes and devices, and how it is to be worked on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from device_registry.errors import UsageError
from scheduler.targets import Spread
from workers.contract import GatePolicy, Options

#: Priorities beyond this would outrank a wait of a day.
MOST_PRIORITY = 1000
_LONGEST_OWNER = 100
#: Of threads and of examples in a batch: what the columns of a database hold.
_MOST_COUNT = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asked for in one `run` or `submit`."""

    models: tuple[str, ...]
    kind: Literal["measure", "profile", "evaluate"] = "measure"
    #: Beside the measurements of a case, one evaluation of its answers, where the model has labelled data.
    evaluate: bool = False
    #: None: every runtime; named ones must be possible.
    runtimes: tuple[str, ...] | None = None
    recipes: tuple[str, ...] | None = None
    selector: str = ""
    spread: Spread = "each"
    threads: tuple[int, ...] = (1,)
    #: Runtimes' own options, each with the values to compare; a runtime without the option runs once.
    runtime_options: dict[str, tuple[str, ...]] = field(default_factory=dict)
    options: Options = field(default_factory=Options)
    repeats: int = 1
    weights: str = "random"
    seed: int = 0
    calibration: str | None = None
    #: Labelled data, for training and accuracy; None: what comes with a model.
    data: str | None = None
    data_limit: int | None = None
    #: The most memory that one conversion may take; None: most of its host's.
    max_memory_bytes: int | None = None
    allow_code: bool = False
    search_path: tuple[str, ...] = ()
    gate: GatePolicy = "wait"
    gate_timeout_s: float = 15.0
    #: The higher, the sooner: a step is worth a minute of waiting.
    priority: int = 0
    #: A label that shares are counted by, no proof of who it was. None: the user's name on this machine.
    owner: str | None = None
    #: A measurement that has not begun after so long fails. None: waits as long as it takes.
    queue_timeout_s: float | None = None
    #: Cap on one attempt. None: what its task may take.
    run_timeout_s: float | None = None
    #: Whether devices that are not there now count too.
    wait_for_device: bool = False
    #: Of a run of a sweep: its file as it was read, and what else it was submitted with. None: of no sweep.
    sweep: dict[str, Any] | None = None

    def check(self) -> None:
        """Refuse what no farm could do.

        Raises:
            UsageError: with what is wrong.
        """
        if not self.models:
            raise UsageError("name at least one model; see benchfarm models list")
        if self.repeats < 1:
            raise UsageError(f"{self.repeats} repeats: 1 is the least")
        for what, count in (("batch", self.options.batch), *(("threads", count) for count in self.threads)):
            if not 1 <= count <= _MOST_COUNT:
                raise UsageError(f"{what} {count}: from 1 to {_MOST_COUNT}")
        for what, size in (("data limit", self.data_limit), ("memory", self.max_memory_bytes)):
            if size is not None and size < 1:
                raise UsageError(f"{what} {size}: 1 is the least")
        if abs(self.priority) > MOST_PRIORITY:
            raise UsageError(f"priority {self.priority}: from -{MOST_PRIORITY} to {MOST_PRIORITY}")
        if self.owner is not None and not (self.owner.isprintable() and 0 < len(self.owner.strip()) <= _LONGEST_OWNER):
            raise UsageError(f"owner {self.owner!r}: give a name of 1 to {_LONGEST_OWNER} printable characters")
        for what, value in (("queue timeout", self.queue_timeout_s), ("run timeout", self.run_timeout_s)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"{what} {value:g} s: must be above 0")
