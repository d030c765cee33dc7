"""Cells of a matrix of variants and devices: the latest valid value of each, how it compares, what it lacks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from device_registry.errors import UsageError
from device_registry.registry import label_of
from scheduler.repeats import Repeat
from scheduler.verdicts import LEAST_PROCESSES, Verdict, compare
from scheduler.view import STALE_DAYS
from workers.contract import Options
from workers.judge import OUTPUTS_WRONG
from workers.statistics import process_median_interval

Metric = Literal["latency", "p99", "energy", "memory", "size"]
Row = dict[str, Any]

#: A valid result older than this is stale.
STALE_AFTER: Final = timedelta(days=STALE_DAYS)
#: States of a cell, from best to worst.
STATES: Final = ("valid", "stale", "invalid", "failed", "unsupported", "missing")
_KEPT = Repeat._fields


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What is compared: where it stands, in what unit, and what the four answers are called. Lower is better of all."""

    column: str
    unit: str
    title: str
    words: Mapping[str, str]

    @property
    def position(self) -> int | None:
        """Where it stands in what a point keeps of each process; None: it is the same in every process."""
        return _KEPT.index(self.column) if self.column in _KEPT else None


class Floor(NamedTuple):
    """What A/A trials taught of a series."""

    #: Relative noise between its processes.
    noise: float
    #: The smallest change that a comparison of 10 + 10 shows; None: none.
    detectable: float | None


#: The change that a series is expected to see; one that cannot says so.
EXPECTED_CHANGE: Final = 0.05


def sees(detectable: float | None, change: float = EXPECTED_CHANGE) -> bool:
    """Whether a comparison of 10 + 10 shows a change of that size."""
    return detectable is not None and detectable <= change


