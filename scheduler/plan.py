"""From a request to jobs: which conversions, which measurements, and what cannot be had, before any device is taken."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Literal

from device_registry.capabilities import BackendCapability
from device_registry.errors import UsageError
from device_registry.registry import RegisteredDevice
from scheduler.conversions import Variant, chain, digest, variants_of
from workers.codec import to_dict
from workers.contract import PROTOCOL_VERSION, ConvertTask, GatePolicy, MeasureTask, ModelRequest, Options
from workers.models.source import ModelSource, Resolved, UnknownModelError, file_digest
from workers.plugins import Plugin, plugins
from workers.runtimes.runtime import Runtime

_UNQUANTISED = {"fp32", "original"}
#: A conversion that takes longer hangs.
CONVERT_DEADLINE_S = 1800.0
#: Imports, load, warm-up and fidelity of a slow model, on top of its timed part.
MEASURE_ALLOWANCE_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asked for in one `run`."""

    models: tuple[str, ...]
    kind: Literal["measure", "profile"] = "measure"
    #: None: every runtime; named ones must be possible.
    runtimes: tuple[str, ...] | None = None
    recipes: tuple[str, ...] | None = None
    selector: str = ""
    threads: tuple[int, ...] = (1,)
    #: Runtimes' own options, each with the values to compare; a runtime without the option runs once.
    runtime_options: dict[str, tuple[str, ...]] = field(default_factory=dict)
    options: Options = field(default_factory=Options)
    repeats: int = 1
    weights: str = "random"
    seed: int = 0
    calibration: str | None = None
    allow_code: bool = False
    search_path: tuple[str, ...] = ()
    gate: GatePolicy = "wait"
    gate_timeout_s: float = 15.0


@dataclass(frozen=True)
class PlannedConversion:
    """A convert job to be, unless its artifact stands."""

    variant: Variant
    model: str
    task: ConvertTask
    #: The canonical program of a user's file or code is made where that is.
    on_this_host: bool


@dataclass(frozen=True)
class PlannedMeasurement:
    """A measure job to be."""

    variant: Variant
    task: MeasureTask
    device: RegisteredDevice
    repeat_no: int
    case_key: str


@dataclass
class Plan:
    """All jobs of a request, in the order they should run."""

    digest: str
    conversions: list[PlannedConversion] = field(default_factory=list)
    #: Artifacts nobody here can measure but another host can: made last.
    spare_conversions: list[PlannedConversion] = field(default_factory=list)
    measurements: list[PlannedMeasurement] = field(default_factory=list)
    unsupported: list[dict[str, str]] = field(default_factory=list)


def plan(request: Request, devices: Sequence[RegisteredDevice]) -> Plan:
    """Plan a request for devices that matched its selector.

    Raises:
        UsageError: something asked for by name cannot be; the sentence says what and why.
    """
    runtimes = plugins("runtimes")
    _check_named("runtime", request.runtimes, sorted(runtimes))
    _check_named("recipe", request.recipes, all_recipes())
    _check_options(request, [runtimes[name].load() for name in request.runtimes or runtimes])
    resolved = [resolve_model(request, name) for name in request.models]
    _refuse_equal_names([item for _, item in resolved])
    identities = [item.identity for _, item in resolved]
    if request.calibration is not None:
        identities.append({"calibration": _calibration_digest(request.calibration)})
    made = Plan(digest([to_dict(request), identities, sorted(device.key for device in devices)]))
    for source, model in resolved:
        for device in devices:
            _plan_model(made, request, source, model, device, runtimes)
    if not made.measurements:
        whys = {entry["why"] for entry in made.unsupported}
        raise UsageError("nothing can be measured: " + ("; ".join(sorted(whys)) or "no runtime takes such a model"))
    _refuse_named(made, request)
    made.conversions = list({item.variant.key: item for item in made.conversions}.values())
    wanted = {item.variant.key for item in made.conversions}
    made.spare_conversions = [
        item for key, item in {item.variant.key: item for item in made.spare_conversions}.items() if key not in wanted
    ]
    # Random order mixed over cases, the same for the same request: a slow spell of the machine hits no case alone.
    random.Random(made.digest).shuffle(made.measurements)  # noqa: S311  # no secret
    made.measurements.sort(key=lambda item: item.repeat_no)
    return made


def all_recipes() -> list[str]:
    """Every recipe that some source or converter offers."""
    routes = [route for plugin in plugins("converters").values() for route in plugin.load().routes]
    return sorted({route.recipe for route in routes} | {"fp32", "original"})


def all_models() -> list[str]:
    """Every model that a source can list."""
    return sorted(name for plugin in plugins("model_sources").values() for name in plugin.load().names())


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
    known = all_models()
    tails = {model.rpartition("/")[2]: model for model in known}
    close = get_close_matches(name, known, n=3) or [tails[tail] for tail in get_close_matches(name, tails, n=3)]
    hint = f"; did you mean {', '.join(close)}?" if close else "; see benchfarm models list"
    raise UnknownModelError(f"unknown model {name}{hint}")


