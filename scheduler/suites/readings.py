"""What a block of a suite found: one row per case and device, with figures whose units stand in their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from scheduler.comparisons import latest_cases, run_failures
from scheduler.queue import sweep_runs
from scheduler.repeats import LEAST_REPEATS
from scheduler.roofline import Roofline, Work, roofline
from workers.judge import OUTPUTS_WRONG
from workers.recipes import RecipeError, parse_recipe
from workers.statistics import process_ratio_interval

Row = dict[str, Any]
_ALIKE = ("device", "runtime", "threads", "batch", "options")


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A model of a block."""

    #: As the suite's file names it, and as results do.
    text: str
    name: str
    #: Its place in the block's grid.
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Readings:
    """All that a block found so far."""

    rows: list[Row]
    #: Of its latest run, without what has a row.
    failed: list[Row]
    unsupported: list[Row]
    #: Its runs, the oldest first; empty: it was never run.
    run_ids: list[int]


def block_readings(
    connection: Connection, sweep: str, listed: Sequence[Listed], recipes: Sequence[str] = ()
) -> Readings:
    """The latest figures of a block.

    Args:
        connection: to read from.
        sweep: the name that the block's runs have.
        listed: its models, in their order.
        recipes: its recipes, in their order; others come behind them by name, fp32 before all.
    """
    of_it = select(sweep_runs.c.id).where(sweep_runs.c.sweep == sweep).order_by(sweep_runs.c.id)
    run_ids = list(connection.execute(of_it).scalars())
    order = {model.name: number for number, model in enumerate(listed)}
    cases = [case for case in latest_cases(connection, run_ids) if case["model"] in order]
    rows = [_row(case, listed[order[case["model"]]], _own_base(case, cases)) for case in cases]
    rungs = {recipe: number for number, recipe in enumerate(("fp32", *recipes))}

    def place(row: Row) -> tuple[Any, ...]:
        rung = rungs.get(row["recipe"], len(rungs))
        return (row["device"], order[row["model"]], row["runtime"], row["options"], row["threads"], rung, row["recipe"])

    rows.sort(key=place)
    failed, unsupported = run_failures(connection, run_ids[-1]) if run_ids else ([], [])
    return Readings(
        rows=rows,
        failed=[entry for entry in failed if entry["model"] in order],
        unsupported=[entry for entry in unsupported if entry["model"] in order],
        run_ids=run_ids,
    )


def add_bounds(rows: Sequence[Row]) -> dict[tuple[Any, ...], Roofline]:
    """Say of each row what bounds it, `bound`, by the roofs that all of them tell.

    Returns:
        Roofs by what they are of: device, runtime, threads, batch and the runtime's own options (`roof_key`).
    """
    roofs = _roofs(rows)
    for row in rows:
        row["bound"] = roofs[roof_key(row)].bound(work_of(row))
    return roofs


def roof_key(row: Row) -> tuple[Any, ...]:
    """What rooflines have in common with what lies below them."""
    return tuple(row[name] for name in _ALIKE)


def is_sound(row: Row) -> bool:
    """Whether a row's figures may be drawn and compared: judged valid, and its outputs right."""
    return row["verdict"] == "valid" and OUTPUTS_WRONG not in row["flags"]


def work_of(row: Row) -> Work:
    """What a row's inference is, per inference of a batch."""
    flops = None if row["gflop"] is None else round(row["gflop"] * 1e9)
    moved = None if row["moved_mb"] is None else round(row["moved_mb"] * 1e6)
    return Work(flops=flops, bytes=moved, seconds=row["p50_ms"] / 1e3)


