"""`benchfarm noise`: how far each series scatters by itself, and what it cannot see for it."""

from __future__ import annotations

import getpass
import signal
import time
from collections.abc import Collection, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from benchfarm.cli import requests
from benchfarm.cli.output import Json, print_json
from device_registry.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from scheduler.embedded import EmbeddedFarm
    from scheduler.farm import Ground
    from scheduler.regressions.series_noise import SeriesNoise
    from scheduler.status import RunStatus

Show = Annotated[bool, typer.Option("--show", help="Measure nothing: show what was learnt.")]
Again = Annotated[bool, typer.Option("--again", help="Measure also what was learnt within the last 30 days.")]
Models = Annotated[list[str] | None, typer.Option("--model", help="Only series of this model; repeat for more.")]
Processes = Annotated[int, typer.Option(min=5, max=30, help="Fresh processes on each side.")]
#: Trials that are running are looked at so often.
_STEP_S = 2.0
#: Series that one transaction begins: no other writer waits for long.
_MOST_AT_ONCE = 50
#: A table of more is read by nobody.
_MOST_ROWS = 60


def noise(
    device: requests.Device = "",
    model: Models = None,
    processes: Processes = 10,
    again: Again = False,
    show: Show = False,
    executor: requests.Executor = "ray",
    json: Json = False,
) -> None:
    """Learn what each series scatters by itself: its latest artifact is measured against itself, in turns (A/A).

    The noise floor of a series says what counts as the same in comparisons of it, and whether it could see a change of
    5 %. Series whose noise was learnt within 30 days are left out. Where benchfarm up runs on this database, that farm
    measures; an interrupted command goes on when it is given again. Exit codes: 0 done, 1 a series could not be
    measured, 2 wrong usage or nothing to measure, 130 interrupted.
    """
    from benchfarm.config import load_home
    from device_registry.database import reading
    from device_registry.tables import utc_now
    from scheduler.embedded import EmbeddedFarm
    from scheduler.matrix import matching_devices
    from scheduler.regressions.noise import running_noise
    from scheduler.regressions.series_noise import series_noise

    farm = EmbeddedFarm(load_home())
    with reading(farm.engine) as connection:
        ids = matching_devices(connection, device)
        known = series_noise(connection, device_ids=ids, models=model or ())
    if not known:
        named = " ".join(part for part in (f"of {', '.join(model)}" if model else "", f"on {device}" if device else ""))
        raise UsageError(f"no valid result {named.strip() or 'yet'}: benchfarm run measures one")
    void: list[dict[str, Any]] = []
    if not show:
        ground = farm.ground()
        there = {one.id for one in ground.fleet.devices if one.presence == "online" and one.admin == "enabled"}
        for label in sorted({one.device for one in known if one.device_id not in there}):
            typer.echo(f"{label} takes no work here now: its series are left out", err=True)
        with reading(farm.engine) as connection:
            left = running_noise(connection, [one.series_id for one in known])
        wanted = [
            one for one in known if one.device_id in there and (again or one.is_due(utc_now()) or one.series_id in left)
        ]
        if not wanted and there:
            typer.echo("nothing to measure: all was learnt within 30 days; --again measures anew", err=True)
        void = _learn(farm, ground, wanted, processes, executor)
        with reading(farm.engine) as connection:
            known = series_noise(connection, device_ids=ids, models=model or ())
    if json:
        print_json({"series": [_document(one) for one in known], "not_learnt": void})
    else:
        _print(known, void, utc_now())
    if void:
        raise typer.Exit(1)


