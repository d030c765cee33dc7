"""One model of a request, target by target: what is converted and measured for it, and what cannot be had."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from device_registry.capabilities import BackendCapability
from device_registry.errors import UsageError
from device_registry.registry import RegisteredDevice
from scheduler.cases import Case, case_of_parts
from scheduler.chains import Backends, Offer, Subject
from scheduler.conversions import Variant, chain, digest, reason
from scheduler.coverage import Unsupported
from scheduler.offers import merged, need
from scheduler.placement import JobKind
from scheduler.planned import Plan, PlannedConversion, PlannedMeasurement
from scheduler.request import Request
from scheduler.targets import Target
from workers.contract import PROTOCOL_VERSION, ConvertTask, MeasureTask, Teacher
from workers.models.source import ModelSource, Resolved, file_digest
from workers.plugins import Plugin, plugins
from workers.recipes import arithmetic_of, parse_recipe
from workers.runtimes.runtime import Runtime

_UNQUANTISED = {"fp32", "original"}


class Planner:
    """Plans one model of a request, target by target."""

    def __init__(
        self,
        made: Plan,
        request: Request,
        plugin: Plugin,
        model: Resolved,
        descriptions: Sequence[Mapping[str, Any]],
        teachers: Mapping[str, tuple[Plugin, Resolved]],
    ) -> None:
        self._made, self._request, self._plugin, self._model = made, request, plugin, model
        self._sources = merged("sources", descriptions)
        self._compressions = merged("compressions", descriptions)
        self._teachers = teachers
        #: The canonical program of a user's file, data or code is made where that is.
        given = (request.calibration, request.data)
        self._local = model.recipe == "original" or request.allow_code or any(path is not None for path in given)
        backends = Backends(
            converters=plugins("converters"),
            compressions=plugins("compressions"),
            converting=merged("converters", descriptions).values(),
            compressing=self._compressions.values(),
        )
        self._offer = Offer(self._subject(), [parse_recipe(text) for text in request.recipes or ()], backends)
        self._variants = self._offer.variants
        self._tasks: dict[Any, MeasureTask] = {}
        self._listed: set[tuple[str, ...]] = set()
        self._cases: dict[Any, Case] = {}

    def add(self, target: Target) -> None:
        """Plan it for a target."""
        request, model = self._request, self._model
        runtimes = plugins("runtimes")
        for name in request.runtimes or sorted(runtimes, key=_baseline_first):
            runtime: Runtime = runtimes[name].load()
            if request.runtimes is None and _is_for_others(runtime, target):
                continue
            why_not = _why_no_runtime(runtime, name, target)
            offered = [variant for variant in self._variants.values() if variant.format in runtime.formats]
            asked = () if request.recipes is None else (*request.recipes, "original")
            wanted = [variant for variant in offered if request.recipes is None or variant.recipe in asked]
            if not offered:
                self._unsupported(
                    target, name, runtime, "any", f"no converter leads from {model.format} to {name}'s format"
                )
                continue
            for recipe in sorted(lacking(request, {variant.recipe for variant in offered})):
                why = runtime.refuses.get(arithmetic_of(recipe)) or self._offer.why_not(recipe, runtime.formats)
                unknown = f"{name} has no {recipe} variant of {model.name}"
                self._unsupported(target, name, runtime, recipe, why or unknown)
            for variant in wanted:
                if why := self._refusal(runtime, variant):
                    self._unsupported(target, name, runtime, variant.recipe, why, variant)
                elif why := variant.why_not or why_not:
                    spare = (
                        variant.why_not is None and request.runtimes is None and _is_of_other_systems(runtime, target)
                    )
                    self._unsupported(target, name, runtime, variant.recipe, why, variant, spare=spare)
                    self._made.spare_conversions += self._links[variant.key] if spare else []
                else:
                    self._made.conversions += self._links[variant.key]
                    self._measure(target, name, runtimes[name].entry, runtime, variant)
                    self._list_not_evaluated(target, name, runtime, variant.recipe)

    def _refusal(self, runtime: Runtime, variant: Variant) -> str | None:
        """Why a runtime never has of a variant what is wanted."""
        if (why := runtime.refuses.get(arithmetic_of(variant.recipe))) is not None or self._request.kind != "evaluate":
            return why
        return self._why_not_evaluated(runtime)

    def _subject(self) -> Subject:
        source: ModelSource = self._plugin.load()
        fixed = None
        if self._model.recipe == "original":
            fixed = f"{self._model.name} is a file, whose module cannot be changed; wrap its module in a factory"
        elif not source.builds_modules:
            fixed = f"models of {self._plugin.name} are no torch modules"
        about = {text: [plugin.name, made.name, made.identity] for text, (plugin, made) in self._teachers.items()}
        files = {text: made.name for text, (_, made) in self._teachers.items() if made.recipe == "original"}
        return Subject(
            name=self._model.name,
            root=self._root(),
            fixed=fixed,
            has_data=self._model.data is not None,
            details=about,
            refused={text: f"a teacher is a model that can be built; {name} is a file" for text, name in files.items()},
        )

    def _root(self) -> Variant:
        request, source = self._model.request, self._plugin.load()
        calibration = None if request.calibration is None else calibration_digest(request.calibration)
        identity, why_not = self._model.identity, None
        if not self._local and (capability := self._sources.get(self._plugin.name)) is not None:
            # It is made where the farm can, by what is installed there.
            identity = {**identity, "versions": capability.versions}
            why_not = reason(capability)
        parts = [self._plugin.name, source.revision, self._model.name, identity, self._model.format, self._model.recipe]
        key = digest([*parts, request.weights, request.seed, request.batch, calibration])
        versions = dict(identity.get("versions", {}))
        return Variant(
            self._model.format, self._model.recipe, key, self._plugin.entry, None, versions, why_not, self._plugin.name
        )

    @cached_property
    def _links(self) -> dict[str, list[PlannedConversion]]:
        """Of each variant all conversions that lead to it, by its key."""
        made = {variant.key: self._conversion(variant) for variant in self._variants.values()}
        return {
            variant.key: [made[link.key] for link in chain(variant, self._variants.values())]
            for variant in self._variants.values()
        }

    def _conversion(self, link: Variant) -> PlannedConversion:
        if link.parent is None:
            task = ConvertTask(entry=link.entry, format=link.format, recipe=link.recipe, model=self._model.request)
            known = self._plugin.name in self._sources and not self._local
            needs = (need("sources", link.backend, link.versions),) if known else ()
            return PlannedConversion(link, self._model.name, task, on_this_host=self._local, needs=needs)
        if link.before is not None:
            return self._compression(link, link.before)
        parent = next(variant for variant in self._variants.values() if variant.key == link.parent)
        task = ConvertTask(
            entry=link.entry, format=link.format, recipe=link.recipe, input_format=parent.format, step=link.step
        )
        needs = (need("converters", link.backend, link.versions),)
        return PlannedConversion(link, self._model.name, task, on_this_host=False, needs=needs)

    def _compression(self, link: Variant, before: tuple[str, ...]) -> PlannedConversion:
        """Change the module that the model's source builds once more."""
        assert link.step is not None
        teacher = None
        if link.step in self._teachers:
            plugin, resolved = self._teachers[link.step]
            teacher = Teacher(entry=plugin.entry, model=resolved.request)
        task = ConvertTask(
            entry=link.entry,
            format=link.format,
            recipe=link.recipe,
            model=self._model.request,
            input_format=link.format,
            step=link.step,
            source=self._plugin.entry,
            before=before,
            teacher=teacher,
        )
        needs = [need("compressions", link.backend, self._compressions[link.backend].versions)]
        known = self._plugin.name in self._sources and not self._local
        if known:
            needs.append(need("sources", self._plugin.name, self._sources[self._plugin.name].versions))
        return PlannedConversion(link, self._model.name, task, on_this_host=not known, needs=tuple(needs))

    def _measure(self, target: Target, name: str, entry: str, runtime: Runtime, variant: Variant) -> None:
        request, model = self._request, self._model
        for threads, own in itertools.product(request.threads, _own_options(request, runtime)):
            units = sorted({str(device.attributes.get("compute_unit") or "cpu") for device in target.devices})
            unit = units[0] if len(units) == 1 else "cpu"
            known = (name, variant.key, threads, tuple(sorted(own.items())), unit)
            if known not in self._tasks:
                self._tasks[known] = MeasureTask(
                    runtime=name,
                    entry=entry,
                    format=variant.format,
                    recipe=variant.recipe,
                    model=model.name,
                    weights=model.weights or request.weights,
                    compute_unit=unit,
                    options=replace(request.options, threads=threads, runtime_options=own),
                )
            task = self._tasks[known]
            wanted: list[tuple[JobKind, int]] = []
            if request.kind != "evaluate":
                wanted += [(request.kind, repeat) for repeat in range(request.repeats)]
            # Answers depend neither on threads nor on the day.
            if self._evaluates(runtime) and threads == request.threads[0]:
                wanted.append(("evaluate", 0))
            self._made.measurements += [
                PlannedMeasurement(
                    variant,
                    task,
                    target.device,
                    repeat,
                    _case_key(kind, task, target),
                    where=target.label,
                    selector=target.selector,
                    needs=() if target.device is not None else (need("runtimes", name),),
                    device_model=target.device_model,
                    kind=kind,
                )
                for kind, repeat in wanted
            ]

    def _evaluates(self, runtime: Runtime) -> bool:
        wanted = self._request.evaluate or self._request.kind == "evaluate"
        return wanted and self._why_not_evaluated(runtime) is None

    def _why_not_evaluated(self, runtime: Runtime) -> str | None:
        if runtime.no_answers is None and self._model.data is None:
            return f"{self._model.name} comes with no labelled data to evaluate it on: name some with --data"
        return runtime.no_answers

    def _list_not_evaluated(self, target: Target, name: str, runtime: Runtime, recipe: str) -> None:
        """It is measured, and the accuracy that was asked for beside cannot be had."""
        why = self._why_not_evaluated(runtime) if self._request.evaluate else None
        if why is not None and ("evaluate", name, recipe, target.label) not in self._listed:
            self._listed.add(("evaluate", name, recipe, target.label))
            entry = {"model": self._model.name, "runtime": name, "recipe": recipe, "device": target.label}
            self._made.unsupported.append({**entry, "why": f"measured, not evaluated: {why}", "kind": "evaluate"})

    def _unsupported(
        self,
        target: Target,
        name: str,
        runtime: Runtime,
        recipe: str,
        why: str,
        variant: Variant | None = None,
        *,
        spare: bool = False,
    ) -> None:
        """List what cannot be had; what is spare is converted all the same: another host may measure it."""
        if target.device is not None and variant is not None:
            self._unsupported_cells(target.device.id, name, runtime, variant, why)
        if (name, recipe, target.label, why) in self._listed:
            return
        self._listed.add((name, recipe, target.label, why))
        entry = {"model": self._model.name, "runtime": name, "recipe": recipe, "device": target.label, "why": why}
        if spare and variant is not None:
            entry["artifact_key"] = variant.key
        self._made.unsupported.append(entry)

    def _unsupported_cells(self, device_id: int, name: str, runtime: Runtime, variant: Variant, why: str) -> None:
        request = self._request
        for threads, own in itertools.product(request.threads, _own_options(request, runtime)):
            known = (name, variant.key, threads, tuple(sorted(own.items())))
            if known not in self._cases:
                options = replace(request.options, threads=threads, runtime_options=own)
                weights = self._model.weights or request.weights
                self._cases[known] = case_of_parts(
                    self._model.name, weights, variant.format, variant.recipe, name, options
                )
            self._made.unsupported_cells.append(Unsupported(device_id, self._cases[known], why))


