"""Does every runtime run every model as it says? Fidelity, profiles, and the registrations held to the truth.

`benchfarm run` with every runtime, in every recipe for the first of torch's and the first of Keras' models and in fp32
for the rest (`--all-recipes`: for all), then `benchfarm profile` in fp32. Figures: the SNR of
fp32 against the reference is at least 60 dB on every runtime; the operations of a profile sum to 0.9 to 1.3 of a
profiled run; no registration says of a recipe on this platform what was not seen here. What did not run is listed with
its reason.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from common import Figure, counted, finish, say
from farm import command, own_environment

from workers.plugins import plugins
from workers.runtimes.runtime import PLATFORMS

EVERY_RECIPE = ("torchvision/mobilenet_v3_small", "keras/MobileNetV3Small")
MODELS = (
    "torchvision/mobilenet_v3_small",
    "torchvision/resnet50",
    "transformers/distilbert",
    "transformers/whisper-tiny-encoder",
    "keras/MobileNetV3Small",
)
LEAST_SNR_DB = 60.0
SUM_BAND = (0.9, 1.3)


def main() -> int:
    """Run and profile; `--quick` takes the first model in fp32 only."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one model, fp32 only: shows that it works, no more")
    parser.add_argument("--home", type=Path, help="keep the farm here; a second run converts nothing again")
    parser.add_argument("--all-recipes", action="store_true", help="every recipe of every model: an hour")
    wanted = parser.parse_args()
    models = MODELS[:1] if wanted.quick else MODELS
    every = () if wanted.quick else MODELS if wanted.all_recipes else EVERY_RECIPE
    with tempfile.TemporaryDirectory(prefix="benchfarm-bench-") as folder:
        home = (wanted.home or Path(folder)).absolute()
        recipes = {model: [] if model in every else ["--recipe", "fp32"] for model in models}
        ran = {model: _benchfarm(home, "run", model, *recipes[model], "--max-seconds", "2") for model in models}
        profiled = {model: _benchfarm(home, "profile", model) for model in models}
    rows = [row for shown in ran.values() for row in shown["results"]]
    missing = [_missing(row) for shown in ran.values() for row in (*shown["failed"], *shown["unsupported"])]
    figures = [*_fidelity(rows), *_sums(profiled), *_registrations(rows, ran)]
    return finish("runtimes", wanted.quick, figures, results=[_short(row) for row in rows], not_run=missing)


def _benchfarm(home: Path, verb: str, model: str, *options: str) -> dict[str, Any]:
    """One command to its end; what failed is part of its document.

    Raises:
        RuntimeError: it printed no document.
    """
    say(f"{verb} {model}")
    done = subprocess.run(
        [command("benchfarm"), verb, model, *options, "--json"],
        stdout=subprocess.PIPE,
        env=own_environment(home),
        check=False,
    )
    if not done.stdout:
        raise RuntimeError(f"benchfarm {verb} {model} exited with {done.returncode}")
    return dict(json.loads(done.stdout))


def _fidelity(rows: Iterable[Mapping[str, Any]]) -> list[Figure]:
    """The lowest SNR of fp32 by runtime, as a shortfall: 0 where all models reach the bar."""
    worst: dict[str, tuple[float, str]] = {}
    for row in rows:
        if row["recipe"] == "fp32" and row["fidelity"] is not None:
            snr_db = float("inf") if row["fidelity"]["identical"] else row["fidelity"]["snr_db"] or 0.0
            worst[row["runtime"]] = min(worst.get(row["runtime"], (float("inf"), "")), (snr_db, row["model"]))
    return [
        counted(
            f"dB below {LEAST_SNR_DB:g}, {runtime} fp32",
            max(0.0, LEAST_SNR_DB - snr_db),
            0.0,
            "dB",
            lowest_snr_db=None if snr_db == float("inf") else snr_db,
            model=model,
        )
        for runtime, (snr_db, model) in sorted(worst.items())
    ]


def _sums(profiled: Mapping[str, Mapping[str, Any]]) -> list[Figure]:
    """How far each profile's sum lies outside the band; beside it, what the profiler cost."""
    figures = []
    for model, shown in profiled.items():
        for row in shown["profiles"]:
            ratio = row["sum_over_profiled_run"]
            figures.append(
                counted(
                    f"sum of operations outside {SUM_BAND[0]} to {SUM_BAND[1]} of a run, {row['runtime']}, {model}",
                    max(0.0, SUM_BAND[0] - ratio, ratio - SUM_BAND[1]),
                    0.0,
                    "ratio",
                    sum_over_profiled_run=ratio,
                    sum_over_unprofiled_run=row["sum_ms"] / row["unprofiled_run_ms"],
                    method=row["method"],
                    operations=row["operations"],
                    verdict=row["verdict"],
                )
            )
        figures += [_unprofiled(model, row) for row in shown["failed"]]
    return figures


def _unprofiled(model: str, row: Mapping[str, Any]) -> Figure:
    return counted(f"failed profiles, {row['runtime']}, {model}", 1, 0, "count", why=row["why"])


def _registrations(rows: Iterable[Mapping[str, Any]], ran: Mapping[str, Mapping[str, Any]]) -> list[Figure]:
    """Recipes of which a registration says another thing than was seen: ran on some model, or on none."""
    here = f"{platform.system()} {platform.machine().replace('_', '-')} CPU"
    assert here in PLATFORMS, here
    seen_to_run = {(row["runtime"], row["recipe"]) for row in rows}
    tried = {
        (row["runtime"], row["recipe"])
        for shown in ran.values()
        for row in (*shown["failed"], *shown["unsupported"])
        if "runtime" in row
    }
    registered = {
        (name, recipe): why
        for name, plugin in plugins("runtimes").items()
        for recipe, why in plugin.load().seen.get(here, {}).items()
    }
    wrong = [f"{' '.join(case)} ran and is not registered" for case in sorted(seen_to_run - set(registered))]
    wrong += [
        f"{' '.join(case)} is registered as {why or 'run'}"
        for case, why in registered.items()
        if case in seen_to_run | tried and (case in seen_to_run) != (why is None)
    ]
    return [counted("registrations that are not what was seen", len(wrong), 0, "count", wrong=wrong)]


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    names = (
        "model",
        "runtime",
        "recipe",
        "precision",
        "quantised_flop_share",
        "p50_ms",
        "compile_ms",
        "verdict",
        "flags",
    )
    fidelity = row["fidelity"] or {}
    return {name: row[name] for name in names} | {name: fidelity.get(name) for name in ("snr_db", "top1_agreement")}


def _missing(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row.get(name) for name in ("model", "runtime", "recipe", "code", "why")}


if __name__ == "__main__":
    sys.exit(main())
