"""A suite is run: one sweep run for each block, one after another; what has a fresh point is not run again."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Connection, exists, select, update

from device_registry.database import reading, writing
from device_registry.errors import UsageError
from device_registry.tables import utc_now
from scheduler import runs
from scheduler.comparisons import run_failures
from scheduler.conversions import digest
from scheduler.embedded import EmbeddedFarm, ExecutorName
from scheduler.farm import Farm, Ground
from scheduler.plan import Plan
from scheduler.queue import sweep_runs
from scheduler.states import OPEN_JOB, jobs
from scheduler.status import RunStatus
from scheduler.suites.planning import PlannedBlock, Wishes, plan_block, refuse_nowhere, wanted_blocks
from scheduler.suites.suite import Suite
from scheduler.sweeps.following import Chores
from scheduler.sweeps.listing import run_document
from scheduler.sweeps.running import Prepared, insert_prepared
from scheduler.tables import CONVERSIONS


class Audience(Protocol):
    """Who is told how a suite goes."""

    def begins(self, planned: PlannedBlock, number: int, count: int) -> None:
        """A block is next: so many of so many."""

    def observe(self, status: RunStatus) -> None:
        """About once a second, of the run that is worked on."""

    def say(self, text: str) -> None:
        """Something slow begins, or is worth knowing."""


class Nobody:
    """An audience that listens to nothing."""

    def begins(self, planned: PlannedBlock, number: int, count: int) -> None:
        """See `Audience`."""

    def observe(self, status: RunStatus) -> None:
        """See `Audience`."""

    def say(self, text: str) -> None:
        """See `Audience`."""


@dataclass(frozen=True, kw_only=True)
class BlockRun:
    """What became of a block."""

    block: str
    title: str
    #: None: everything is fresh, or nothing can be measured.
    sweep_run_id: int | None
    why_not: str | None = None
    cases: int = 0
    evaluations: int = 0
    fresh: int = 0
    #: Jobs that failed or were cancelled; what cannot be had is none of them.
    failed_jobs: int = 0
    #: As `comparisons.RunResults`.
    failed: Sequence[dict[str, Any]] = ()
    unsupported: Sequence[dict[str, Any]] = ()


def run_suite(
    farm: EmbeddedFarm, suite: Suite, wishes: Wishes, executor: ExecutorName, audience: Audience
) -> Iterator[BlockRun]:
    """Run a suite, and wait for it; the same call goes on where another was interrupted.

    Where benchfarm up runs on this database, its devices do it, and all blocks are submitted at once; else this
    process works on one block after another.

    Args:
        farm: where it runs.
        suite: what is run, quick or full.
        wishes: what of it, and where.
        executor: what carries attempts, should this process work on it.
        audience: who is told how it goes.

    Yields:
        What became of each block, as it is done.

    Raises:
        UsageError: something that is named cannot be, or nothing of the suite can be measured.
        KeyboardInterrupt: after running children were ended and the run was put to rest.
    """
    blocks = wanted_blocks(suite, wishes)
    ground = farm.ground()
    refuse_nowhere(wishes, ground)
    if ground.of_the_farm:
        yield from wait_for_blocks(farm, submit_suite(farm, suite, wishes, audience, ground=ground), audience)
        return
    first = [plan_block(farm, block, wishes, ground) for block in blocks]
    _refuse_nothing(suite, first)
    with farm.crew(executor, audience.say) as crew:
        if (made_first := insert_conversions(farm, suite, first)) is not None:
            audience.say("converting the models of all blocks: every core is free for it now")
            crew.work(made_first, audience.observe)
        for number, block in enumerate(blocks, start=1):
            planned = plan_block(farm, block, wishes, ground)  # anew: blocks before may have measured some of it
            audience.begins(planned, number, len(blocks))
            run_id = _insert(farm, planned, follow=True)
            if run_id is not None:
                chores = Chores(farm.engine, run_id, audience.say)
                crew.work(run_id, _both(audience.observe, chores), chores.more)
            yield outcome(farm, planned, run_id)


def insert_conversions(farm: EmbeddedFarm, suite: Suite, planned: Sequence[PlannedBlock]) -> int | None:
    """Insert a run of nothing but what blocks need converted, so that no core waits for the last of each block.

    Returns:
        Its number; None: all of it stands, or one block alone does it just as well.
    """
    prepared = [item.prepared for item in planned if item.prepared is not None]
    # What stands already is among them: it frees what is made from it.
    needed = {item.variant.key: item for one in prepared for item in one.plan.conversions}
    if len(prepared) < 2 or not any(one.expected.missing for one in prepared):
        return None
    one = prepared[0]
    about = ["suite", suite.name, suite.quick, sorted(needed)]
    with writing(farm.engine) as connection:
        submitted = runs.submit(
            connection,
            Plan(digest(about), conversions=list(needed.values())),
            replace(one.matrix.request, sweep=None),
            one.ground.store,
            owner=one.submission.owner or getpass.getuser(),
            this_host_id=one.ground.fleet.this_host_id,
            now=utc_now(),
            follow=True,
        )
        made = sweep_runs.c.id == submitted.sweep_run_id
        connection.execute(update(sweep_runs).where(made).values(purpose=CONVERSIONS))
    return submitted.sweep_run_id


def submit_suite(
    farm: Farm,
    suite: Suite,
    wishes: Wishes,
    audience: Audience,
    *,
    ground: Ground | None = None,
    now: datetime | None = None,
) -> list[tuple[PlannedBlock, int | None]]:
    """Queue all blocks of a suite for benchfarm up; one whose run is open already is not queued again.

    Returns:
        Each block with its run; None: everything is fresh, or nothing can be measured.

    Raises:
        UsageError: something that is named cannot be, or nothing of the suite can be measured.
    """
    blocks = wanted_blocks(suite, wishes)
    ground = ground or farm.ground()
    refuse_nowhere(wishes, ground)
    planned = [plan_block(farm, block, wishes, ground, now) for block in blocks]
    _refuse_nothing(suite, planned)
    made = []
    for number, item in enumerate(planned, start=1):
        audience.begins(item, number, len(planned))
        made.append((item, _insert(farm, item, follow=False)))
    return made


def wait_for_blocks(
    farm: Farm, submitted: Sequence[tuple[PlannedBlock, int | None]], audience: Audience
) -> Iterator[BlockRun]:
    """Wait for blocks that a farm works on, one after another.

    Yields:
        What became of each.
    """
    for planned, run_id in submitted:
        if run_id is not None:
            farm.wait(run_id, observe=audience.observe, say=audience.say)
        yield outcome(farm, planned, run_id)


def outcome(farm: Farm, planned: PlannedBlock, run_id: int | None) -> BlockRun:
    """What became of a block, so far."""
    block, prepared = planned.block, planned.prepared
    if prepared is None or run_id is None:
        fresh = 0 if prepared is None else prepared.measured(prepared.fresh)
        return BlockRun(
            block=block.name,
            title=block.title,
            sweep_run_id=None,
            why_not=planned.why_not,
            fresh=fresh,
            unsupported=[dict(entry) for entry in planned.unsupported],
        )
    with reading(farm.engine) as connection:
        document = run_document(connection, run_id, utc_now())
        failed, unsupported = run_failures(connection, run_id)
    return BlockRun(
        block=block.name,
        title=block.title,
        sweep_run_id=run_id,
        cases=prepared.measured(prepared.times),
        evaluations=sum(item.kind == "evaluate" for item in prepared.plan.measurements),
        fresh=prepared.measured(prepared.fresh),
        failed_jobs=document["failed"] + document["cancelled"],
        failed=failed,
        unsupported=unsupported,
    )


def _insert(farm: Farm, planned: PlannedBlock, *, follow: bool) -> int | None:
    """Insert a block's run, or take up the one that is open; None: nothing of it is left to measure."""
    prepared = planned.prepared
    if prepared is None:
        return None
    if not follow:
        with reading(farm.engine) as connection:
            if (open_run := _open_run(connection, prepared)) is not None:
                farm.stands_on(prepared.ground, open_run)
                return open_run
    return insert_prepared(farm, prepared, follow=follow).sweep_run_id


def _open_run(connection: Connection, prepared: Prepared) -> int | None:
    """The run of the same request that is not done yet."""
    still_open = exists().where(jobs.c.sweep_run_id == sweep_runs.c.id, jobs.c.state.in_(OPEN_JOB))
    same = (sweep_runs.c.request_digest == prepared.plan.digest, sweep_runs.c.sweep == prepared.sweep.name)
    query = select(sweep_runs.c.id).where(*same, still_open).order_by(sweep_runs.c.id.desc()).limit(1)
    found = connection.execute(query).scalar()
    return None if found is None else int(found)


def _both(observe: Callable[[RunStatus], None], chores: Chores) -> Callable[[RunStatus], None]:
    def told(status: RunStatus) -> None:
        observe(status)
        chores.observe()

    return told


def _refuse_nothing(suite: Suite, planned: Sequence[PlannedBlock]) -> None:
    """Refuse a suite of which no block can be measured here."""
    whys = dict.fromkeys(item.why_not for item in planned if item.why_not is not None)
    if all(item.why_not is not None for item in planned):
        raise UsageError(f"nothing of suite {suite.name} can be measured here: {'; '.join(whys)}")
