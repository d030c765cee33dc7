"""What a suite would measure on a farm: each block planned as a sweep, or why nothing of it can be measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from device_registry.errors import UsageError
from device_registry.registry import RegisteredDevice
from device_registry.selectors import parse_selector
from scheduler.farm import Farm, Ground
from scheduler.suites.suite import Block, Suite
from scheduler.sweeps.file import SweepFile
from scheduler.sweeps.matrix import NothingToMeasureError
from scheduler.sweeps.running import Prepared, prepare
from scheduler.sweeps.submission import Submission
from workers.plugins import plugins
from workers.runtimes.runtime import Runtime

#: Names in a sentence.
_MOST_NAMES = 10


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What of a suite is wanted, and where."""

    #: Only devices that this selector matches; empty: as the suite says.
    selector: str = ""
    #: Only these runtimes; None: as each block says.
    runtimes: tuple[str, ...] | None = None
    #: Only these blocks; None: all.
    blocks: tuple[str, ...] | None = None
    #: Labelled data instead of what comes with the models; None: as each block says.
    data: str | None = None
    #: Measure what has a fresh point, too.
    again: bool = False
    owner: str | None = None
    allow_code: bool = False


@dataclass(frozen=True, kw_only=True)
class PlannedBlock:
    """A block as it would run now."""

    block: Block
    #: None: nothing of it can be measured here.
    prepared: Prepared | None
    #: Why nothing can; None: something can.
    why_not: str | None = None
    #: What cannot be had, as `Plan.unsupported`.
    unsupported: Sequence[Mapping[str, Any]] = ()
    #: Thread counts that are left out, for no device has so many.
    threads_left_out: tuple[int, ...] = ()


def wanted_blocks(suite: Suite, wishes: Wishes) -> list[Block]:
    """The blocks that are wanted, in the order of the suite.

    Raises:
        UsageError: a block or runtime is called by no known name.
    """
    known = {block.name: block for block in suite.blocks}
    for name in wishes.blocks or ():
        if name not in known:
            raise UsageError(f"suite {suite.name} has no block {name}: {_hint(name, list(known))}")
    for name in wishes.runtimes or ():
        if name not in plugins("runtimes"):
            raise UsageError(f"unknown runtime {name}: {_hint(name, sorted(plugins('runtimes')))}")
    return [block for name, block in known.items() if wishes.blocks is None or name in wishes.blocks]


def refuse_nowhere(wishes: Wishes, ground: Ground) -> None:
    """Refuse a selector of which no device takes work, once and not block by block.

    Raises:
        UsageError: with what there is.
    """
    selector, devices = parse_selector(wishes.selector), ground.fleet.devices
    matching = [device for device in devices if selector.matches(device.selectable)]
    if not matching:
        have = f"; devices are {_some(device.name for device in devices)}" if devices else "; none is known"
        raise UsageError(f"no device matches {wishes.selector or 'any selector'}{have}")
    away = [device for device in matching if device.presence != "online" or device.admin != "enabled"]
    if len(away) == len(matching):
        states = (f"{one.name} is {one.presence if one.presence != 'online' else one.admin}" for one in away)
        raise UsageError(f"no device takes work now: {_some(states)}")


def plan_block(farm: Farm, block: Block, wishes: Wishes, ground: Ground, now: datetime | None = None) -> PlannedBlock:
    """Plan a block; nothing is inserted.

    Args:
        farm: where it would run.
        block: of the suite.
        wishes: what is wanted of it.
        ground: what it is planned on.
        now: the time; default: the clock's.

    Raises:
        UsageError: something that it names cannot be.
    """
    sweep = block.sweep
    if wishes.selector:
        sweep = _narrowed(replace(sweep, selectors=(wishes.selector,)), devices=[wishes.selector])
    if wishes.data is not None:
        sweep = _narrowed(replace(sweep, data=wishes.data), data=wishes.data)
    if wishes.runtimes is not None:
        mine = [name for name in wishes.runtimes if sweep.runtimes is None or name in sweep.runtimes]
        if not mine:
            why = f"it is about {', '.join(sweep.runtimes or ())}, not {', '.join(wishes.runtimes)}"
            return PlannedBlock(block=block, prepared=None, why_not=why)
        own = _options_of(sweep.runtime_options, mine)
        sweep = replace(sweep, runtimes=tuple(mine), runtime_options=own)
        sweep = _narrowed(sweep, runtimes=mine, runtime_options={name: list(values) for name, values in own.items()})
    most = _most_threads(ground.fleet.devices)
    fitting = tuple(count for count in sweep.threads if most is None or count <= most) or sweep.threads[:1]
    sweep = _narrowed(replace(sweep, threads=fitting), options={"threads": list(fitting)})
    submission = Submission(
        owner=wishes.owner,
        allow_code=wishes.allow_code,
        watched=False,
        fresh_only=not wishes.again,
        strict=False,
        own_points=True,
    )
    try:
        prepared = prepare(farm, sweep, submission, now, ground=ground)
    except NothingToMeasureError as error:
        why = error.why.removeprefix("nothing can be measured: ")
        return PlannedBlock(block=block, prepared=None, why_not=why, unsupported=error.unsupported)
    # What only another system's runtime could take is not made for the sake of this suite.
    prepared = replace(prepared, plan=replace(prepared.plan, spare_conversions=[]))
    left_out = tuple(count for count in block.sweep.threads if count not in fitting)
    unsupported = [entry for entry in prepared.plan.unsupported if entry.get("kind") != "evaluate"]
    return PlannedBlock(block=block, prepared=prepared, unsupported=unsupported, threads_left_out=left_out)


def _narrowed(sweep: SweepFile, *, options: Mapping[str, Any] | None = None, **fields: Any) -> SweepFile:
    """The sweep with fields of its text replaced: its run keeps the text, and is taken up as what it was."""
    data = json.loads(sweep.text)  # a block's is JSON
    data |= fields
    if options is not None:
        data["options"] = {**data.get("options", {}), **options}
    return replace(sweep, text=json.dumps(data, indent=1, ensure_ascii=False))


def _options_of(wanted: Mapping[str, tuple[str, ...]], runtimes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Options that some of these runtimes have."""
    loaded: list[Runtime] = [plugins("runtimes")[name].load() for name in runtimes]
    offered = {name for runtime in loaded for name in runtime.options}
    return {name: values for name, values in wanted.items() if name in offered}


def _most_threads(devices: Sequence[RegisteredDevice]) -> int | None:
    """The most threads that a device has; None: one does not say."""
    counts = [device.attributes.get("threads") for device in devices if not device.simulated]
    known = [count for count in counts if isinstance(count, int)]
    return max(known) if known and len(known) == len(counts) else None


def _some(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found[:_MOST_NAMES]) + (f" and {len(found) - _MOST_NAMES} more" if found[_MOST_NAMES:] else "")


def _hint(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