def _plan_model(
    made: Plan, request: Request, plugin: Plugin, model: Resolved, device: RegisteredDevice, runtimes: dict[str, Plugin]
) -> None:
    host = device.host_description
    variants = variants_of(
        _root(plugin, model), plugins("converters"), [BackendCapability(**item) for item in host["converters"]]
    )
    capabilities = {item["name"]: BackendCapability(**item) for item in host["runtimes"]}
    for name in request.runtimes or sorted(runtimes, key=_baseline_first):
        runtime: Runtime = runtimes[name].load()
        why_not = _why_no_runtime(runtime, name, capabilities, device)
        offered = [variant for variant in variants.values() if variant.format in runtime.formats]
        wanted = [v for v in offered if request.recipes is None or v.recipe in (*request.recipes, "original")]
        if not offered:
            _unsupported(made, model, device, name, "any", f"no converter leads from {model.format} to {name}'s format")
            continue
        for recipe in sorted(_lacking(request, {variant.recipe for variant in offered})):
            _unsupported(made, model, device, name, recipe, f"{name} has no {recipe} variant of {model.name}")
        for variant in wanted:
            if reason := runtime.refuses.get(variant.recipe):
                _unsupported(made, model, device, name, variant.recipe, reason)
                continue
            links = [_conversion(link, variants, model, request) for link in chain(variant, variants.values())]
            if reason := variant.why_not or why_not:
                spare = variant.why_not is None and request.runtimes is None
                _unsupported(made, model, device, name, variant.recipe, reason, variant.key if spare else None)
                made.spare_conversions += links if spare else []
                continue
            made.conversions += links
            for threads, own in itertools.product(request.threads, _own_options(request, runtime)):
                options = replace(request.options, threads=threads, runtime_options=own)
                made.measurements += _measurements(request, model, device, name, runtimes[name].entry, variant, options)


def _root(plugin: Plugin, model: Resolved) -> Variant:
    request = model.request
    calibration = None if request.calibration is None else _calibration_digest(request.calibration)
    source: ModelSource = plugin.load()
    identity = [plugin.name, source.revision, model.name, model.identity, model.format, model.recipe]
    key = digest([*identity, request.weights, request.seed, request.batch, calibration])
    return Variant(model.format, model.recipe, key, plugin.entry, None, dict(model.identity.get("versions", {})))


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


def _conversion(
    link: Variant, variants: dict[tuple[str, str], Variant], model: Resolved, request: Request
) -> PlannedConversion:
    if link.parent is None:
        task = ConvertTask(entry=link.entry, format=link.format, recipe=link.recipe, model=model.request)
        local = model.recipe == "original" or request.allow_code or request.calibration is not None
        return PlannedConversion(link, model.name, task, on_this_host=local)
    parent = next(variant for variant in variants.values() if variant.key == link.parent)
    task = ConvertTask(entry=link.entry, format=link.format, recipe=link.recipe, input_format=parent.format)
    return PlannedConversion(link, model.name, task, on_this_host=False)


def _measurements(
    request: Request,
    model: Resolved,
    device: RegisteredDevice,
    runtime: str,
    entry: str,
    variant: Variant,
    options: Options,
) -> list[PlannedMeasurement]:
    task = MeasureTask(
        runtime=runtime,
        entry=entry,
        format=variant.format,
        recipe=variant.recipe,
        model=model.name,
        weights=model.weights or request.weights,
        compute_unit=str(device.attributes.get("compute_unit") or "cpu"),
        options=options,
    )
    identity = [
        task.model,
        task.weights,
        task.format,
        task.recipe,
        runtime,
        task.options.identity(),
        device.key,
        PROTOCOL_VERSION,
    ]
    case_key = digest(identity if request.kind == "measure" else [request.kind, *identity])
    return [PlannedMeasurement(variant, task, device, repeat, case_key) for repeat in range(request.repeats)]


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


def _why_no_runtime(
    runtime: Runtime, name: str, capabilities: dict[str, BackendCapability], device: RegisteredDevice
) -> str | None:
    if device.kind not in runtime.device_kinds:
        return f"{name} does not run on a {device.kind}"
    capability = capabilities.get(name)
    if capability is None:
        return f"the agent of {device.host} does not know the runtime {name}"
    if capability.why_not is None:
        return None
    return capability.why_not + (f": {capability.fix}" if capability.fix else "")


def _unsupported(
    made: Plan,
    model: Resolved,
    device: RegisteredDevice,
    runtime: str,
    recipe: str,
    why: str,
    artifact_key: str | None = None,
) -> None:
    entry = {"model": model.name, "runtime": runtime, "recipe": recipe, "device": device.name, "why": why}
    if artifact_key is not None:
        entry["artifact_key"] = artifact_key  # it is converted all the same: another host may measure it
    if entry not in made.unsupported:
        made.unsupported.append(entry)


def _refuse_named(made: Plan, request: Request) -> None:
    """What was asked for by name and cannot be is refused; what a matrix merely contains is only listed."""
    measured = {item.task.runtime for item in made.measurements}
    for name in request.runtimes or ():
        if name not in measured:
            why = next(
                (entry["why"] for entry in made.unsupported if entry["runtime"] == name), "it takes no such model"
            )
            raise UsageError(f"--runtime {name}: {why}")
    recipes = {item.task.recipe for item in made.measurements}
    for recipe in request.recipes or ():
        if recipe in _lacking(request, recipes):
            why = next(
                (entry["why"] for entry in made.unsupported if entry["recipe"] == recipe), "no runtime offers it"
            )
            raise UsageError(f"--recipe {recipe}: {why}")


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
