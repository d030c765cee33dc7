"""`benchfarm submit`: put work into the farm's queue and go on."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from benchfarm.cli import outcome, requests
from benchfarm.cli.output import Json


def submit(
    models: requests.Models,
    runtime: requests.Runtimes = None,
    recipe: requests.Recipes = None,
    device: requests.Device = "",
    each: requests.Each = False,
    any_device: requests.AnyDevice = False,
    per_model: requests.PerModel = False,
    priority: requests.Priority = 0,
    owner: requests.Owner = None,
    queue_timeout: requests.QueueTimeout = None,
    run_timeout: requests.RunTimeout = None,
    wait_for_device: requests.WaitForDevice = False,
    batch: requests.Batch = 1,
    threads: requests.Threads = "1",
    affinity: requests.Affinity = None,
    option: requests.Own = None,
    repeats: requests.Repeats = 1,
    mode: requests.ModeOption = "burst",
    rate: requests.Rate = None,
    max_seconds: requests.MaxSeconds = None,
    percentile: requests.Percentile = 90,
    weights: requests.Weights = "random",
    seed: requests.Seed = 0,
    calibration: requests.Calibration = None,
    evaluate: requests.Evaluate = False,
    data: requests.Data = None,
    max_memory: requests.MaxMemory = None,
    allow_code: requests.AllowCode = False,
    no_gate: requests.NoGate = False,
    strict_gate: requests.StrictGate = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is done, and print the comparison.")] = False,
    json: Json = False,
) -> None:
    """Queue conversions and measurements on the farm's devices, and print their numbers at once.

    The farm may be down: the queue is its database. Exit codes: 0 queued (with --wait: done), 1 with --wait something
    failed, 2 wrong usage or something named that cannot be, 130 interrupted while waiting (the run goes on).
    """
    from benchfarm.config import load_home
    from scheduler.farm import Farm

    request = requests.measuring(
        models=models,
        runtime=runtime,
        recipe=recipe,
        device=device,
        batch=batch,
        threads=threads,
        affinity=affinity,
        option=option,
        repeats=repeats,
        mode=mode,
        rate=rate,
        max_seconds=max_seconds,
        percentile=percentile,
        weights=weights,
        seed=seed,
        calibration=calibration,
        evaluate=evaluate,
        data=data,
        max_memory=max_memory,
        allow_code=allow_code,
        no_gate=no_gate,
        strict_gate=strict_gate,
        here=False,
    )
    request = replace(
        request,
        spread=requests.spread_of(each, any_device, per_model),
        priority=priority,
        owner=owner,
        queue_timeout_s=requests.seconds("--queue-timeout", queue_timeout),
        run_timeout_s=requests.seconds("--run-timeout", run_timeout),
        wait_for_device=wait_for_device,
    )
    farm = Farm(load_home())
    submitted = farm.submit(request)
    if not wait:
        outcome.show_submitted(farm, submitted, json)
        return
    requests.wait_for_run(farm, submitted.sweep_run_id)
    outcome.show_outcome(farm, submitted.sweep_run_id, request, json, rerun=None)
