"""Rules of a sweep: which cases of its matrix are left out, and which of those are measured all the same."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import cache
from typing import Any

from scheduler.plan import PlannedMeasurement
from scheduler.sweeps.complaints import Position
from workers.plugins import plugins
from workers.runtimes.runtime import Runtime

_OPTION = "runtime_options."


@dataclass(frozen=True)
class Rule:
    """Matches a case that matches in every field; of several patterns of a field one must match."""

    at: Position
    #: Field to patterns; options of runtimes as "runtime_options.NAME".
    fields: Mapping[str, tuple[str, ...]]

    def matches(self, facts: Mapping[str, Sequence[str]]) -> bool:
        """Whether a case matches.

        Args:
            facts: what is known of the case, by field; of one that may run on several devices there are several texts.
        """
        return all(_any(patterns, facts.get(name, ())) for name, patterns in self.fields.items())

    def may_match(self, facts: Mapping[str, Sequence[str]]) -> bool:
        """The same of what is no case, and lacks fields: whether those that are known match."""
        return all(_any(patterns, facts[name]) for name, patterns in self.fields.items() if name in facts)

    def __str__(self) -> str:
        return ", ".join(f"{name}: {' or '.join(patterns)}" for name, patterns in self.fields.items())


def rule_of(data: Mapping[str, Any], at: Position) -> Rule:
    """A rule as its file has it."""
    fields = {name: _texts(value) for name, value in data.items() if name != "runtime_options"}
    fields |= {_OPTION + name: _texts(value) for name, value in data.get("runtime_options", {}).items()}
    return Rule(at, fields)


class Rules:
    """The rules of one sweep, and which of them matched anything so far.

    Everything that the matrix contains is measured, but for what an `exclude` rule matches and no `include` rule does.
    """

    def __init__(self, exclude: Sequence[Rule], include: Sequence[Rule]) -> None:
        """None has matched yet."""
        self._exclude, self._include = exclude, include
        self._used: set[int] = set()

    def takes(self, item: PlannedMeasurement, devices: Sequence[Any]) -> bool:
        """Whether a case is measured; `devices` are those that it may run on."""
        facts = _facts(item, devices)
        matching = [rule for rule in self._exclude if rule.matches(facts)]
        self._used |= {id(rule) for rule in matching}
        if not matching:
            return True
        again = [rule for rule in self._include if rule.matches(facts)]
        self._used |= {id(rule) for rule in again}
        return bool(again)

    def lists(self, entry: Mapping[str, str]) -> bool:
        """Whether a line about what is unsupported is of interest: not where a rule leaves all of it out."""
        facts = {name: (str(entry[name]),) for name in ("model", "runtime", "recipe")}
        known = {*facts}
        out = [rule for rule in self._exclude if {*rule.fields} <= known and rule.matches(facts)]
        return not out or any(rule.may_match(facts) for rule in self._include)

    @property
    def unused(self) -> list[tuple[str, Rule]]:
        """Rules that matched no case: likely a mistake."""
        rules = [("exclude", rule) for rule in self._exclude] + [("include", rule) for rule in self._include]
        return [(what, rule) for what, rule in rules if id(rule) not in self._used]


def _facts(item: PlannedMeasurement, devices: Sequence[Any]) -> dict[str, tuple[str, ...]]:
    task = item.task
    facts: dict[str, tuple[str, ...]] = {
        "model": (task.model,),
        "recipe": (task.recipe,),
        "runtime": (task.runtime,),
        "format": (task.format,),
        "threads": (str(task.options.threads),),
        "batch": (str(task.options.batch),),
        "mode": (task.options.mode,),
        "device": tuple(device.name for device in devices),
        "kind": tuple(device.kind for device in devices),
        "host": tuple(device.host for device in devices),
        "device_model": tuple(str(device.attributes["model"]) for device in devices if "model" in device.attributes),
    }
    for name, values in _options_of(task.runtime).items():
        facts[_OPTION + name] = (task.options.runtime_options.get(name, values[0]),)
    return facts


@cache
def _options_of(runtime: str) -> Mapping[str, tuple[str, ...]]:
    loaded: Runtime = plugins("runtimes")[runtime].load()
    return loaded.options


def _any(patterns: Iterable[str], texts: Iterable[str]) -> bool:
    return any(_pattern(pattern).match(text) for pattern in patterns for text in texts)


@cache
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(one) for one in (value if isinstance(value, list) else [value]))
