"""A suite with all that its blocks found so far, as documents, tables and pages take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from device_registry.errors import UsageError
from scheduler.plan import resolve_model
from scheduler.request import Request
from scheduler.roofline import Roofline
from scheduler.suites.readings import Listed, Readings, Row, add_bounds, block_readings
from scheduler.suites.shipped import load_named
from scheduler.suites.suite import Block, Published, Suite, sweep_name

#: The suite and its block that measure what a device can do at best.
_ROOFS = ("operators", "roofs")


@dataclass(frozen=True, kw_only=True)
class BlockFound:
    """One block and what it found."""

    block: Block
    readings: Readings
    published: tuple[Published, ...]

    @property
    def models(self) -> list[str]:
        """As the block lists them."""
        return [point.model for point in self.block.points]

    def place_of(self, model: str | None) -> Mapping[str, Any]:
        """Where in the block's grid a model stands."""
        return next((point.values for point in self.block.points if point.model == model), {})


@dataclass(frozen=True, kw_only=True)
class SuiteFound:
    """A suite and what it found."""

    suite: Suite
    blocks: tuple[BlockFound, ...]
    roofs: Mapping[tuple[Any, ...], Roofline]

    @property
    def rows(self) -> Sequence[Row]:
        """Readings of all blocks."""
        return [row for found in self.blocks for row in found.readings.rows]


def gather(connection: Connection, suite: Suite) -> SuiteFound:
    """All that a suite found so far.

    Raises:
        UsageError: no block of it was ever run.
    """
    blocks = [_found(connection, suite, block) for block in suite.blocks]
    if not any(found.readings.run_ids for found in blocks):
        quick = " --quick" if suite.quick else ""
        raise UsageError(f"nothing of suite {suite.name} was run yet: benchfarm suite run {suite.name}{quick}")
    # The roofs of a device are the same whichever block found them, and whichever suite.
    rows = [row for found in blocks for row in found.readings.rows]
    return SuiteFound(
        suite=suite, blocks=tuple(blocks), roofs=add_bounds([*rows, *_roofs_elsewhere(connection, suite)])
    )


def _found(connection: Connection, suite: Suite, block: Block) -> BlockFound:
    listed = [Listed(text=point.model, name=_known(point.model), values=point.values) for point in block.points]
    sweep = sweep_name(suite.name, block.name, quick=suite.quick)
    return BlockFound(
        block=block,
        readings=block_readings(connection, sweep, listed, block.sweep.recipes or ()),
        published=tuple(row for row in suite.published if row.block == block.name),
    )


def _roofs_elsewhere(connection: Connection, suite: Suite) -> Sequence[Row]:
    """Readings of the block that exists to find roofs, if another suite's results need them."""
    if suite.name == _ROOFS[0] or not any(plot.kind == "roofline" for block in suite.blocks for plot in block.plots):
        return ()
    other = load_named(_ROOFS[0], quick=suite.quick)
    return [
        row
        for block in other.blocks
        if block.name == _ROOFS[1]
        for row in _found(connection, other, block).readings.rows
    ]


def _known(model: str) -> str:
    """The name that results have of a model."""
    try:
        return resolve_model(Request(models=(model,)), model)[1].name
    except UsageError:  # a package is not installed here, or it is a user's code: results of it may be there
        return model
