"""`benchfarm run`: from models to a table of comparison on this machine."""

from __future__ import annotations

import shlex
import sys

from benchfarm.cli import outcome, requests
from benchfarm.cli.output import Json


def run(
    models: requests.Models,
    runtime: requests.Runtimes = None,
    recipe: requests.Recipes = None,
    device: requests.Device = "",
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
    executor: requests.Executor = "ray",
    json: Json = False,
) -> None:
    """Convert models for every runtime, measure them on this machine, and compare.

    Where benchfarm up runs on this database, it measures on that farm's devices instead; this command follows. An
    interrupted run resumes when the same command is given again. Exit codes: 0 done, 1 something failed, 2 wrong
    usage or something named that cannot be, 130 interrupted.
    """
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
        here=True,
    )
    farm, run_id = requests.submit_and_wait(request, executor)
    rerun = None if repeats >= 5 else f"benchfarm {shlex.join(_with_repeats(sys.argv[1:]))}"
    outcome.show_outcome(farm, run_id, request, json, rerun)


def _with_repeats(arguments: list[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == "--repeats":
            skip = True
        elif not argument.startswith("--repeats="):
            kept.append(argument)
    return [*kept, "--repeats", "5"]