def _row(case: Row, model: Listed, base: Row | None) -> Row:
    facts, accuracy, fidelity = case["facts"], case["accuracy"] or {}, case["fidelity"] or {}
    flops = facts.get("operator_flops", facts.get("flops"))
    audio_s = facts.get("audio_seconds")
    row = {
        "model": case["model"],
        "listed": model.text,
        "values": dict(model.values),
        "weights": case["weights"],
        "device": case["device"],
        "simulated": case["simulated"],
        "runtime": case["runtime"],
        "recipe": case["recipe"],
        "format": case["format"],
        "threads": case["threads"],
        "batch": case["batch"],
        "mode": case["mode"],
        "rate_hz": case["rate_hz"],
        "options": " ".join(f"{name}={value}" for name, value in sorted(case["runtime_options"].items())),
        "verdict": case["verdict"],
        "reasons": case["reasons"],
        "flags": case["flags"],
        "processes": len(case["_valid"]),
        "p50_ms": case["p50_ms"],
        "p50_ci_ms": case["p50_ci_ms"],
        **{name: case[name] for name in ("mean_ms", "std_ms", "p90_ms", "p95_ms", "p99_ms", "throughput_per_s")},
        **{name: case[name] for name in ("first_minute_p50_ms", "last_minute_p50_ms")},
        "real_time_factor": case["p50_ms"] / 1e3 / audio_s if audio_s else None,
        "size_mb": _scaled(case["artifact_bytes"], 1e6),
        "smaller_percent": _smaller(case, base),
        "memory_mb": _scaled(case["peak_rss_bytes"], 1e6),
        "parameters_m": _scaled(facts.get("parameters"), 1e6),
        "nonzero_parameters_m": _scaled(facts.get("nonzero_parameters"), 1e6),
        "nodes": facts.get("nodes"),
        "gflop": _scaled(flops, 1e9),
        "gmac": _scaled(facts.get("flops"), 2e9),
        "moved_mb": _scaled(facts.get("bytes_minimal"), 1e6) if _is_fp32(case["recipe"]) else None,
        "energy_mj": case["energy_per_inference_mj"],
        "energy_quality": case["energy_quality"],
        **{name: accuracy.get(name) for name in ("top1", "top1_ci", "top5", "f1_macro", "wer", "data", "examples")},
        "accuracy_percent": None if accuracy.get("top1") is None else 100 * accuracy["top1"],
        "snr_db": fidelity.get("snr_db"),
        "identical": fidelity.get("identical"),
        "top1_agreement": fidelity.get("top1_agreement"),
        "speed_up": case["speedup"],
        "speed_up_ci": case["speedup_ci"],
        "speed_up_over": _variant(case.get("_baseline")),
        **_over_own(case, base),
        "precision": case["precision"],
        "compute_unit": case["compute_unit"],
        "run": case["run"],
        "measured_at": case["finished_at"],
    }
    work = work_of(row)
    return {
        **row,
        "bound": None,
        "gflops_per_s": work.gflops_per_s,
        "gb_per_s": work.gb_per_s,
        "flops_per_byte": work.flops_per_byte,
    }


def _own_base(case: Row, cases: Sequence[Row]) -> Row | None:
    """The same model on the same runtime in fp32, as it was: what a step of the ladder is compared with."""
    alike = ("model", "weights", "_device_id", "runtime", "threads", "batch", "mode", "rate_hz", "of_invocations")
    same = [
        other
        for other in cases
        if other["recipe"] == "fp32"
        and OUTPUTS_WRONG not in other["flags"]
        and all(other[name] == case[name] for name in alike)
    ]
    with_its_options = [other for other in same if other["runtime_options"] == case["runtime_options"]]
    plain = [other for other in same if not other["runtime_options"]]
    return next(iter(with_its_options or plain), None)


def _over_own(case: Row, base: Row | None) -> Row:
    """How many times faster it is than its runtime in fp32, with the interval of five processes or more of each."""
    if base is None or base is case or OUTPUTS_WRONG in case["flags"]:
        return {"speed_up_own": None, "speed_up_own_ci": None}
    enough = min(len(base["_valid"]), len(case["_valid"])) >= LEAST_REPEATS
    return {
        "speed_up_own": base["p50_ms"] / case["p50_ms"],
        "speed_up_own_ci": list(process_ratio_interval(base["_valid"], case["_valid"])) if enough else None,
    }


def _smaller(case: Row, base: Row | None) -> float | None:
    if base is None or base is case or not case["artifact_bytes"] or not base["artifact_bytes"]:
        return None
    return float(100 * (1 - case["artifact_bytes"] / base["artifact_bytes"]))


def _roofs(rows: Sequence[Row]) -> dict[tuple[Any, ...], Roofline]:
    groups: dict[tuple[Any, ...], list[tuple[str, Work]]] = {}
    for row in rows:
        found = groups.setdefault(roof_key(row), [])
        if is_sound(row) and _is_fp32(row["recipe"]):
            found.append((row["model"], work_of(row)))
    return {key: roofline(found) for key, found in groups.items()}


def _is_fp32(recipe: str) -> bool:
    """Whether arithmetic and weights are fp32: of others it is not known how many bytes they move."""
    try:
        return parse_recipe(recipe).arithmetic == "fp32"
    except RecipeError:  # of an older benchfarm, or of a file: nothing is promised of it
        return False


def _variant(row: Row | None) -> str | None:
    return None if row is None else f"{row['runtime']}/{row['recipe']}"


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit
