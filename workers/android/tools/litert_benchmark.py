"""Output of LiteRT 2's benchmark tool: a block in milliseconds, each line with the source line that printed it."""

from __future__ import annotations

import re

from workers.android.tools.delegation import read_delegation
from workers.android.tools.log import NUMBER, complaints, lines, mebibytes, number, whole
from workers.android.tools.tool import ToolOutput

#: What tells this output from TFLite's.
TITLE = "BENCHMARK RESULTS"
_LINE = re.compile(
    rf"^(Model initialization|Warmup \(first\)|Warmup \(avg\)|Inference \(avg\)|Inference \(min\)|Inference \(max\)"
    rf"|Inference \(std\)|Init footprint|Overall footprint|Peak memory):\s+({NUMBER})(?: (?:ms|MB))?"
    rf"(?: \((\d+) runs\))?$"
)
_MEDIAN = re.compile(rf"^Inference \((?:p50|median|med)\):\s+({NUMBER})(?: ms)?$", re.IGNORECASE)


def is_litert_output(text: str) -> bool:
    """Whether an output has the block of LiteRT 2's tool."""
    return TITLE in text


def read_litert_output(text: str, asked: str) -> ToolOutput:
    """What an invocation of LiteRT 2's tool printed; any text at all is answered.

    The block has no median; the result file that some builds write has one.
    """
    said: dict[str, tuple[str, str | None]] = {}
    median = None
    for line in lines(text[text.rfind(TITLE) :] if TITLE in text else ""):
        if (found := _LINE.match(line)) is not None:
            said[found[1]] = (found[2], found[3])
        elif (found := _MEDIAN.match(line)) is not None:
            median = number(found[1])

    def value(name: str) -> float | None:
        return number(said[name][0]) if name in said else None

    def runs(name: str) -> int | None:
        return whole(said[name][1]) if name in said else None

    count = runs("Inference (avg)")
    mean = value("Inference (avg)") if count != 0 else None
    chosen = median if median is not None else mean
    return ToolOutput(
        generation="litert 2",
        statistic=None if chosen is None else "mean" if median is None else "median",
        value_ms=chosen,
        init_ms=value("Model initialization"),
        first_ms=value("Warmup (first)"),
        warm_up_ms=value("Warmup (avg)"),
        warm_up_runs=runs("Warmup (avg)"),
        runs=count,
        min_ms=value("Inference (min)"),
        max_ms=value("Inference (max)"),
        std_ms=value("Inference (std)"),
        peak_memory_bytes=mebibytes(said["Peak memory"][0]) if "Peak memory" in said else None,
        memory_growth_bytes=mebibytes(said["Overall footprint"][0]) if "Overall footprint" in said else None,
        delegate=read_delegation(text, asked),
        errors=complaints(text),
        unread=tuple(name for name in ("Model initialization", "Inference (avg)") if name not in said),
    )