_TIME = {"faster": "faster", "slower": "slower", "same": "same", "inconclusive": "inconclusive"}
_LESS = {"faster": "less", "slower": "more", "same": "same", "inconclusive": "inconclusive"}
METRICS: Final[Mapping[str, Measure]] = {
    "latency": Measure(column="p50_ms", unit="ms", title="latency p50", words=_TIME),
    "p99": Measure(column="p99_ms", unit="ms", title="latency p99", words=_TIME),
    "energy": Measure(column="energy_per_inference_mj", unit="mJ", title="energy per inference", words=_LESS),
    "memory": Measure(column="peak_rss_bytes", unit="bytes", title="peak memory", words=_LESS),
    "size": Measure(column="artifact_bytes", unit="bytes", title="size of the artifact", words=_LESS),
}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be compared. Nothing named: everything."""

    models: tuple[str, ...] = ()
    selector: str = ""
    runtimes: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    #: (runtime, recipe); None: the program that nothing converted, as in the tables of `run`.
    baseline: tuple[str, str] | None = None
    metric: Metric = "latency"
    #: Whether what was judged invalid is compared too, marked, where a cell has no valid value.
    invalid: bool = False


#: What makes a case; with the device it is a cell.
CASE = ("weights", "format", "recipe", "runtime", "threads", "batch", "mode", "options_text")
WHERE = ("device_id", "device", "device_kind", "device_model", "host", "simulated")
#: Columns of the views that cells are made of.
LATEST = (
    *WHERE,
    "model",
    *CASE,
    "statistic",
    "point_id",
    "sweep_run_id",
    "at",
    "p50_ms",
    "p50_ci_low_ms",
    "p50_ci_high_ms",
    "processes",
    "p99_ms",
    "throughput_per_s",
    "energy_per_inference_mj",
    "energy_quality",
    "peak_rss_bytes",
    "artifact_bytes",
    "artifact_sha256",
    "snr_db",
    "top1_agreement",
    "temperature_c",
    "flags",
    "precision",
    "compute_unit",
    "environment_digest",
    "protocol_version",
    "unconverted",
)
COVERAGE = (*WHERE, "model", *CASE, "state", "verdict", "why", "at", "age_s")
#: Words of `options_text` that are not one runtime's own.
_SHARED = frozenset(field.name for field in fields(Options))


def cells(
    latest: Sequence[Mapping[str, Any]],
    coverage: Iterable[Mapping[str, Any]],
    baselines: Mapping[tuple[Any, ...], tuple[str, str]],
    processes: Mapping[int, Sequence[Sequence[Any]]],
    wanted: Wanted,
    now: datetime,
    invalid: Sequence[Mapping[str, Any]] = (),
    floors: Mapping[int, Floor] | None = None,
) -> list[Row]:
    """One row per cell of one model, with a value or the state that it is in instead. Pure.

    Args:
        latest: rows of the view `latest_result`.
        coverage: rows of the view `coverage`.
        baselines: cell to (runtime, recipe) of its baseline, where `wanted` names none.
        processes: point to what it keeps of each process.
        wanted: what to compare.
        now: the time.
        invalid: what was measured last of cells that are invalid, alike.
        floors: point to the noise floor of its series, where that was learnt.
    """
    floors = floors or {}
    states = {cell_of(row): row for row in coverage}
    latest = _of_latest_protocol(latest)
    known = {cell_of(row) for row in latest}
    doubtful = {cell_of(row): row for row in invalid if cell_of(row) not in known}
    if wanted.invalid:
        latest += doubtful.values()
    plain = {_plain_key(row, row["runtime"], row["recipe"]): row for row in latest if _is_plain(row)}
    found, valued = [], set()
    for row in latest:
        cell = cell_of(row)
        valued.add(cell)
        baseline_name = wanted.baseline or baselines.get((*cell, row["statistic"]))
        if baseline_name is None and wanted.invalid:
            baseline_name = _unconverted(row, plain.values())
        baseline = None if baseline_name is None else plain.get(_plain_key(row, *baseline_name))
        found.append(_valued_row(row, states.get(cell), baseline, processes, wanted.metric, now, floors))
    found += [_bare_row(row, wanted.metric, doubtful.get(cell)) for cell, row in states.items() if cell not in valued]
    found = [
        row
        for row in found
        if (not wanted.runtimes or row["runtime"] in wanted.runtimes)
        and (not wanted.recipes or row["recipe"] in wanted.recipes)
    ]
    found.sort(key=lambda row: (*_order(row), row["simulated"], row["device"], row["value"] or 0.0))
    return found


def variant_named(text: str) -> tuple[str, str]:
    """The runtime and the recipe of RUNTIME/RECIPE.

    Raises:
        UsageError: it names none.
    """
    runtime, slash, recipe = text.partition("/")
    if not (runtime and slash and recipe):
        raise UsageError(f"baseline {text!r}: write RUNTIME/RECIPE, for example torch/fp32")
    return runtime, recipe


def variant_label(row: Mapping[str, Any]) -> str:
    """A variant as tables name it: runtime, recipe, and the options that tell it from others."""
    return " ".join(part for part in (row["runtime"], row["recipe"], own_options(row)) if part)


def own_options(row: Mapping[str, Any]) -> str:
    """Of the options those that are one runtime's own."""
    return " ".join(word for word in row["options_text"].split() if word.partition("=")[0] not in _SHARED)


def shared_options(row: Mapping[str, Any]) -> str:
    """Of the options those that every runtime has: cases that differ in them are not compared."""
    return " ".join(word for word in row["options_text"].split() if word.partition("=")[0] in _SHARED)


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (row["weights"], row["threads"], row["batch"], row["mode"], row["runtime"], row["recipe"])


def cell_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes a cell: the device and the case."""
    return (row["device_id"], *(row[name] for name in CASE))


def _plain_key(row: Mapping[str, Any], runtime: str, recipe: str) -> tuple[Any, ...]:
    """What a case and its baseline have in common, and the baseline's variant."""
    alike = (
        row[name] for name in ("device_id", "weights", "threads", "batch", "mode", "statistic", "protocol_version")
    )
    return (*alike, shared_options(row), runtime, recipe)


