"""What a request becomes before it is rows: conversions, measurements, and what cannot be had."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from device_registry.registry import RegisteredDevice
from scheduler.conversions import Variant
from scheduler.coverage import Unsupported
from scheduler.placement import JobKind
from workers.contract import ConvertTask, MeasureTask
from workers.measure import longest_s
from workers.recipes import parse_step

#: A conversion that takes longer hangs; one that trains for epochs may take a day.
CONVERT_DEADLINE_S = 1800.0
TRAIN_DEADLINE_S = 24 * 3600.0
#: Imports, load, warm-up and fidelity of a slow model, on top of its timed part.
MEASURE_ALLOWANCE_S = 600.0
#: An evaluation that takes longer hangs, however large its data set.
EVALUATE_DEADLINE_S = 3 * 3600.0


@dataclass(frozen=True)
class PlannedConversion:
    """A convert job to be, unless its artifact stands."""

    variant: Variant
    model: str
    task: ConvertTask
    #: The canonical program of a user's file or code is made where that is.
    on_this_host: bool
    #: What its host must offer (`scheduler.offers`).
    needs: tuple[str, ...] = ()

    @property
    def deadline_s(self) -> float:
        """How long it may take: a training as long as it was told to, on top of what any conversion may."""
        step = parse_step(self.task.step) if self.task.step is not None else None
        if step is None or step.kind is None or not step.kind.trains:
            return CONVERT_DEADLINE_S
        seconds = step.get("seconds")
        if seconds is None:
            return TRAIN_DEADLINE_S
        return CONVERT_DEADLINE_S + float(seconds) * int(step.get("steps") or 1)


@dataclass(frozen=True)
class PlannedMeasurement:
    """A measure job to be."""

    variant: Variant
    task: MeasureTask
    #: The one device it is pinned to; None: whichever is free of those that `selector` and `needs` fit.
    device: RegisteredDevice | None
    repeat_no: int
    case_key: str
    #: What people read of where it runs; empty: the device's name.
    where: str = ""
    selector: str = ""
    needs: tuple[str, ...] = ()
    #: The model of the units it may run on, where they are all of one.
    device_model: str | None = None
    #: What is wanted of it: how fast, where the time goes, or how right.
    kind: JobKind = "measure"

    @property
    def deadline_s(self) -> float:
        """An attempt that takes longer hangs."""
        return EVALUATE_DEADLINE_S if self.kind == "evaluate" else longest_s(self.task.options) + MEASURE_ALLOWANCE_S


@dataclass
class Plan:
    """All jobs of a request, in the order they should run."""

    digest: str
    conversions: list[PlannedConversion] = field(default_factory=list)
    #: Artifacts nobody here can measure but another host can: made last.
    spare_conversions: list[PlannedConversion] = field(default_factory=list)
    measurements: list[PlannedMeasurement] = field(default_factory=list)
    unsupported: list[dict[str, str]] = field(default_factory=list)
    #: The same in full, case by case, of the devices that it names.
    unsupported_cells: list[Unsupported] = field(default_factory=list)

    def arrange(self) -> None:
        """Keep one conversion of a kind, and mix the measurements.

        Random order over all cases, the same for the same digest: a slow spell of the machine hits no case alone.
        """
        self.conversions = list({item.variant.key: item for item in self.conversions}.values())
        wanted = {item.variant.key for item in self.conversions}
        spare = {item.variant.key: item for item in self.spare_conversions}
        self.spare_conversions = [item for key, item in spare.items() if key not in wanted]
        random.Random(self.digest).shuffle(self.measurements)  # noqa: S311  # no secret
        self.measurements.sort(key=lambda item: item.repeat_no)