def _case_key(kind: JobKind, task: MeasureTask, target: Target) -> str:
    identity = [task.model, task.weights, task.format, task.recipe, task.runtime, task.options.identity()]
    identity += [target.key, PROTOCOL_VERSION]
    return digest(identity if kind == "measure" else [kind, *identity])


def calibration_digest(path: str) -> str:
    from pathlib import Path

    try:
        return file_digest(Path(path))
    except OSError as error:
        raise UsageError(f"cannot read the calibration file {path}: {error.strerror}") from error


def _own_options(request: Request, runtime: Runtime) -> list[dict[str, str]]:
    """Each combination of the wanted values of a runtime's own options; what is its default is left out.

    Of values that only another runtime's option of that name takes there is no case.
    """
    wanted = {
        name: [value for value in values if value in runtime.options[name]]
        for name, values in request.runtime_options.items()
        if name in runtime.options
    }
    combinations = (dict(zip(wanted, values, strict=True)) for values in itertools.product(*wanted.values()))
    return [
        {name: value for name, value in combination.items() if value != runtime.options[name][0]}
        for combination in combinations
    ]


def _why_no_runtime(runtime: Runtime, name: str, target: Target) -> str | None:
    """Why none of a target's units can run it, or None; of units that are unknown, nobody can say."""
    whys = [_why_not_on(runtime, name, device) for device in target.devices]
    return next(iter(whys), None) if all(whys) else None


