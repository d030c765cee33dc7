"""The same again: the request behind a run, or behind one job of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select

from device_registry.errors import BenchfarmError, UsageError
from device_registry.registry import devices
from device_registry.selectors import Selector, Term
from scheduler.interventions import known_run
from scheduler.payloads import payloads
from scheduler.request import Request
from scheduler.requirements import requirements
from scheduler.states import jobs
from scheduler.tables import CANARY
from workers.codec import ContractError, from_dict


def request_of_run(connection: Connection, run_id: int) -> Request:
    """What a run was asked for.

    Raises:
        UsageError: there is no such run, or no one request makes it again.
        BenchfarmError: another version of benchfarm wrote it.
    """
    run = known_run(connection, run_id)
    if run.request.get("sweep") is not None:
        again = f"benchfarm sweep run {run.request['sweep']['source']} --all measures it again"
        raise UsageError(f"run {run_id} is one of sweep {run.sweep}, which no one request makes again: {again}")
    return _request(run)


def request_of_job(connection: Connection, job_id: int) -> Request:
    """What a measurement was asked for, and no more: its case once, on its device or on what it could run on.

    Raises:
        UsageError: there is no such job, or it is a conversion.
        BenchfarmError: another version of benchfarm wrote it.
    """
    query = (
        select(jobs, payloads.c.document.label("payload"), requirements.c.selector)
        .join(payloads, payloads.c.id == jobs.c.payload_id)
        .join(requirements, requirements.c.id == jobs.c.requirement_id)
    )
    row = connection.execute(query.where(jobs.c.id == job_id)).first()
    if row is None:
        raise UsageError(f"no job {job_id}; see benchfarm jobs list")
    if row.kind == "convert":
        raise UsageError(f"job {job_id} is a conversion: what it makes is made once; clone what measures it")
    request = _request(known_run(connection, row.sweep_run_id))
    task = row.payload[row.kind]
    narrowed = replace(
        request,
        models=tuple(name for name in request.models if task["model"] in (name, Path(name).name)),
        runtimes=(task["runtime"],),
        recipes=(task["recipe"],),
        threads=(task["options"]["threads"],),
        runtime_options={name: (value,) for name, value in task["options"].get("runtime_options", {}).items()},
        kind=row.kind,
        evaluate=False,
        repeats=1,
        # A sweep's run keeps the first of its requests, and this case may be another's.
        options=replace(request.options, batch=task["options"]["batch"], mode=task["options"]["mode"]),
        selector=row.selector if request.sweep is not None else request.selector,
        sweep=None,
    )
    if row.device_id is None:
        return narrowed
    key = connection.execute(select(devices.c.key).where(devices.c.id == row.device_id)).scalar_one()
    return replace(narrowed, selector=str(Selector((Term("key", "=", key),))), spread="each")


def _request(run: Row[Any]) -> Request:
    if run.purpose not in (None, CANARY):
        raise UsageError(f"run {run.id} holds trials of two artifacts each, which no request makes again")
    try:
        return from_dict(Request, run.request)
    except ContractError as error:
        raise BenchfarmError(f"run {run.id} was asked for by another version of benchfarm: {error}") from error
