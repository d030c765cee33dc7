"""Two plans become pairs: cases that are the same but for the model, on the same device. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from device_registry.errors import UsageError
from device_registry.registry import label_of
from scheduler.cases import case_of
from scheduler.conversions import digest
from scheduler.gates.case import Unpaired, What
from scheduler.plan import Plan, PlannedConversion, PlannedMeasurement


@dataclass(frozen=True)
class Pair:
    """One case of a gate to be: the measurement of the baseline and that of the candidate."""

    baseline: PlannedMeasurement
    candidate: PlannedMeasurement

    @property
    def one_artifact(self) -> bool:
        """Whether both sides are one artifact, so that nothing can differ."""
        return self.baseline.variant.key == self.candidate.variant.key

    @property
    def device_id(self) -> int:
        """Where both run."""
        assert self.baseline.device is not None  # a gate's requests are of the spread `each`
        return self.baseline.device.id

    @property
    def what(self) -> What:
        """As people read it."""
        task, device = self.candidate.task, self.candidate.device
        assert device is not None
        case = case_of(task)
        words = [f"threads={case.threads}"] if case.threads != 1 else []
        words += [f"batch={case.batch}"] if case.batch != 1 else []
        words += [case.mode] if case.mode != "burst" else []
        return What(
            model=task.model,
            runtime=task.runtime,
            format=task.format,
            recipe=task.recipe,
            options=" ".join([*words, *([case.options_text] if case.options_text else [])]),
            device=label_of(device.name, device.attributes),
            simulated=device.attributes.get("simulated") is True,
        )

    @property
    def title(self) -> str:
        """Of its trial."""
        what = self.what
        return " ".join([what.model, "on", what.runtime, f"{what.recipe},", what.device, *what.options.split()])


@dataclass(frozen=True)
class GatePlan:
    """What a gate will do."""

    #: Of the request: the same one again resumes what an interrupted gate left.
    digest: str
    #: Of both sides' conversions, and of no measurement: those are the trials'.
    conversions: Plan
    pairs: tuple[Pair, ...]
    unpaired: tuple[Unpaired, ...] = field(default=())

    @property
    def measured(self) -> tuple[Pair, ...]:
        """Pairs of which there is something to measure."""
        return tuple(pair for pair in self.pairs if not pair.one_artifact)


def gate_plan(baseline: Plan, candidate: Plan, settings: Mapping[str, Any]) -> GatePlan:
    """Pair the measurements of two plans, which were made for the same devices.

    Args:
        baseline: with one repeat of each case.
        candidate: likewise.
        settings: what else makes it another gate.

    Raises:
        UsageError: they have no case in common.
    """
    before = {_key(item): item for item in baseline.measurements}
    after = {_key(item): item for item in candidate.measurements}
    # In the order of the candidate's plan, which is random and mixed over cases.
    pairs = tuple(Pair(before[key], item) for key, item in after.items() if key in before)
    if not pairs:
        raise UsageError(
            f"no case in common: the baseline runs as {_some(baseline)}, the candidate as {_some(candidate)}"
        )
    wanted = {pair.baseline.variant.key for pair in pairs if not pair.one_artifact}
    wanted |= {pair.candidate.variant.key for pair in pairs if not pair.one_artifact}
    merged = Plan(digest(["gate", baseline.digest, candidate.digest, settings]))
    merged.conversions = _leading_to(wanted, [*baseline.conversions, *candidate.conversions])
    lacking = [_unpaired("candidate", item, candidate) for key, item in before.items() if key not in after]
    lacking += [_unpaired("baseline", item, baseline) for key, item in after.items() if key not in before]
    return GatePlan(merged.digest, merged, pairs, tuple(lacking))


def _key(item: PlannedMeasurement) -> str:
    task = item.task
    where = item.device.id if item.device is not None else item.where
    return digest([task.runtime, task.format, task.recipe, task.compute_unit, task.options.identity(), where])


def _leading_to(keys: set[str], conversions: Sequence[PlannedConversion]) -> list[PlannedConversion]:
    """Of all conversions those that artifacts need, the first of each key, in their order."""
    known: dict[str, PlannedConversion] = {}
    for item in conversions:
        known.setdefault(item.variant.key, item)
    needed: set[str] = set()
    for key in keys:
        at: str | None = key
        while at is not None and at in known and at not in needed:
            needed.add(at)
            at = known[at].variant.parent
    return [item for key, item in known.items() if key in needed]


def _unpaired(side: Literal["baseline", "candidate"], item: PlannedMeasurement, lacks: Plan) -> Unpaired:
    device = item.device.name if item.device is not None else item.where
    task = item.task
    whys = [
        entry["why"]
        for entry in lacks.unsupported
        if entry["runtime"] == task.runtime and entry["recipe"] in (task.recipe, "any")
    ]
    why = whys[0] if whys else f"the {side} has no such variant"
    return Unpaired(side=side, runtime=task.runtime, recipe=task.recipe, device=device, why=why)


def _some(plan: Plan) -> str:
    return ", ".join(sorted({f"{item.task.runtime} {item.task.recipe}" for item in plan.measurements})[:4])