def _of_latest_protocol(latest: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A case that was measured by an older protocol too is shown as it was measured last."""
    found: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in latest:
        key = (*cell_of(row), row["statistic"])
        if key not in found or row["at"] > found[key]["at"]:
            found[key] = row
    return list(found.values())


def _is_plain(row: Mapping[str, Any]) -> bool:
    """Whether it may be a baseline: no options of its runtime's own, outputs that are right."""
    return not own_options(row) and OUTPUTS_WRONG not in (row["flags"] or "")


def _unconverted(row: Mapping[str, Any], plain: Iterable[Mapping[str, Any]]) -> tuple[str, str] | None:
    """The baseline of what was judged invalid, which the view knows nothing of."""
    key = _plain_key(row, "", "")
    found = sorted(
        (other["runtime"], other["recipe"])
        for other in plain
        if other["unconverted"] and _plain_key(other, "", "") == key
    )
    return found[0] if found else None


def _valued_row(
    row: Mapping[str, Any],
    state: Mapping[str, Any] | None,
    baseline: Mapping[str, Any] | None,
    processes: Mapping[int, Sequence[Sequence[Any]]],
    metric: str,
    now: datetime,
    floors: Mapping[int, Floor],
) -> Row:
    measure = METRICS[metric]
    floor = floors.get(row["point_id"]) if metric == "latency" else None
    age_s = (now - row["at"]).total_seconds()
    old = "stale" if age_s > STALE_AFTER.total_seconds() else "valid"
    value = row[measure.column]
    return {
        **_common(row),
        "state": state["state"] if state is not None else old,
        "verdict": state["verdict"] if state is not None else None,
        "why": (state["why"] if state is not None else None) or _no_value(row, metric, value),
        "at": row["at"],
        "age_s": max(0.0, age_s),
        "run": row["sweep_run_id"],
        "metric": metric,
        "unit": measure.unit,
        "value": value,
        "invalid_value": None,
        "value_ci": _interval(row, processes, measure),
        **{name: row[name] for name in _AS_MEASURED},
        **_compared(row, baseline, processes, metric, floors),
        **_noise(floor),
    }


def _noise(floor: Floor | None) -> Row:
    """What a cell tells of the noise of its series; None: it was not learnt."""
    return {
        "noise_floor": None if floor is None else floor.noise,
        "sees_5_percent": None if floor is None else sees(floor.detectable),
    }


def _interval(
    row: Mapping[str, Any], processes: Mapping[int, Sequence[Sequence[Any]]], measure: Measure
) -> list[float] | None:
    """Between processes; None under five of them."""
    if measure.position is None:
        return None
    if measure.position == 0:
        kept = (row["p50_ci_low_ms"], row["p50_ci_high_ms"])
        if None not in kept:
            return list(kept)
    values = _values(processes.get(row["point_id"], ()), measure.position)
    known = [value for value in values if value is not None]
    return list(process_median_interval(known)) if len(known) >= LEAST_PROCESSES else None


def _bare_row(row: Mapping[str, Any], metric: str, doubtful: Mapping[str, Any] | None) -> Row:
    """A cell that has no valid value: failed, unsupported, invalid (then with what was measured) or missing."""
    nothing = dict.fromkeys(("value", "value_ci", *_AS_MEASURED))
    return {
        **_common(row),
        **nothing,
        **_COMPARED_WITH_NOTHING,
        **_noise(None),
        "state": row["state"],
        "verdict": row["verdict"],
        "why": row["why"],
        "at": row["at"],
        "age_s": row["age_s"],
        "run": None if doubtful is None else doubtful["sweep_run_id"],
        "metric": metric,
        "unit": METRICS[metric].unit,
        "invalid_value": None if doubtful is None else doubtful[METRICS[metric].column],
    }


#: Columns of a valid cell that are those of its result.
_AS_MEASURED = (
    *("processes", "statistic", "p50_ms", "energy_per_inference_mj", "energy_quality", "peak_rss_bytes"),
    *("artifact_bytes", "artifact_sha256", "snr_db", "top1_agreement", "temperature_c", "flags", "precision"),
    *("compute_unit", "environment_digest"),
)


def _common(row: Mapping[str, Any]) -> Row:
    label = label_of(row["device"], {"simulated": bool(row["simulated"])})
    return {
        "model": row["model"],
        **{name: row[name] for name in CASE},
        **{name: row[name] for name in WHERE},
        "simulated": bool(row["simulated"]),
        "device_label": label,
    }


def _no_value(row: Mapping[str, Any], metric: str, value: float | None) -> str | None:
    """Why a valid result has no such value: unsupported, no permission and absent are different answers."""
    if value is not None:
        return None
    if metric == "energy":
        return str(row["energy_quality"] or "no energy was read")
    return "too few samples for a p99" if metric == "p99" else "the runtime does not tell"


_COMPARED_WITH_NOTHING: Final[Mapping[str, Any]] = {
    "baseline": None,
    "is_baseline": False,
    "speedup": None,
    "speedup_ci": None,
    "answer": None,
    "p": None,
    "bound": None,
    "detectable": None,
    "not_alternated": None,
    "note": None,
}


def _compared(
    row: Mapping[str, Any],
    baseline: Mapping[str, Any] | None,
    processes: Mapping[int, Sequence[Sequence[Any]]],
    metric: str,
    floors: Mapping[int, Floor],
) -> Row:
    """The columns that say how a cell compares with its baseline."""
    if baseline is None or OUTPUTS_WRONG in (row["flags"] or ""):
        note = "no baseline on this device" if baseline is None else "its outputs are wrong"
        return {**_COMPARED_WITH_NOTHING, "note": note}
    named = f"{baseline['runtime']}/{baseline['recipe']}"
    if baseline is row:
        return {**_COMPARED_WITH_NOTHING, "baseline": named, "is_baseline": True, "speedup": 1.0, "note": "baseline"}
    measure = METRICS[metric]
    if metric == "latency" and row["mode"] == "offline":  # a batch's latency says nothing of its throughput
        found = _ratio(row["throughput_per_s"], baseline["throughput_per_s"])
        return {**_COMPARED_WITH_NOTHING, "baseline": named, "speedup": found, "note": "by throughput"}
    if measure.position is None:
        found = _ratio(baseline[measure.column], row[measure.column])
        return {**_COMPARED_WITH_NOTHING, "baseline": named, "speedup": found, "note": "exact: one size"}
    pair = (baseline["point_id"], row["point_id"])
    told = compare(
        _values(processes.get(baseline["point_id"], ()), measure.position),
        _values(processes.get(row["point_id"], ()), measure.position),
        # Of the time alone; the noisier of the two says what counts as the same.
        noise_floor=max((floors[known].noise for known in pair if known in floors), default=None)
        if metric == "latency"
        else None,
        alternated=row["sweep_run_id"] == baseline["sweep_run_id"],
    )
    if told.ratio is None:
        return {**_COMPARED_WITH_NOTHING, "baseline": named, "note": told.why}
    return {**_told(told), "baseline": named, "is_baseline": False}


def _told(verdict: Verdict) -> Row:
    return {
        "speedup": verdict.ratio,
        "speedup_ci": None if verdict.interval is None else list(verdict.interval),
        "answer": verdict.answer,
        "p": verdict.p,
        "bound": verdict.bound,
        "detectable": verdict.detectable,
        "not_alternated": verdict.not_alternated,
        "note": verdict.why,
    }


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above and below else None


def _values(kept: Sequence[Sequence[Any]], position: int) -> list[float | None]:
    """A figure of each process that counts: the valid ones, or all; an older benchfarm kept only the medians."""
    counted = [one for one in kept if one[1] == "valid"] or kept
    return [one[position] if len(one) > position else None for one in counted]
