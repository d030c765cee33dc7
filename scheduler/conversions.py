"""Which artifacts can be made of a model, by which chain of conversions, and the key each is found by. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from device_registry.capabilities import BackendCapability
from workers.converters.converter import Converter, Route
from workers.plugins import Plugin
from workers.recipes import STEPS, Recipe, Step


@dataclass(frozen=True)
class Variant:
    """One artifact that can be made: its format and recipe, and how."""

    format: str
    recipe: str
    key: str
    #: "module:Class" of the source or converter.
    entry: str
    #: Key of the artifact it is made from; None for the canonical program.
    parent: str | None
    #: Versions of the packages that make it.
    versions: dict[str, str]
    #: Why no host can make it, and the command that mends it.
    why_not: str | None = None
    #: Name of the source, converter or compression.
    backend: str = ""
    #: What this one conversion does, of all that the recipe names; None: the recipe.
    step: str | None = None
    #: Of a compression: the steps that its input has gone through.
    before: tuple[str, ...] | None = None


def variants_of(
    root: Variant, converters: Mapping[str, Plugin], capabilities: Iterable[BackendCapability]
) -> dict[tuple[str, str], Variant]:
    """Every variant of the default matrix reachable from the canonical program, each by its shortest chain.

    Args:
        root: the canonical program or the model file itself.
        converters: registered converters by name.
        capabilities: what the converting host says of each.

    Returns:
        (format, recipe) to variant, the root included. A variant whose converter (or an earlier one) lacks a package
        has `why_not`.
    """
    reached = _reached(root, Recipe(), converters, capabilities, lambda route: not _on_request(route.recipe))
    return {(variant.format, variant.recipe): variant for variant in reached.values()}


def variants_by(
    recipe: Recipe, root: Variant, converters: Mapping[str, Plugin], capabilities: Iterable[BackendCapability]
) -> list[Variant]:
    """Variants of the formats in which a recipe can be had, and all that lie on the way to them.

    Args:
        recipe: its steps of structure are done already: the root is their outcome.
        root: the program that the rest starts from.
        converters: registered converters by name.
        capabilities: what the converting hosts say of each.
    """
    wanted = {step.name for step in recipe.steps}
    offered = _reached(
        root,
        recipe,
        converters,
        capabilities,
        lambda route: not _on_request(route.recipe) or step_name(route.recipe) in wanted,
    )
    return list(offered.values())


def compressed(
    root: Variant,
    steps: Sequence[Step],
    compressions: Mapping[str, Plugin],
    capabilities: Iterable[BackendCapability],
    details: Mapping[str, Any],
) -> list[Variant]:
    """The programs that steps of structure lead to, one after another.

    Args:
        root: the canonical program.
        steps: in order.
        compressions: registered ones by name.
        capabilities: what the converting hosts say of each.
        details: whatever else a step's outcome depends on, by the step's text (who is learnt from).
    """
    can = {capability.name: capability for capability in capabilities}
    made: list[Variant] = []
    source = root
    for number, step in enumerate(steps, start=1):
        done = Recipe(tuple(steps[:number])).text
        plugin, capability = compressions.get(step.name), can.get(step.name)
        why_not = source.why_not or (
            f"no host offers {step.name}" if plugin is None or capability is None else reason(capability)
        )
        versions = {**root.versions, **(capability.versions if capability is not None else {})}
        parts = [source.key, step.name, plugin.load().revision if plugin is not None else 0, step.text, versions]
        source = Variant(
            format=root.format,
            recipe=done,
            key=digest([*parts, *([details[step.text]] if step.text in details else [])]),
            entry=plugin.entry if plugin is not None else "",
            parent=source.key,
            versions=versions,
            why_not=why_not,
            backend=step.name,
            step=step.text,
            before=tuple(item.text for item in steps[: number - 1]),
        )
        made.append(source)
    return made


@dataclass(frozen=True)
class _State:
    """How far a recipe is done: so many steps of the graph, and an arithmetic."""

    format: str
    graph_steps: int
    arithmetic: str


def _reached(
    root: Variant,
    recipe: Recipe,
    converters: Mapping[str, Plugin],
    capabilities: Iterable[BackendCapability],
    takes: Callable[[Route], bool],
) -> dict[_State, Variant]:
    """What routes lead to from a program, each by its shortest way."""
    can = {capability.name: capability for capability in capabilities}
    structure = recipe.structure
    begun = _State(root.format, 0, "fp32" if structure else root.recipe)
    found = {begun: root}
    frontier = [begun]
    while frontier:
        following = []
        for at in frontier:
            source = found[at]
            for name in sorted(converters):
                converter: Converter = converters[name].load()
                for route in converter.routes:
                    state = _after(at, route, recipe) if takes(route) else None
                    if state is None or state in found:
                        continue
                    step = _step_text(route, recipe)
                    capability = can.get(name)
                    why_not = source.why_not or (
                        "no host offers its converter" if capability is None else reason(capability)
                    )
                    versions = capability.versions if capability is not None else {}
                    label = _label(recipe, state)
                    found[state] = Variant(
                        format=route.format,
                        recipe=label,
                        key=digest([source.key, name, converter.revision, route.format, step, versions]),
                        entry=converters[name].entry,
                        parent=source.key,
                        versions=versions,
                        why_not=why_not,
                        backend=name,
                        step=None if step == label else step,
                    )
                    following.append(state)
        frontier = following
    return found


def _after(at: _State, route: Route, recipe: Recipe) -> _State | None:
    """Where a route leads from a state; None: it does not start there, or does what the recipe has no step for."""
    leads = route.source_recipe == at.arithmetic or (at.arithmetic == "original" and route.source_recipe == "fp32")
    if route.source_format != at.format or not leads:
        return None
    kind = STEPS.get(step_name(route.recipe))
    if kind is not None and kind.role == "graph":
        following = recipe.graph[at.graph_steps : at.graph_steps + 1]
        if not following or following[0].name != route.recipe:
            return None
        return _State(route.format, at.graph_steps + 1, "fp32")
    return _State(route.format, at.graph_steps, _step_text(route, recipe))


def _step_text(route: Route, recipe: Recipe) -> str:
    """The step of the recipe that a route does, with its parameters; the route's own name where it has none of it."""
    return next((step.text for step in recipe.steps if step.name == route.recipe), route.recipe)


def _label(recipe: Recipe, state: _State) -> str:
    done = [step.text for step in (*recipe.structure, *recipe.graph[: state.graph_steps])]
    if state.arithmetic != "fp32" or not done:
        done.append(state.arithmetic)
    return "+".join(done)


def step_name(text: str) -> str:
    """The name of a step without its parameters."""
    return text.partition("(")[0]


def _on_request(recipe: str) -> bool:
    kind = STEPS.get(step_name(recipe))
    return kind is not None and kind.on_request


def chain(variant: Variant, variants: Iterable[Variant]) -> list[Variant]:
    """The variant and all it is made from, the program first."""
    by_key = {item.key: item for item in variants}
    links = [variant]
    while (parent := links[-1].parent) is not None:
        links.append(by_key[parent])
    return links[::-1]


def digest(value: Any) -> str:
    """sha256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def reason(capability: BackendCapability) -> str | None:
    """Why a backend cannot be used, with what mends it; None where it can."""
    if capability.why_not is None:
        return None
    return capability.why_not + (f": {capability.fix}" if capability.fix else "")
