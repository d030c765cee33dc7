"""From a request to jobs: which conversions, which measurements, and what cannot be had, before any device is taken."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from device_registry.capabilities import BackendCapability
from device_registry.errors import UsageError
from device_registry.registry import RegisteredDevice
from device_registry.selectors import parse_selector
from scheduler.cases import Case, case_of_parts
from scheduler.conversions import Variant, chain, digest, reason, variants_of
from scheduler.coverage import Unsupported
from scheduler.offers import merged, need
from scheduler.request import Request as Request
from scheduler.targets import Target, targets_of
from workers.codec import to_dict
from workers.contract import PROTOCOL_VERSION, ConvertTask, MeasureTask, ModelRequest
from workers.models.source import ModelSource, Resolved, UnknownModelError, file_digest
from workers.plugins import Plugin, plugins
from workers.runtimes.runtime import Runtime

_UNQUANTISED = {"fp32", "original"}
#: A conversion that takes longer hangs.
CONVERT_DEADLINE_S = 1800.0
#: Imports, load, warm-up and fidelity of a slow model, on top of its timed part.
MEASURE_ALLOWANCE_S = 600.0


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


def plan(
    request: Request, devices: Sequence[RegisteredDevice], descriptions: Sequence[Mapping[str, Any]] | None = None
) -> Plan:
    """Plan a request for devices that matched its selector.

    Args:
        request: what is wanted.
        devices: those that match; none where they have yet to come.
        descriptions: HostDescriptions of the hosts that can convert; default: those of the devices' hosts.

    Raises:
        UsageError: something asked for by name cannot be; the sentence says what and why.
    """
    made = draft(request, devices, descriptions)
    if not made.measurements:
        whys = {entry["why"] for entry in made.unsupported}
        raise UsageError("nothing can be measured: " + ("; ".join(sorted(whys)) or "no runtime takes such a model"))
    for what, name, why in impossible(made, request):
        raise UsageError(f"--{what} {name}: {why}")
    made.arrange()
    return made


def draft(
    request: Request,
    devices: Sequence[RegisteredDevice],
    descriptions: Sequence[Mapping[str, Any]] | None = None,
    resolved: Sequence[tuple[Plugin, Resolved]] | None = None,
) -> Plan:
    """What `plan` makes before it refuses and orders anything: parts of a larger matrix are drafted one by one.

    Args:
        request: what is wanted.
        devices: those that match.
        descriptions: as for `plan`.
        resolved: the request's models, where they are known already: files are read for it.

    Raises:
        UsageError: a name is unknown, or nobody can say what to run.
    """
    request.check()
    runtimes = plugins("runtimes")
    _check_named("runtime", request.runtimes, sorted(runtimes))
    _check_named("recipe", request.recipes, all_recipes())
    _check_options(request, [runtimes[name].load() for name in request.runtimes or runtimes])
    if not devices and request.runtimes is None:
        raise UsageError("for devices that have yet to come name what to run there: --runtime")
    if resolved is None:
        resolved = [resolve_model(request, name) for name in request.models]
    _refuse_equal_names([item for _, item in resolved])
    identities = [item.identity for _, item in resolved]
    if request.calibration is not None:
        identities.append({"calibration": _calibration_digest(request.calibration)})
    made = Plan(digest([to_dict(request), identities, sorted(device.key for device in devices)]))
    if descriptions is None:
        descriptions = list({device.host_id: device.host_description for device in devices}.values())
    targets = targets_of(request.spread, parse_selector(request.selector), devices)
    for source, model in resolved:
        planner = _Planner(made, request, source, model, descriptions)
        for target in targets:
            planner.add(target)
    return made


def impossible(made: Plan, request: Request) -> list[tuple[str, str, str]]:
    """What was asked for by name and no case has, as (runtime or recipe, name, why).

    What a matrix merely contains is only listed as unsupported.
    """
    measured = {item.task.runtime for item in made.measurements}
    found = [
        ("runtime", name, _why(made, "runtime", name) or "it takes no such model")
        for name in request.runtimes or ()
        if name not in measured
    ]
    lacking = _lacking(request, {item.task.recipe for item in made.measurements})
    return found + [
        ("recipe", name, _why(made, "recipe", name) or "no runtime offers it")
        for name in request.recipes or ()
        if name in lacking
    ]


def all_recipes() -> list[str]:
    """Every recipe that some source or converter offers."""
    routes = [route for plugin in plugins("converters").values() for route in plugin.load().routes]
    return sorted({route.recipe for route in routes} | {"fp32", "original"})


def all_models(*, simulated: bool = True) -> list[str]:
    """Every model that a source can list, simulated ones last or not at all."""
    sources: list[ModelSource] = [plugin.load() for plugin in plugins("model_sources").values()]
    found = sorted((source.simulated, name) for source in sources for name in source.names())
    return [name for made_up, name in found if simulated or not made_up]


def resolve_model(request: Request, name: str) -> tuple[Plugin, Resolved]:
    """Find the source of a model name.

    Raises:
        UnknownModelError: no source knows it; close names are given.
    """
    wanted = ModelRequest(
        name=name,
        weights="pretrained" if request.weights == "pretrained" else "random",
        seed=request.seed,
        batch=request.options.batch,
        allow_code=request.allow_code,
        search_path=request.search_path,
        calibration=request.calibration,
    )
    for plugin in plugins("model_sources").values():
        source: ModelSource = plugin.load()
        if (found := source.resolve(wanted)) is not None:
            return plugin, found
    known = all_models(simulated=False)  # who wants one of those says so
    tails = {model.rpartition("/")[2]: model for model in known}
    close = get_close_matches(name, known, n=3) or [tails[tail] for tail in get_close_matches(name, tails, n=3)]
    hint = f"; did you mean {', '.join(close)}?" if close else "; see benchfarm models list"
    raise UnknownModelError(f"unknown model {name}{hint}")


class _Planner:
    """Plans one model of a request, target by target."""

    def __init__(
        self,
        made: Plan,
        request: Request,
        plugin: Plugin,
        model: Resolved,
        descriptions: Sequence[Mapping[str, Any]],
    ) -> None:
        self._made, self._request, self._plugin, self._model = made, request, plugin, model
        self._sources = merged("sources", descriptions)
        self._converters = merged("converters", descriptions)
        #: The canonical program of a user's file or code is made where that is.
        self._local = model.recipe == "original" or request.allow_code or request.calibration is not None
        self._variants = variants_of(self._root(), plugins("converters"), self._converters.values())
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
            wanted = [v for v in offered if request.recipes is None or v.recipe in (*request.recipes, "original")]
            if not offered:
                self._unsupported(
                    target, name, runtime, "any", f"no converter leads from {model.format} to {name}'s format"
                )
                continue
            for recipe in sorted(_lacking(request, {variant.recipe for variant in offered})):
                self._unsupported(target, name, runtime, recipe, f"{name} has no {recipe} variant of {model.name}")
            for variant in wanted:
                if why := runtime.refuses.get(variant.recipe):
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

    def _root(self) -> Variant:
        request, source = self._model.request, self._plugin.load()
        calibration = None if request.calibration is None else _calibration_digest(request.calibration)
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
        parent = next(variant for variant in self._variants.values() if variant.key == link.parent)
        task = ConvertTask(entry=link.entry, format=link.format, recipe=link.recipe, input_format=parent.format)
        needs = (need("converters", link.backend, link.versions),)
        return PlannedConversion(link, self._model.name, task, on_this_host=False, needs=needs)

    def _measure(self, target: Target, name: str, entry: str, runtime: Runtime, variant: Variant) -> None:
        for threads, own in itertools.product(self._request.threads, _own_options(self._request, runtime)):
            units = sorted({str(device.attributes.get("compute_unit") or "cpu") for device in target.devices})
            unit = units[0] if len(units) == 1 else "cpu"
            known = (name, variant.key, threads, tuple(sorted(own.items())), unit)
            if known not in self._tasks:
                self._tasks[known] = MeasureTask(
                    runtime=name,
                    entry=entry,
                    format=variant.format,
                    recipe=variant.recipe,
                    model=self._model.name,
                    weights=self._model.weights or self._request.weights,
                    compute_unit=unit,
                    options=replace(self._request.options, threads=threads, runtime_options=own),
                )
            task = self._tasks[known]
            identity = [task.model, task.weights, task.format, task.recipe, name, task.options.identity()]
            identity += [target.key, PROTOCOL_VERSION]
            case_key = digest(identity if self._request.kind == "measure" else [self._request.kind, *identity])
            self._made.measurements += [
                PlannedMeasurement(
                    variant,
                    task,
                    target.device,
                    repeat,
                    case_key,
                    where=target.label,
                    selector=target.selector,
                    needs=() if target.device is not None else (need("runtimes", name),),
                    device_model=target.device_model,
                )
                for repeat in range(self._request.repeats)
            ]

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


def _refuse_equal_names(models: list[Resolved]) -> None:
    """Files are known by their names in tables and series; two of one name would be taken for one model."""
    seen: dict[str, str] = {}
    for model in models:
        if (other := seen.setdefault(model.name, model.request.name)) != model.request.name:
            raise UsageError(f"two models are called {model.name}: {other} and {model.request.name}; rename one")


def _calibration_digest(path: str) -> str:
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


def _check_options(request: Request, runtimes: list[Runtime]) -> None:
    known = sorted({name for runtime in runtimes for name in runtime.options})
    _check_named("option", tuple(request.runtime_options), known)
    for name, values in request.runtime_options.items():
        offered = list(dict.fromkeys(v for runtime in runtimes for v in runtime.options.get(name, ())))
        _check_named(f"value of option {name}", values, offered)


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


def _why(made: Plan, what: str, name: str) -> str | None:
    return next((entry["why"] for entry in made.unsupported if entry[what] == name), None)


def _lacking(request: Request, had: set[str]) -> set[str]:
    """Recipes asked for by name that are not among those had."""
    lacking = set(request.recipes or ()) - had
    # Asked for together, these mean: as it is, whichever of them the model has.
    if lacking & _UNQUANTISED and had & _UNQUANTISED and set(request.recipes or ()) >= _UNQUANTISED:
        lacking -= _UNQUANTISED
    return lacking


def _check_named(what: str, given: tuple[str, ...] | None, known: list[str]) -> None:
    for name in given or ():
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            raise UsageError(f"unknown {what} {name!r}: {hint}")


def _baseline_first(runtime: str) -> tuple[bool, str]:
    return runtime != "torch", runtime