def _is_for_others(runtime: Runtime, target: Target) -> bool:
    """Whether it is made for other kinds of devices: not even worth a line among what is unsupported."""
    return bool(target.devices) and not any(device.kind in runtime.device_kinds for device in target.devices)


def _is_of_other_systems(runtime: Runtime, target: Target) -> bool:
    """Whether no host of this system could have it, so that a host of another measures what is made here."""
    systems = {str(device.host_description["system"]) for device in target.devices}
    return all(runtime.why_not(system) is not None for system in systems)


def _why_not_on(runtime: Runtime, name: str, device: RegisteredDevice) -> str | None:
    if device.kind not in runtime.device_kinds:
        return f"{name} does not run on a {device.kind}"
    capability = next((item for item in device.host_description["runtimes"] if item["name"] == name), None)
    if capability is None:
        return f"the agent of {device.host} does not know the runtime {name}"
    if (why := reason(BackendCapability(**capability))) is not None:
        return why
    # A phone lists the runtimes that its host has a program for, made for its processor.
    offered = device.attributes.get("runtimes")
    if isinstance(offered, list | tuple) and name not in offered:
        return f"{device.host} has no program of {name} for {device.name} ({device.attributes.get('abi')})"
    return None


def lacking(request: Request, had: set[str]) -> set[str]:
    """Recipes asked for by name that are not among those had."""
    missing = set(request.recipes or ()) - had
    # Asked for together, these mean: as it is, whichever of them the model has.
    if missing & _UNQUANTISED and had & _UNQUANTISED and set(request.recipes or ()) >= _UNQUANTISED:
        missing -= _UNQUANTISED
    return missing


def _baseline_first(runtime: str) -> tuple[bool, str]:
    return runtime != "torch", runtime
