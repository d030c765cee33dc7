"""From a sweep to one plan: a request for each batch, mode and selector, drafted apart, put together by the rules."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from device_registry.errors import UsageError
from device_registry.registry import RegisteredDevice
from device_registry.selectors import parse_selector
from scheduler.conversions import digest
from scheduler.plan import Plan, PlannedConversion, PlannedMeasurement, draft, impossible, resolve_model
from scheduler.request import Request
from scheduler.sweeps.complaints import Complaint, SweepFileError
from scheduler.sweeps.file import SweepFile
from scheduler.sweeps.rules import Rule, Rules
from scheduler.sweeps.submission import Submission, kept
from workers.contract import Options
from workers.models.source import MissingPackagesError, Resolved
from workers.plugins import Plugin

#: Names in a sentence.
_MOST_NAMES = 10


class NothingToMeasureError(SweepFileError):
    """A sweep of which nothing can be measured on these devices."""

    def __init__(self, sweep: SweepFile, matrix: Matrix) -> None:
        """Say why."""
        self.why = _why_nothing(matrix)
        super().__init__(sweep.source, sweep.wrong(self.why, "models").complaints)
        #: What cannot be had and why, as `Plan.unsupported`.
        self.unsupported = matrix.plan.unsupported


@dataclass(frozen=True)
class Absent:
    """A device that a selector matches, and that takes no work now."""

    device: str
    why: str


@dataclass
class Matrix:
    """All that a sweep means on a fleet."""

    #: Not arranged: cases stand in the order of the file.
    plan: Plan
    #: What the runs of it have in common.
    request: Request
    #: The devices that its cases are on, or may be on, by case key.
    devices: Mapping[str, tuple[RegisteredDevice, ...]]
    absent: list[Absent] = field(default_factory=list)
    #: Cases that rules leave out, and rules that matched none.
    excluded: int = 0
    unused: list[tuple[str, Rule]] = field(default_factory=list)

    @property
    def cases(self) -> dict[str, PlannedMeasurement]:
        """One measurement of each case, in the order of the file."""
        found: dict[str, PlannedMeasurement] = {}
        for item in self.plan.measurements:
            found.setdefault(item.case_key, item)
        return found


def matrix_of(
    sweep: SweepFile,
    devices: Sequence[RegisteredDevice],
    descriptions: Sequence[Mapping[str, Any]],
    submission: Submission,
) -> Matrix:
    """The matrix of a sweep.

    Args:
        sweep: what is wanted.
        devices: all that are known.
        descriptions: HostDescriptions of the hosts that can convert.
        submission: for whom, and whether code of the user's may run.

    Raises:
        SweepFileError: something that it names cannot be.
    """
    chosen, absent = _chosen(sweep, devices)
    made = Plan("")
    drafts: list[str] = []
    where: dict[str, tuple[RegisteredDevice, ...]] = {}
    requests = list(_requests(sweep, submission))
    for batch, of_batch in itertools.groupby(requests, key=lambda request: request.options.batch):
        resolved, missing = _resolved(sweep, replace(requests[0], options=replace(requests[0].options, batch=batch)))
        if missing and submission.strict:
            raise SweepFileError(sweep.source, [complaint for found in missing.values() for complaint in found])
        made.unsupported += [_not_here(name, found) for name, found in missing.items()]
        for request in of_batch:
            found = chosen[request.selector]
            if not found and not (sweep.wait_for_device and sweep.spread == "any"):
                continue
            try:
                part = draft(request, found, descriptions, resolved)
            except UsageError as error:
                raise sweep.wrong(str(error).splitlines()[0], "models") from error
            drafts.append(part.digest)
            where |= _where(part, found)
            _add(made, part)
    if submission.strict and not absent:  # else what lacks its device may be had another day
        _refuse(sweep, made, requests[0])
    matrix = Matrix(made, replace(requests[0], sweep=kept(sweep, submission, made)), where, absent)
    _apply_rules(matrix, sweep, where)
    if not made.measurements:
        raise NothingToMeasureError(sweep, matrix)
    rules = [[str(rule) for rule in found] for found in (sweep.exclude, sweep.include)]
    about = [sweep.name, rules, submission.revision, dict(submission.build or {})]
    made.digest = digest(["sweep", about, drafts])
    return matrix


def prune(made: Plan) -> None:
    """Leave out conversions that nothing of a plan needs any more."""
    links = {item.variant.key: item for item in (*made.conversions, *made.spare_conversions)}
    needed = _chain_of(links, {item.variant.key for item in made.measurements})
    listed = {entry["artifact_key"] for entry in made.unsupported if "artifact_key" in entry}
    spare = _chain_of(links, listed) - needed
    made.conversions = [links[key] for key in links if key in needed]
    made.spare_conversions = [links[key] for key in links if key in spare]


def _requests(sweep: SweepFile, submission: Submission) -> Iterator[Request]:
    for batch, mode, selector in itertools.product(sweep.batches, sweep.modes, sweep.selectors):
        yield Request(
            models=sweep.models,
            runtimes=sweep.runtimes,
            recipes=sweep.recipes,
            selector=selector,
            spread=sweep.spread,
            threads=sweep.threads,
            runtime_options=dict(sweep.runtime_options),
            options=Options(
                batch=batch,
                mode=mode,
                rate_hz=sweep.rate_hz,
                max_seconds=sweep.max_seconds,
                percentile=sweep.percentile,
                affinity=sweep.affinity,
            ),
            repeats=sweep.repeats,
            weights=sweep.weights,
            seed=sweep.seed,
            calibration=sweep.calibration,
            evaluate=sweep.evaluate and mode == sweep.modes[0],  # answers do not depend on it
            data=sweep.data,
            max_memory_bytes=sweep.max_memory_bytes,
            allow_code=submission.allow_code,
            search_path=(str(sweep.folder),) if submission.allow_code else (),
            gate=sweep.gate,
            priority=sweep.priority,
            owner=submission.owner,
            wait_for_device=sweep.wait_for_device,
        )


def _resolved(
    sweep: SweepFile, request: Request
) -> tuple[list[tuple[Plugin, Resolved]], dict[str, tuple[Complaint, ...]]]:
    """The models, and those that lack a package here; whatever else is wrong with any of them is told at once."""
    found: list[tuple[Plugin, Resolved]] = []
    missing: dict[str, tuple[Complaint, ...]] = {}
    complaints: list[Complaint] = []
    for number, name in enumerate(sweep.models):
        try:
            found.append(resolve_model(request, name))
        except UsageError as error:
            wrong = sweep.wrong(str(error).splitlines()[0], "models", number).complaints
            if isinstance(error, MissingPackagesError):
                missing[name] = wrong
            else:
                complaints += wrong
    if complaints:
        raise SweepFileError(sweep.source, [*complaints, *(one for found in missing.values() for one in found)])
    return found, missing


def _not_here(name: str, complaints: Sequence[Complaint]) -> dict[str, str]:
    why = complaints[0].sentence
    return {"model": name, "runtime": "any", "recipe": "any", "device": "any device", "why": why}


def _chosen(
    sweep: SweepFile, known: Sequence[RegisteredDevice]
) -> tuple[dict[str, list[RegisteredDevice]], list[Absent]]:
    """By selector the devices that it is measured on, and those that are away."""
    chosen: dict[str, list[RegisteredDevice]] = {}
    absent: dict[str, Absent] = {}
    complaints: list[Complaint] = []
    for number, selector in enumerate(sweep.selectors):
        parsed = parse_selector(selector)
        matching = [device for device in known if parsed.matches(device.selectable)]
        if not matching and not (sweep.wait_for_device and sweep.spread == "any"):
            have = f"; devices are {_some([device.name for device in known])}" if known else ""
            complaints += sweep.wrong(f"no device matches {selector!r}{have}", "devices", number).complaints
        there = [device for device in matching if device.presence == "online" and device.admin == "enabled"]
        chosen[selector] = matching if sweep.wait_for_device else there
        for device in matching:
            if device not in chosen[selector]:
                state = device.presence if device.presence != "online" else device.admin
                absent[device.key] = Absent(device.name, state)
        if sweep.spread != "each":
            others = {device.key for selector in list(chosen)[:-1] for device in chosen[selector]}
            if twice := [device.name for device in chosen[selector] if device.key in others]:
                sentence = (
                    f"{twice[0]} is matched by another selector, too: with spread {sweep.spread} they must not meet"
                )
                complaints += sweep.wrong(sentence, "devices", number).complaints
    if complaints:
        raise SweepFileError(sweep.source, complaints)
    if absent and not any(chosen.values()):
        told = _some([f"{one.device} is {one.why}" for one in absent.values()])
        raise sweep.wrong(f"no device takes work now: {told}; wait_for_device: true queues until one does", "devices")
    return chosen, list(absent.values())


def _where(part: Plan, devices: Sequence[RegisteredDevice]) -> dict[str, tuple[RegisteredDevice, ...]]:
    found: dict[str, tuple[RegisteredDevice, ...]] = {}
    fitting: dict[str, tuple[RegisteredDevice, ...]] = {}
    for item in part.measurements:
        if item.device is not None:
            found[item.case_key] = (item.device,)
            continue
        if item.selector not in fitting:
            selector = parse_selector(item.selector)
            fitting[item.selector] = tuple(device for device in devices if selector.matches(device.selectable))
        found[item.case_key] = fitting[item.selector]
    return found


def _add(made: Plan, part: Plan) -> None:
    """Add a part; what two selectors both match is measured once."""
    known = {item.case_key for item in made.measurements}
    made.measurements += [item for item in part.measurements if item.case_key not in known]
    made.conversions += part.conversions
    made.spare_conversions += part.spare_conversions
    listed = {tuple(entry.items()) for entry in made.unsupported}
    made.unsupported += [entry for entry in part.unsupported if tuple(entry.items()) not in listed]
    cells = {(cell.device_id, cell.case) for cell in made.unsupported_cells}
    made.unsupported_cells += [cell for cell in part.unsupported_cells if (cell.device_id, cell.case) not in cells]


def _refuse(sweep: SweepFile, made: Plan, request: Request) -> None:
    complaints: list[Complaint] = []
    for what, name, why in impossible(made, request):
        listed = {"runtime": sweep.runtimes, "recipe": sweep.recipes}[what] or ()
        path = (f"{what}s", listed.index(name))
        complaints += sweep.wrong(f"{what} {name}: {why}", *path).complaints
    if complaints and made.measurements:
        raise SweepFileError(sweep.source, complaints)


def _apply_rules(matrix: Matrix, sweep: SweepFile, where: Mapping[str, tuple[RegisteredDevice, ...]]) -> None:
    if not (sweep.exclude or sweep.include):
        return
    made = matrix.plan
    rules = Rules(sweep.exclude, sweep.include)
    takes: dict[str, bool] = {}
    for item in made.measurements:
        if item.case_key not in takes:
            takes[item.case_key] = rules.takes(item, where[item.case_key])
    made.measurements = [item for item in made.measurements if takes[item.case_key]]
    matrix.excluded = sum(not taken for taken in takes.values())
    matrix.unused = rules.unused
    made.unsupported = [entry for entry in made.unsupported if rules.lists(entry)]
    made.unsupported_cells = [
        cell
        for cell in made.unsupported_cells
        if rules.lists({"model": cell.case.model, "runtime": cell.case.runtime, "recipe": cell.case.recipe})
    ]
    prune(made)


def _why_nothing(matrix: Matrix) -> str:
    if matrix.excluded:
        return f"nothing is left to measure: its rules exclude all {matrix.excluded} cases"
    whys = sorted({entry["why"] for entry in matrix.plan.unsupported})
    return "nothing can be measured: " + ("; ".join(whys) or "no runtime takes such a model")


def _chain_of(links: Mapping[str, PlannedConversion], keys: set[str]) -> set[str]:
    """Conversions that lead to artifacts, those included."""
    found: set[str] = set()
    for key in keys:
        link: str | None = key
        while link is not None and link in links and link not in found:
            found.add(link)
            link = links[link].variant.parent
    return found


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
