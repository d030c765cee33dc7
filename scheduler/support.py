"""Which recipes each registered runtime offers, and where: runtimes x recipes x platforms, from the registrations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scheduler.conversions import Variant, variants_of
from workers.plugins import plugins
from workers.runtimes.runtime import PLATFORMS, Runtime

#: Run there; known not to be had there; never tried there.
Status = Literal["yes", "no", "not yet run"]


@dataclass(frozen=True)
class Support:
    """One recipe of one runtime on one platform."""

    runtime: str
    platform: str
    recipe: str
    status: Status
    #: Why not, where the status is no.
    why: str | None


def support() -> list[Support]:
    """Every recipe that a chain of converters leads to, of every runtime, on every platform it is meant for."""
    made = _reachable()
    found = []
    for name, plugin in plugins("runtimes").items():
        runtime: Runtime = plugin.load()
        recipes = sorted({recipe for format_, recipe in made if format_ in runtime.formats})
        for platform, (system, kind) in PLATFORMS.items():
            if kind in runtime.device_kinds:
                why_not = runtime.why_not(system)
                found += [_support(name, runtime, platform, recipe, why_not) for recipe in recipes]
    return found


def _support(name: str, runtime: Runtime, platform: str, recipe: str, why_not: str | None) -> Support:
    seen = runtime.seen.get(platform, {})
    why = why_not or runtime.refuses.get(recipe) or seen.get(recipe)
    status: Status = "no" if why else "yes" if recipe in seen else "not yet run"
    return Support(name, platform, recipe, status, why)


def _reachable() -> set[tuple[str, str]]:
    """Formats and recipes that lead from any canonical program: from what no converter makes."""
    converters = plugins("converters")
    routes = [route for plugin in converters.values() for route in plugin.load().routes]
    made = {(route.format, route.recipe) for route in routes}
    roots = {(route.source_format, route.source_recipe) for route in routes} - made
    roots |= {(format_, "fp32") for plugin in plugins("model_sources").values() for format_ in plugin.load().formats}
    return {
        variant
        for format_, recipe in roots
        for variant in variants_of(_root(format_, recipe), converters, capabilities=())
    }


def _root(format_: str, recipe: str) -> Variant:
    return Variant(format=format_, recipe=recipe, key="", entry="", parent=None, versions={})
