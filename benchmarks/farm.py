"""A real farm in a temporary folder, and its runner by hand."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Engine, select

from device_registry.database import open_engine, reading
from scheduler.payloads import payloads
from scheduler.queue import artifacts
from scheduler.states import jobs
from workers.artifacts import ArtifactStore
from workers.child import child_environment
from workers.codec import from_dict, write_document
from workers.contract import Limits, MeasureTask, Order

#: How often the command's memory is looked at.
_PERIOD_S = 0.1


def own_environment(home: Path) -> dict[str, str]:
    """This environment with a farm in `home`, and with bytecode written as an installed farm has it."""
    left_out = ("BENCHFARM_", "RAY_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return {**kept, "BENCHFARM_HOME": str(home)}


def command(name: str) -> str:
    """A command of this interpreter's environment."""
    return str(Path(sys.executable).with_name(name))


@dataclass(frozen=True)
class Run:
    """One `benchfarm run --json`, seen from outside."""

    document: dict[str, Any]
    wall_s: float
    #: Most resident memory of the command's own process.
    peak_rss_bytes: int


def benchfarm_run(home: Path, *options: str) -> Run:
    """Run the real command on a farm.

    Raises:
        RuntimeError: it failed.
    """
    began, peak = time.monotonic(), 0
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            [command("benchfarm"), "run", *options, "--json"], stdout=out, stderr=sys.stderr, env=own_environment(home)
        )
        seen = psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.Error):
                peak = max(peak, seen.memory_info().rss)
            time.sleep(_PERIOD_S)
        wall_s = time.monotonic() - began
        out.seek(0)
        text = out.read().decode()
    if process.returncode != 0:
        raise RuntimeError(f"benchfarm run {' '.join(options)} exited with {process.returncode}: {text[-2000:]}")
    return Run(json.loads(text), wall_s, peak)


def farm_database(home: Path) -> Engine:
    """The embedded farm's database."""
    return open_engine(f"sqlite:///{home / 'benchfarm.db'}")


def order_for(home: Path, result: dict[str, Any], threads: int, seconds: float) -> Order:
    """The order that the agent would make for a row of `run --json`, with a timed part of fixed length."""
    with reading(farm_database(home)) as connection:
        told = select(payloads.c.document).join(jobs, jobs.c.payload_id == payloads.c.id)
        payload = connection.execute(told.where(jobs.c.id == result["processes"][0]["job"])).scalar_one()
        found = select(artifacts.c.companions).where(artifacts.c.sha256 == result["artifact_sha256"])
        companions = connection.execute(found.limit(1)).scalar_one()
    task = from_dict(MeasureTask, payload["measure"])
    options = replace(task.options, threads=threads, min_seconds=seconds, max_seconds=seconds)
    store = ArtifactStore(f"file://{home / 'artifacts'}", home / "cache")
    inputs = {"artifact": result["artifact_sha256"], "examples": companions["examples"]}
    return Order(
        attempt_id=1,
        token=secrets.token_hex(16),
        place="cpu:benchmark",
        limits=Limits(deadline_s=600, memory_bytes=psutil.virtual_memory().total),
        measure=replace(task, options=options),
        inputs=inputs,
        paths={role: str(store.fetch(sha256)) for role, sha256 in inputs.items()},
    )


def run_child(order: Order, *script: str) -> tuple[dict[str, Any], str]:
    """A fresh process on an order, in the agent's environment: `python SCRIPT... FOLDER`.

    Returns:
        result.json where the child wrote one, and what it printed.

    Raises:
        RuntimeError: it failed.
    """
    with tempfile.TemporaryDirectory(prefix="benchfarm-bench-") as name:
        folder = Path(name)
        (folder / "tmp").mkdir()
        write_document(order, folder / "order.json")
        done = subprocess.run(
            [sys.executable, *script, name],
            capture_output=True,
            text=True,
            cwd=folder,
            env=child_environment(order, folder, folder / "compiled"),
            check=False,
        )
        written = folder / "result.json"
        result = json.loads(written.read_bytes()) if written.exists() else {}
    if done.returncode != 0 or result.get("failure"):
        raise RuntimeError(f"{' '.join(script)}: {result.get('failure') or done.stderr[-2000:]}")
    return result, done.stdout


def runner_timings(order: Order) -> dict[str, Any]:
    """`workers.runner` in a fresh process; its timings."""
    result, _ = run_child(order, "-m", "workers.runner")
    return dict(result["measurement"]["timings"])