def _learn(
    farm: EmbeddedFarm,
    ground: Ground,
    wanted: Sequence[SeriesNoise],
    processes: int,
    executor: Literal["ray", "local"],
) -> list[dict[str, Any]]:
    """Measure series and wait for it; returns those that could not be, and why."""
    from device_registry.database import reading, writing
    from device_registry.tables import utc_now
    from exporters.numbers import duration
    from exporters.progress import RunProgress
    from scheduler.regressions.noise import cost_s, learn, noise_ends, running_noise
    from scheduler.trials import step_trials

    if not wanted:
        return []
    ids = [one.series_id for one in wanted]
    stepped_at = 0.0

    def step() -> None:
        with writing(farm.engine) as connection:
            step_trials(connection, utc_now())

    with RunProgress() as progress:
        with reading(farm.engine) as connection:
            left = running_noise(connection, ids)
            fresh = [one for one in wanted if one.series_id not in left]
            expected_s = sum(cost_s(connection, fresh, processes).values())
        begun: dict[int, int] = {}
        own_run: int | None = None
        for first in range(0, len(fresh), _MOST_AT_ONCE):
            some = fresh[first : first + _MOST_AT_ONCE]
            with writing(farm.engine) as connection:
                owner, now = getpass.getuser(), utc_now()
                begun |= learn(connection, some, owner=owner, processes=processes, priority=0, run_id=own_run, now=now)
                own_run = next(iter(running_noise(connection, list(begun)).values()), None)
        runs = {*left.values(), *([own_run] if own_run is not None else [])}
        if left:
            progress.say(f"{len(left)} series are being learnt already: going on with them")
        if begun:
            series = f"{len(begun)} series, {processes} + {processes} processes of each"
            progress.say(f"{series}: about {duration(expected_s)} of device time")

        def observe(status: RunStatus) -> None:
            nonlocal stepped_at
            progress.observe(status)
            if time.monotonic() - stepped_at >= _STEP_S:
                step()
                stepped_at = time.monotonic()

        def more() -> bool:
            step()
            with reading(farm.engine) as connection:
                return run_id in running_noise(connection, ids).values()

        signal.signal(signal.SIGTERM, _interrupt)
        try:
            for run_id in sorted(runs):
                if not ground.of_the_farm:
                    farm.work(run_id, executor, observe, progress.say, more)
                    continue
                farm.wait(run_id, observe=observe, say=progress.say)
                while more():
                    time.sleep(_STEP_S)
        except KeyboardInterrupt:
            goes_on = "the farm goes on; --show tells" if ground.of_the_farm else "the same command goes on"
            progress.say(f"interrupted; {goes_on}")
            raise typer.Exit(130) from None
    lost = [one for one in wanted if one.series_id not in begun and one.series_id not in left]
    why = "its artifact, or the job that measured it, is not known any more"
    void = [{"series": one.series_id, "title": one.title, "why": why} for one in lost]
    with reading(farm.engine) as connection:
        return void + noise_ends(connection, runs, ids)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _document(one: SeriesNoise) -> dict[str, Any]:
    named = {"series": one.series_id, "device": one.device, "simulated": one.simulated, "model": one.model}
    named |= {"runtime": one.runtime, "recipe": one.recipe, "options": one.options, "p50_ms": one.p50_ms}
    learnt = {"noise": one.noise, "least_change": one.detectable, "sees_5_percent": one.sees_5_percent}
    return {**named, **learnt, "processes": one.processes, "learnt_at": one.learnt_at}


def _print(known: Collection[SeriesNoise], void: Collection[dict[str, Any]], now: datetime) -> None:
    """Those that cannot see 5 % first."""
    from exporters.matrix_tables import age_text
    from exporters.numbers import NONE, significant
    from exporters.tables import show, simple_table

    columns = ["device", "model", "variant", "p50 ms", "noise", "least change", "sees 5 %", "processes", "learnt"]
    rows = []
    for one in sorted(known, key=lambda one: (one.noise is None, one.sees_5_percent is not False, -(one.noise or 0.0))):
        least = NONE if one.noise is None else "none" if one.detectable is None else f"{one.detectable:.1%}"
        age = NONE if one.learnt_at is None else age_text((now - one.learnt_at).total_seconds())
        rows.append(
            [
                *(one.device, one.model, f"{one.runtime} {one.recipe}, {one.options}", significant(one.p50_ms)),
                *(NONE if one.noise is None else f"{one.noise:.1%}", least),
                {None: NONE, True: "yes", False: "no"}[one.sees_5_percent],
                *(NONE if one.processes is None else str(one.processes), age),
            ]
        )
    show(simple_table("Noise between processes", columns, rows[:_MOST_ROWS]))
    if len(rows) > _MOST_ROWS:
        typer.echo(f"and {len(rows) - _MOST_ROWS} more; --json has every one")
    blind = [one for one in known if one.sees_5_percent is False]
    unknown = sum(one.noise is None for one in known)
    told = f"{len(blind)} of {len(known) - unknown} cannot see a change of 5 %"
    typer.echo(told + (f"; {unknown} are not learnt yet" if unknown else ""))
    for lost in void:
        typer.echo(f"not learnt: {lost['title']}: {lost['why']}", err=True)
