"""A block's table: ours and published rows, model by model, with a mark of whose each is and only columns that tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from exporters.numbers import NONE, significant
from exporters.suites.columns import figure_text, published_text, with_interval
from scheduler.suites.readings import Row
from scheduler.suites.suite import Published
from workers.judge import OUTPUTS_WRONG

OURS, PUBLISHED = "ours", "published"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of a table."""

    #: `OURS` or `PUBLISHED`.
    whose: str
    texts: tuple[str, ...]
    #: It is not valid, and said lightly.
    doubtful: bool = False


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Ours beside what others published."""

    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    #: What is to be said below it.
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Column:
    title: str
    ours: Callable[[Row], str]
    theirs: Callable[[Published], str]
    #: Shown even where nothing stands in it.
    always: bool = False


def comparison(rows: Sequence[Row], published: Sequence[Published], models: Sequence[str]) -> Comparison:
    """The table of a block.

    Args:
        rows: readings.
        published: of the block.
        models: as the block lists them, in order.
    """
    order = {model: number for number, model in enumerate(models)}
    entries: list[tuple[tuple[int, int], Row | Published]] = []
    entries += [((order.get(theirs.model or "", len(order)), 1), theirs) for theirs in published]
    entries += [((order[row["listed"]], 0), row) for row in rows]
    entries.sort(key=lambda entry: entry[0])
    cells = [
        [column.theirs(item) if isinstance(item, Published) else column.ours(item) for column in _COLUMNS]
        for _, item in entries
    ]
    kept = [
        number
        for number, column in enumerate(_COLUMNS)
        if column.always or any(line[number] not in (NONE, "") for line in cells)
    ]
    lines = [
        Line(
            whose=PUBLISHED if isinstance(item, Published) else OURS,
            texts=tuple(line[number] or NONE for number in kept),
            doubtful=not isinstance(item, Published) and item["verdict"] != "valid",
        )
        for (_, item), line in zip(entries, cells, strict=True)
    ]
    columns = tuple(_COLUMNS[number].title for number in kept)
    return Comparison(columns=columns, lines=tuple(lines), notes=_notes(rows, columns))


def variant_text(row: Row) -> str:
    """Runtime, recipe and options."""
    return " ".join(part for part in (row["runtime"], row["recipe"], row["options"]) if part)


def _notes(rows: Sequence[Row], columns: Sequence[str]) -> tuple[str, ...]:
    found = []
    if any(line.startswith("latency") for line in columns):
        found.append(
            "Latency of ours: the median of the medians of fresh processes, with its 95 % interval from five of them "
            "on (~: fewer). Mean and standard deviation are of iterations. Published: as its source says."
        )
    if rows and all(row["energy_mj"] is None for row in rows):
        whys = sorted({str(row["energy_quality"] or "no energy was read") for row in rows})
        found.append(f"No energy here: {', '.join(whys)}.")
    if any(row["speed_up"] is not None for row in rows):
        found.append(
            "Speed-up: over the model as it was before any conversion, on the same device and threads; over own fp32: "
            "over the same runtime in fp32. Intervals are of 95 % over processes."
        )
    return tuple(found)


def _latency(row: Row) -> str:
    return with_interval(row["p50_ms"], row["p50_ci_ms"])


def _their_latency(theirs: Published) -> str:
    text = published_text(theirs.figures, "p50_ms")
    if text == NONE:
        return NONE
    return f"{text} ({'mean' if 'mean_ms' in theirs.figures else 'statistic not said'})"


def _accuracy(row: Row) -> str:
    if row["accuracy_percent"] is None:
        return NONE
    interval = None if row["top1_ci"] is None else [100 * bound for bound in row["top1_ci"]]
    return with_interval(row["accuracy_percent"], interval) + f" of {row['examples']:,}"


def _fidelity(row: Row) -> str:
    if OUTPUTS_WRONG in row["flags"]:
        return "wrong"
    if row["identical"]:
        return "exact"
    return NONE if row["snr_db"] is None else significant(row["snr_db"])


def _plain(title: str, column: str) -> _Column:
    return _Column(
        title=title,
        ours=lambda row: figure_text(row[column]),
        theirs=lambda theirs: published_text(theirs.figures, column),
    )


def _only_ours(title: str, text: Callable[[Row], str], *, always: bool = False) -> _Column:
    return _Column(title=title, ours=text, theirs=lambda theirs: NONE, always=always)


def _only_theirs(title: str, figure: str) -> _Column:
    return _Column(title=title, ours=lambda row: NONE, theirs=lambda theirs: published_text(theirs.figures, figure))


def _settings(row: Row) -> str:
    parts = [f"{row['threads']} thread{'' if row['threads'] == 1 else 's'}"]
    parts += [f"batch {row['batch']}"] if row["batch"] != 1 else []
    parts += [row["mode"]] if row["mode"] != "burst" else []
    parts += [f"{row['rate_hz']:g} Hz"] if row["rate_hz"] else []
    return ", ".join([*parts, *([row["options"]] if row["options"] else [])])


_COLUMNS = (
    _Column(
        title="model",
        ours=lambda row: str(row["listed"]),
        theirs=lambda theirs: theirs.model or "the block",
        always=True,
    ),
    _Column(title="hardware", ours=lambda row: str(row["device"]), theirs=lambda theirs: theirs.hardware, always=True),
    _only_ours("runtime", lambda row: str(row["runtime"]), always=True),
    _Column(
        title="recipe", ours=lambda row: str(row["recipe"]), theirs=lambda theirs: theirs.recipe or NONE, always=True
    ),
    _only_ours("setting", _settings),
    _Column(title="latency ms", ours=_latency, theirs=_their_latency, always=True),
    _only_ours("mean ms", lambda row: figure_text(row["mean_ms"])),
    _only_ours("std ms", lambda row: figure_text(row["std_ms"])),
    _only_ours("p95 ms", lambda row: figure_text(row["p95_ms"])),
    _only_ours("p99 ms", lambda row: figure_text(row["p99_ms"])),
    _only_ours("per s", lambda row: figure_text(row["throughput_per_s"])),
    _only_ours("first minute ms", lambda row: figure_text(row["first_minute_p50_ms"])),
    _only_ours("last minute ms", lambda row: figure_text(row["last_minute_p50_ms"])),
    _plain("real-time factor", "real_time_factor"),
    _plain("size MB", "size_mb"),
    _plain("smaller by %", "smaller_percent"),
    _Column(
        title="accuracy %",
        ours=_accuracy,
        theirs=lambda theirs: published_text(theirs.figures, "accuracy_percent"),
    ),
    _only_ours("word error rate", lambda row: figure_text(row["wer"])),
    _only_ours("fidelity dB", _fidelity),
    _Column(
        title="speed-up",
        ours=lambda row: with_interval(row["speed_up"], row["speed_up_ci"], "x"),
        theirs=lambda theirs: published_text(theirs.figures, "speed_up"),
    ),
    _only_ours("over own fp32", lambda row: with_interval(row["speed_up_own"], row["speed_up_own_ci"], "x")),
    _only_ours("mJ per inference", lambda row: figure_text(row["energy_mj"])),
    _plain("parameters M", "parameters_m"),
    _only_ours("other than 0 M", lambda row: figure_text(row["nonzero_parameters_m"])),
    _plain("nodes", "nodes"),
    _plain("GMAC", "gmac"),
    _only_ours("GFLOP/s", lambda row: figure_text(row["gflops_per_s"])),
    _only_ours("GB/s", lambda row: figure_text(row["gb_per_s"])),
    _only_ours("bound by", lambda row: row["bound"] or NONE),
    _only_theirs("sparsity %", "sparsity_percent"),
    _only_theirs("battery % per hour", "battery_percent_per_hour"),
    _Column(title="note", ours=lambda row: str(row["verdict"]), theirs=lambda theirs: theirs.note or NONE, always=True),
)
