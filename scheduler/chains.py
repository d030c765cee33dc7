"""Variants that a request asks for by name: chains of steps over a model, and why one cannot be had. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from device_registry.capabilities import BackendCapability
from scheduler.conversions import Variant, compressed, step_name, variants_by, variants_of
from workers.plugins import Plugin
from workers.recipes import Recipe, Step


@dataclass(frozen=True, kw_only=True)
class Backends:
    """What is registered, and what the farm's hosts can do of it."""

    converters: Mapping[str, Plugin]
    compressions: Mapping[str, Plugin]
    converting: Iterable[BackendCapability]
    compressing: Iterable[BackendCapability]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model as far as recipes ask for it."""

    name: str
    root: Variant
    #: Why its module cannot be changed; None where it can.
    fixed: str | None
    #: Whether it has labelled data to learn from.
    has_data: bool
    #: What else the outcome of a step depends on, by the step's text; and why it cannot be done.
    details: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


class Offer:
    """All variants of a model that a request may want."""

    def __init__(self, subject: Subject, recipes: Sequence[Recipe], backends: Backends) -> None:
        """Find the default matrix, and the chain of each recipe asked for."""
        self._subject, self._backends = subject, backends
        self.variants = variants_of(subject.root, backends.converters, backends.converting)
        self._whys: dict[str, str] = {}
        for recipe in recipes:
            # What has no step is the program as it is: there, or there is none.
            if recipe.steps and recipe.text not in {variant.recipe for variant in self.variants.values()}:
                self._add(recipe)

    def why_not(self, recipe: str, formats: Sequence[str]) -> str | None:
        """Why a recipe cannot be had in any of these formats, where that is known of it."""
        if (why := self._whys.get(recipe)) is not None:
            return why
        elsewhere = sorted({item.format for item in self.variants.values() if item.recipe == recipe} - set(formats))
        return f"only {' and '.join(elsewhere)} has {recipe}" if elsewhere else None

    def _add(self, recipe: Recipe) -> None:
        subject, backends = self._subject, self._backends
        if why := self._refusal(recipe):
            self._whys[recipe.text] = why
            return
        programs = compressed(
            subject.root, recipe.structure, backends.compressions, backends.compressing, subject.details
        )
        root = programs[-1] if programs else subject.root
        for variant in (*programs, *variants_by(recipe, root, backends.converters, backends.converting)):
            self.variants.setdefault((variant.format, variant.recipe), variant)
        if recipe.text not in {variant.recipe for variant in self.variants.values()}:
            self._whys[recipe.text] = self._dead_end(recipe)

    def _refusal(self, recipe: Recipe) -> str | None:
        subject = self._subject
        for step in recipe.structure:
            if subject.fixed is not None:
                return _of_step(recipe, step, subject.fixed)
            if step.kind is not None and step.kind.trains and not subject.has_data:
                return _of_step(recipe, step, "it learns from labelled data, and there is none: --data")
            if (why := subject.refused.get(step.text)) is not None:
                return _of_step(recipe, step, why)
        return None

    def _dead_end(self, recipe: Recipe) -> str:
        """Which step no converter does."""
        routes = [route for plugin in self._backends.converters.values() for route in plugin.load().routes]
        for step in recipe.steps[len(recipe.structure) :]:
            formats = sorted({route.format for route in routes if step_name(route.recipe) == step.name})
            if not formats:
                return _of_step(recipe, step, "no converter does it")
        last = recipe.steps[-1]
        return _of_step(recipe, last, f"no format of {self._subject.name} has it after what goes before")


def _of_step(recipe: Recipe, step: Step, why: str) -> str:
    """A reason with the step that it is about, where the recipe has several."""
    if len(recipe.steps) == 1:
        return why
    return f"step {recipe.steps.index(step) + 1} of {recipe.text}, {step.name}: {why}"
