"""Which artifacts can be made of a model, by which chain of converters, and the key each is found by. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from device_registry.capabilities import BackendCapability
from workers.converters.converter import Converter
from workers.plugins import Plugin


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
    #: Name of the source or converter.
    backend: str = ""


def variants_of(
    root: Variant, converters: Mapping[str, Plugin], capabilities: Iterable[BackendCapability]
) -> dict[tuple[str, str], Variant]:
    """Every variant reachable from the canonical program, each by its shortest chain.

    Args:
        root: the canonical program or the model file itself.
        converters: registered converters by name.
        capabilities: what the converting host says of each.

    Returns:
        (format, recipe) to variant, the root included. A variant whose converter (or an earlier one) lacks a package
        has `why_not`.
    """
    can = {capability.name: capability for capability in capabilities}
    found = {(root.format, root.recipe): root}
    frontier = [root]
    while frontier:
        following = []
        for source in frontier:
            for name in sorted(converters):
                converter: Converter = converters[name].load()
                for route in converter.routes:
                    target = (route.format, route.recipe)
                    if target in found or not _leads_from(route.source_format, route.source_recipe, source):
                        continue
                    capability = can.get(name)
                    why_not = source.why_not or (
                        "no host offers its converter" if capability is None else reason(capability)
                    )
                    versions = capability.versions if capability is not None else {}
                    variant = Variant(
                        format=route.format,
                        recipe=route.recipe,
                        key=digest([source.key, name, converter.revision, *target, versions]),
                        entry=converters[name].entry,
                        parent=source.key,
                        versions=versions,
                        why_not=why_not,
                        backend=name,
                    )
                    found[target] = variant
                    following.append(variant)
        frontier = following
    return found


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


def _leads_from(source_format: str, source_recipe: str, source: Variant) -> bool:
    same = source.recipe == source_recipe or (source.recipe == "original" and source_recipe == "fp32")
    return source.format == source_format and same
