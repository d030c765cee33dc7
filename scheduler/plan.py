"""From a request to jobs: which conversions, which measurements, and what cannot be had, before any device is taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from device_registry.errors import UsageError
from device_registry.registry import RegisteredDevice
from device_registry.selectors import parse_selector
from scheduler.conversions import digest
from scheduler.planned import MEASURE_ALLOWANCE_S as MEASURE_ALLOWANCE_S
from scheduler.planned import Plan as Plan
from scheduler.planned import PlannedConversion as PlannedConversion
from scheduler.planned import PlannedMeasurement as PlannedMeasurement
from scheduler.planner import Planner, calibration_digest, lacking
from scheduler.request import Request as Request
from scheduler.targets import targets_of
from workers.codec import to_dict
from workers.contract import ModelRequest
from workers.data_sets.attach import with_data
from workers.models.source import ModelSource, Resolved, UnknownModelError
from workers.plugins import Plugin, plugins
from workers.recipes import RecipeError, canonical, parse_recipe
from workers.runtimes.runtime import Runtime

#: What a kind of request does with a case.
_DONE = {"measure": "measured", "profile": "profiled", "evaluate": "evaluated"}


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
    request = with_canonical_recipes(request)
    made = draft(request, devices, descriptions)
    if not made.measurements:
        whys = {entry["why"] for entry in made.unsupported}
        raise UsageError(
            f"nothing can be {_DONE[request.kind]}: " + ("; ".join(sorted(whys)) or "no runtime takes such a model")
        )
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
    request = with_canonical_recipes(request)
    runtimes = plugins("runtimes")
    _check_named("runtime", request.runtimes, sorted(runtimes))
    _check_options(request, [runtimes[name].load() for name in request.runtimes or runtimes])
    if not devices and request.runtimes is None:
        raise UsageError("for devices that have yet to come name what to run there: --runtime")
    if resolved is None:
        resolved = [resolve_model(request, name) for name in request.models]
    _refuse_equal_names([item for _, item in resolved])
    identities = [item.identity for _, item in resolved]
    if request.calibration is not None:
        identities.append({"calibration": calibration_digest(request.calibration)})
    made = Plan(digest([to_dict(request), identities, sorted(device.key for device in devices)]))
    if descriptions is None:
        descriptions = list({device.host_id: device.host_description for device in devices}.values())
    targets = targets_of(request.spread, parse_selector(request.selector), devices)
    teachers = _teachers(request)
    for source, model in resolved:
        planner = Planner(made, request, source, model, descriptions, teachers)
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
    missing = lacking(request, {item.task.recipe for item in made.measurements})
    return found + [
        ("recipe", name, _why(made, "recipe", name) or "no runtime offers it")
        for name in request.recipes or ()
        if name in missing
    ]


def all_recipes() -> list[str]:
    """The names of all steps that some source, converter or compression offers."""
    routes = [route for plugin in plugins("converters").values() for route in plugin.load().routes]
    return sorted({route.recipe for route in routes} | {"fp32", "original", *plugins("compressions")})


def recipe_text(text: str) -> str:
    """A recipe as it is known: canonical.

    Raises:
        UsageError: it makes no sense, or nothing is called by the name of one of its steps.
    """
    try:
        steps = parse_recipe(text).steps
    except RecipeError as error:
        raise UsageError(f"recipe {error}") from error
    _check_named("recipe", tuple(step.name for step in steps), all_recipes())
    return canonical(text)


def with_canonical_recipes(request: Request) -> Request:
    """The request with its recipes as they are known."""
    if request.recipes is None:
        return request
    return replace(request, recipes=tuple(dict.fromkeys(recipe_text(text) for text in request.recipes)))


def _teachers(request: Request) -> dict[str, tuple[Plugin, Resolved]]:
    """Who is learnt from, by the text of the step."""
    steps = [step for text in request.recipes or () for step in parse_recipe(text).structure]
    alone = replace(request, data=None, data_limit=None, calibration=None)
    named = {step.text: step.get("teacher") for step in steps}
    return {text: resolve_model(alone, str(name)) for text, name in named.items() if name is not None}


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
        data=request.data,
        data_limit=request.data_limit,
    )
    for plugin in plugins("model_sources").values():
        source: ModelSource = plugin.load()
        if (found := source.resolve(wanted)) is not None:
            return plugin, with_data(found)
    known = all_models(simulated=False)  # who wants one of those says so
    tails = {model.rpartition("/")[2]: model for model in known}
    close = get_close_matches(name, known, n=3) or [tails[tail] for tail in get_close_matches(name, tails, n=3)]
    hint = f"; did you mean {', '.join(close)}?" if close else "; see benchfarm models list"
    raise UnknownModelError(f"unknown model {name}{hint}")


def _refuse_equal_names(models: list[Resolved]) -> None:
    """Files are known by their names in tables and series; two of one name would be taken for one model."""
    seen: dict[str, str] = {}
    for model in models:
        if (other := seen.setdefault(model.name, model.request.name)) != model.request.name:
            raise UsageError(f"two models are called {model.name}: {other} and {model.request.name}; rename one")


def _check_options(request: Request, runtimes: list[Runtime]) -> None:
    known = sorted({name for runtime in runtimes for name in runtime.options})
    _check_named("option", tuple(request.runtime_options), known)
    for name, values in request.runtime_options.items():
        offered = list(dict.fromkeys(v for runtime in runtimes for v in runtime.options.get(name, ())))
        _check_named(f"value of option {name}", values, offered)


def _why(made: Plan, what: str, name: str) -> str | None:
    return next((entry["why"] for entry in made.unsupported if entry[what] == name), None)


def _check_named(what: str, given: tuple[str, ...] | None, known: list[str]) -> None:
    for name in given or ():
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            raise UsageError(f"unknown {what} {name!r}: {hint}")
