"""What panels have in common: colours of states, thresholds, tables' columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.models.dashboard import (
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)

from exporters import metrics

GREEN, YELLOW, ORANGE, RED, BLUE, GREY, PURPLE = "green", "yellow", "orange", "red", "blue", "#808080", "purple"

#: What a cell of the matrix, a verdict, a job, an attempt or a device can be: each word has one colour everywhere.
COLOURS: Mapping[str, str] = {
    "valid": GREEN,
    "stale": YELLOW,
    "invalid": ORANGE,
    "failed": RED,
    "unsupported": GREY,
    "missing": PURPLE,
    "succeeded": GREEN,
    "finished": GREEN,
    "running": BLUE,
    "queued": YELLOW,
    "blocked": GREY,
    "cancelled": GREY,
    "lost": RED,
    "contaminated": RED,
    "throttled": RED,
    "unusable": RED,
    "not_converged": YELLOW,
    "interrupted": ORANGE,
}
#: States of a cell of the matrix.
CELLS: Final = {state: COLOURS[state] for state in ("valid", "stale", "invalid", "failed", "unsupported", "missing")}
#: Unit of ratios of two times.
TIMES: Final = "suffix:×"  # noqa: RUF001  # it is one
#: Shown where a cell has no value: absent is not 0.
ABSENT = "—"


def thresholds(*steps: tuple[float | None, str]) -> ThresholdsConfig:
    """Colours from a value on; the first step, of None, is below all others."""
    made = [Threshold(value=value, color=colour) for value, colour in steps]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(made)


def plain() -> ThresholdsConfig:
    """One colour, where no value is better than another."""
    return thresholds((None, BLUE))


def mapped(colours: Mapping[str, str]) -> list[ValueMap]:
    """Value mappings: each word as it is, in its colour."""
    results = {
        word: ValueMappingResult(color=colour, index=index, text=word)
        for index, (word, colour) in enumerate(colours.items())
    }
    return [ValueMap(options=results)]


def yes_no(yes: tuple[str, str], no: tuple[str, str]) -> list[ValueMap]:
    """Value mappings of 1 and 0, or true and false: text and colour of each."""
    told = {"1": yes, "true": yes, "0": no, "false": no}
    results = {
        value: ValueMappingResult(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate(told.items())
    }
    return [ValueMap(options=results)]


@dataclass(frozen=True)
class Column:
    """How a column of a table is shown."""

    #: Grafana's name of the unit; None: text or a plain number.
    unit: str | None = None
    #: As the head of the column; None: the column's own name.
    title: str | None = None
    decimals: int | None = None
    #: Words in their colours.
    words: Mapping[str, str] | None = None
    #: (value, colour) steps that colour the cell.
    steps: tuple[tuple[float | None, str], ...] = ()
    links: tuple[dict[str, object], ...] = ()
    hidden: bool = False
    width: int | None = None

    def properties(self) -> list[DynamicConfigValue]:
        """As an override of the fields of that name."""
        made: list[DynamicConfigValue] = []

        def put(name: str, value: object) -> None:
            made.append(DynamicConfigValue(id_val=name, value=value))

        if self.title is not None:
            put("displayName", self.title)
        if self.unit is not None:
            put("unit", self.unit)
        if self.decimals is not None:
            put("decimals", self.decimals)
        if self.words is not None:
            put("mappings", mapped(self.words))
        if self.steps:
            put("thresholds", thresholds(*self.steps).build())
            put("color", {"mode": "thresholds"})
        if self.words is not None or self.steps:
            put("custom.cellOptions", {"type": "color-text"})
        if self.links:
            put("links", list(self.links))
        if self.hidden:
            put("custom.hideFrom", {"legend": True, "tooltip": True, "viz": True})
            put("custom.hidden", True)  # what Grafana before 12 calls it
        if self.width is not None:
            put("custom.width", self.width)
        return made


#: Yes and no as words.
SIMULATED = Column(title="simulated", words={"true": PURPLE, "false": GREY}, width=100)

#: Temperatures of anything that computes: warm, hot.
CELSIUS: Final = ((None, GREEN), (45.0, YELLOW), (60.0, ORANGE), (80.0, RED))
#: Charge of a battery.
CHARGE: Final = ((None, RED), (0.2, YELLOW), (0.4, GREEN))


def state_words() -> dict[str, str]:
    """States of a device (`exporters.metrics`) in their colours: what is not listed is some way of being away."""
    own = {
        "idle": GREEN,
        "busy": BLUE,
        "cooling": YELLOW,
        "draining": YELLOW,
        "maintenance": ORANGE,
        "quarantined": RED,
    }
    known = metrics.DEVICE_STATE.labels[-1].values or ()
    return {state: own.get(state, GREY) for state in known}


def coloured(*names: str) -> dict[str, dict[str, object]]:
    """Overrides of series that are called by a word: they have its colour."""
    return {f"^{name}$": {"color": {"mode": "fixed", "fixedColor": COLOURS.get(name, BLUE)}} for name in names}
