"""What can be measured on what, as a table for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from exporters.numbers import NONE
from exporters.tables import simple_table

if TYPE_CHECKING:
    from scheduler.support import Support


def support_view(found: Sequence[Support], options: Mapping[str, Mapping[str, Sequence[str]]]) -> RenderableType:
    """Recipes of each runtime on each platform, why some cannot be had, and options with their defaults first."""
    columns, rows = _grid(found)
    parts: list[RenderableType] = [simple_table("Runtimes, platforms and recipes", columns, rows)]
    parts += [Text(f"{what}: {why}", style="dim") for what, why in _reasons(found)]
    own = [[name, option, ", ".join(values)] for name, all_ in options.items() for option, values in all_.items()]
    if own:
        parts.append(simple_table("Options of their own (--option NAME=VALUE)", ["runtime", "name", "values"], own))
    return Group(*parts)


def markdown_table(found: Sequence[Support]) -> str:
    """The same table as Markdown, with the reasons below it."""
    columns, rows = _grid(found)
    lines = [columns, ["---"] * len(columns), *rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{table}\n\n" + "".join(f"- {what}: {why}\n" for what, why in _reasons(found))


def _grid(found: Sequence[Support]) -> tuple[list[str], list[list[str]]]:
    recipes = sorted({item.recipe for item in found}, key=_simple_first)
    status = {(item.runtime, item.platform, item.recipe): item.status for item in found}
    places = dict.fromkeys((item.runtime, item.platform) for item in found)
    rows = [[*place, *(status.get((*place, recipe), NONE) for recipe in recipes)] for place in places]
    return ["runtime", "platform", *recipes], rows


def _reasons(found: Sequence[Support]) -> list[tuple[str, str]]:
    """Each reason once, with the recipes and platforms that it is true of; all of a runtime's are not listed."""
    recipes: dict[str, set[str]] = {}
    platforms: dict[str, set[str]] = {}
    refused: dict[tuple[str, str], dict[str, None]] = {}
    where: dict[tuple[str, str], dict[str, None]] = {}
    for item in found:
        recipes.setdefault(item.runtime, set()).add(item.recipe)
        platforms.setdefault(item.runtime, set()).add(item.platform)
        if item.why is not None:
            refused.setdefault((item.runtime, item.why), {})[item.recipe] = None
            where.setdefault((item.runtime, item.why), {})[item.platform] = None
    lines = []
    for (runtime, why), names in refused.items():
        what = runtime if set(names) == recipes[runtime] else f"{runtime} {', '.join(names)}"
        places = where[runtime, why]
        lines.append((what if set(places) == platforms[runtime] else f"{what} on {', '.join(places)}", why))
    return lines


def _simple_first(recipe: str) -> tuple[int, str]:
    order = ("fp32", "bf16", "fp16")
    return (order.index(recipe), "") if recipe in order else (len(order), recipe)
