"""benchmark_model of TensorFlow Lite and LiteRT: its flags, and every known form of its output.

The binary of LiteRT 2 has the same name, other flags and another output; the flags that the binary itself lists tell
which it is, and the content of the output chooses its reader.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from workers.android.tools.delegation import asked_in, read_delegation
from workers.android.tools.litert_benchmark import is_litert_output, read_litert_output
from workers.android.tools.log import NUMBER, complaints, lines, mebibytes, number, scaled, whole
from workers.android.tools.op_table import read_op_table
from workers.android.tools.result_proto import read_result_proto
from workers.android.tools.tool import (
    NNAPI_DEPRECATED,
    PROFILE_FILE,
    RESULT_FILE,
    UNITS,
    PhoneTool,
    RemoteFiles,
    ToolOutput,
    asked_delegate,
    least_proven,
    requires_full,
)
from workers.contract import MeasureTask, RuntimeFacts

#: The warm-up of docs/measurement.md, and the least number of timed runs of one invocation.
_WARM_UP_RUNS = 3
_WARM_UP_SECONDS = 0.5
_LEAST_RUNS = 5
#: An invocation ends after so many times what it was asked to last, however slow the model is.
_CAP = 20
_US = 1e-3
#: A summary of runs. Profiles print the like for operators and memory, behind their own names.
_COUNT = re.compile(
    r"(?<!Timings \(microseconds\): )(?<!Memory \(bytes\): )\bcount=(\d{1,15})"
    r"((?:[ \t]+(?:first|curr|min|max|avg|std|p5|median|p95)=[^\s]{1,40})*)"
)
_PAIR = re.compile(rf"(first|curr|min|max|avg|std|p5|median|p95)=({NUMBER})(?![\w.])")
_TIMINGS = re.compile(
    rf"Inference timings in us: Init: ({NUMBER}), First inference: ({NUMBER}), Warmup \(avg\): ({NUMBER}), "
    rf"Inference \(avg\): ({NUMBER})"
)
_TIMINGS_2019 = re.compile(
    rf"Average inference timings in us: Warmup: ({NUMBER}), Init: ({NUMBER}), (?:no stats|Inference): ({NUMBER})"
)
_MEMORY = re.compile(
    r"(Peak memory footprint|Memory footprint delta from the start of the tool) \(MB\): "
    rf"init={NUMBER} overall=({NUMBER})"
)
_PEAK = re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: ({NUMBER})")
_ECHOED = re.compile(r"^([A-Za-z#][\w ./()-]{1,60}?)\s*: \[([^\]]{0,300})\]$")


class BenchmarkModel(PhoneTool):
    """CPU (XNNPACK), GPU, NNAPI, and vendors' delegates by their libraries."""

    binary: ClassVar[str] = "benchmark-model"
    formats: ClassVar[tuple[str, ...]] = ("tflite",)
    keep: ClassVar[tuple[str, ...]] = (RESULT_FILE, PROFILE_FILE)
    delegates: ClassVar[tuple[str, ...]] = ("cpu", "gpu", "nnapi", "qnn", "neuron", "tensor")
    published: ClassVar[str] = (
        "prebuilt nightly builds in the documentation of LiteRT (Performance measurement, native benchmark binary), or "
        "built from LiteRT's tflite/tools/benchmark or litert/tools"
    )

    def command(self, task: MeasureTask, files: RemoteFiles, seconds: float, *, profile: bool = False) -> list[str]:
        """See `PhoneTool.command`."""
        flags = {
            "graph": files.model,
            "num_threads": task.options.threads,
            "num_runs": _LEAST_RUNS,
            "min_secs": seconds,
            "max_secs": seconds * _CAP,
            "warmup_runs": _WARM_UP_RUNS,
            "warmup_min_secs": _WARM_UP_SECONDS,
            "result_file_path": f"{files.job}/{RESULT_FILE}",
        }
        if task.options.rate_hz is not None:
            flags["run_frequency"] = task.options.rate_hz
        flags |= _litert_2(task, files) if _is_litert_2(files) else _tflite(task, files)
        if profile:
            flags["enable_op_profiling"] = "true"
            flags["profiling_output_csv_file"] = f"{files.job}/{PROFILE_FILE}"
        # A flag that a build does not know is ignored with a warning: nothing is lost by leaving it out.
        return [
            files.binary,
            *(f"--{name}={_text(value)}" for name, value in flags.items() if files.knows(name)),
        ]

    def read(self, text: str, extra: Mapping[str, str], asked: str | None = None) -> ToolOutput:
        """See `PhoneTool.read`."""
        asked = asked if asked is not None else asked_in(text)
        output = read_litert_output(text, asked) if is_litert_output(text) else _read_tflite(text, asked)
        if (raw := extra.get(RESULT_FILE)) is not None:
            output = _with_result(output, read_result_proto(raw.encode("latin-1", "replace")))
        unit = UNITS.get(asked, asked)
        table = read_op_table(extra.get(PROFILE_FILE, ""), unit)
        table = table if table.ops else read_op_table(text, unit)
        return replace(output, ops=table.finest)

    def facts(self, outputs: Sequence[ToolOutput], task: MeasureTask, version: str) -> RuntimeFacts:
        """See `PhoneTool.facts`."""
        proof = least_proven(outputs)
        precision, why = _precision(outputs[0], task, proof.compute_unit)
        said = "; ".join(proof.evidence[-2:]) or f"the log does not say what the {proof.asked} delegate took"
        notes = [said, why] + ([NNAPI_DEPRECATED] if proof.asked == "nnapi" else [])
        return RuntimeFacts(
            name=self.binary,
            version=version,
            options={"delegate": asked_delegate(task), "generation": outputs[0].generation, "how": "shell binary"},
            precision=precision,
            compute_unit=proof.compute_unit,
            evidence="; ".join(notes),
            delegated_share=None if proof.asked == "cpu" else proof.share,
        )


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_litert_2(files: RemoteFiles) -> bool:
    return "use_npu" in files.flags


def _tflite(task: MeasureTask, files: RemoteFiles) -> dict[str, object]:
    """Flags of TFLite's tool for the delegate that is asked for, with the arithmetic that the recipe names forced."""
    half = task.arithmetic == "fp16"
    asked = asked_delegate(task)
    flags: dict[str, object]
    if asked == "cpu":
        flags = {"use_xnnpack": "true"}
        return flags | ({"xnnpack_force_fp16": "true"} if half else {})
    if asked == "gpu":
        flags = {"use_gpu": "true", "gpu_precision_loss_allowed": str(half).lower()}
    elif asked == "nnapi":
        flags = {"use_nnapi": "true", "disable_nnapi_cpu": "true", "nnapi_allow_fp16": str(half).lower()}
    else:
        flags = {"external_delegate_path": files.delegate.library or ""}
        if files.delegate.options:
            flags["external_delegate_options"] = files.delegate.options
    if requires_full(task):
        flags["require_full_delegation"] = "true"
    return flags


def _litert_2(task: MeasureTask, files: RemoteFiles) -> dict[str, object]:
    """Flags of LiteRT 2's tool; it knows no NNAPI, and vendors by their dispatch libraries."""
    asked = asked_delegate(task)
    if asked == "cpu":
        return {"use_cpu": "true"}
    flags: dict[str, object] = {"use_cpu": "false", "allow_fp16": str(task.arithmetic == "fp16").lower()}
    if requires_full(task):
        flags["require_full_delegation"] = "true"
    if asked == "gpu":
        return flags | {"use_gpu": "true"}
    folder = (files.delegate.library or "").rpartition("/")[0] or files.libraries or ""
    return flags | {"use_npu": "true", "dispatch_library_path": folder, "compiler_plugin_library_path": folder}


def _read_tflite(text: str, asked: str) -> ToolOutput:
    """The output of TFLite's tool of any year, with whatever delegates print between its lines."""
    counts = [(whole(found[1]) or 0, _pairs(found[2])) for found in _COUNT.finditer(text)]
    warm_up_runs, warm_up = counts[0] if counts else (None, {})
    runs, run = counts[1] if len(counts) > 1 else (None, {})
    timings, timings_2019 = _last(_TIMINGS, text), _last(_TIMINGS_2019, text)
    init_us = first_us = warm_up_us = mean_us = None
    if timings is not None:
        init_us, first_us, warm_up_us, mean_us = (number(timings[group]) for group in range(1, 5))
    elif timings_2019 is not None:
        warm_up_us, init_us, mean_us = (number(timings_2019[group]) for group in range(1, 4))
    # One run has no average, and equal runs print their one time.
    average_us = run.get("avg", run.get("curr")) if runs else None
    mean_us = average_us if average_us is not None else mean_us if runs != 0 else None
    median_us = run.get("median")
    chosen = median_us if median_us is not None else mean_us
    memory, peak = _last(_MEMORY, text), _last(_PEAK, text)
    found = {"init": init_us, "warm-up": warm_up_runs, "inference": chosen}
    return ToolOutput(
        generation=_generation(timings_2019 is not None, median_us is not None, text),
        statistic=None if chosen is None else "mean" if median_us is None else "median",
        value_ms=scaled(chosen, _US),
        init_ms=scaled(init_us, _US),
        first_ms=scaled(first_us if first_us is not None else warm_up.get("first", warm_up.get("curr")), _US),
        warm_up_ms=scaled(warm_up.get("avg", warm_up_us), _US),
        warm_up_runs=warm_up_runs,
        runs=runs,
        min_ms=scaled(run.get("min", run.get("curr")), _US),
        max_ms=scaled(run.get("max", run.get("curr")), _US),
        std_ms=scaled(run.get("std"), _US),
        p5_ms=scaled(run.get("p5"), _US),
        p95_ms=scaled(run.get("p95"), _US),
        peak_memory_bytes=mebibytes(peak[1]) if peak else None,
        memory_growth_bytes=mebibytes(memory[2]) if memory else None,
        delegate=read_delegation(text, asked),
        parameters=_parameters(text),
        errors=complaints(text),
        unread=tuple(name for name, value in found.items() if value is None),
    )


def _pairs(text: str) -> dict[str, float]:
    values = {found[1]: number(found[2]) for found in _PAIR.finditer(text)}
    return {name: value for name, value in values.items() if value is not None}


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for match in pattern.finditer(text):
        found = match
    return found


def _generation(of_2019: bool, with_percentiles: bool, text: str) -> str:
    if of_2019:
        return "tflite 2019"
    if with_percentiles:
        return "tflite with percentiles"
    return "tflite" if "Inference timings in us" in text else "unknown"


def _parameters(text: str) -> dict[str, str]:
    """Parameters as the tool echoed them before the run: what it understood, not what it was told."""
    found = {}
    for line in lines(text)[:200]:
        if (echoed := _ECHOED.match(line)) is not None:
            found[echoed[1].casefold()] = echoed[2]
    return found


def _with_result(output: ToolOutput, result: Mapping[str, float]) -> ToolOutput:
    """An output with the numbers of its result file, which have more digits, and percentiles where the text has none.

    The statistic stays that of the text: the file of a run that was ended early is not there, and what a series is
    made of must not hang on that.
    """
    if "avg_ms" not in result or result.get("num_runs", 1) < 1:
        return output
    by_median = output.statistic == "median" and "median_ms" in result
    peak = result.get("peak_mem_mb")
    return replace(
        output,
        statistic="median" if by_median else "mean",
        value_ms=result["median_ms" if by_median else "avg_ms"],
        init_ms=result.get("init_ms", output.init_ms),
        first_ms=result.get("first_inference_ms", output.first_ms),
        warm_up_ms=result.get("average_warm_up_ms", output.warm_up_ms),
        warm_up_runs=round(result["num_warmup_runs"]) if "num_warmup_runs" in result else output.warm_up_runs,
        runs=round(result["num_runs"]) if "num_runs" in result else output.runs,
        min_ms=result.get("min_ms", output.min_ms),
        max_ms=result.get("max_ms", output.max_ms),
        std_ms=result.get("stddev_ms", output.std_ms),
        p5_ms=result.get("p5_ms", output.p5_ms),
        p95_ms=result.get("p95_ms", output.p95_ms),
        peak_memory_bytes=round(peak * 2**20) if peak else output.peak_memory_bytes,
        unread=tuple(name for name in output.unread if name != "inference"),
    )


def _precision(output: ToolOutput, task: MeasureTask, unit: str) -> tuple[str, str]:
    """The arithmetic that the tool's own echo of its flags proves, and how; unknown for everything else.

    Flags that it was told and did not know are never echoed.
    """
    if (named := {op.precision for op in output.ops if op.precision}) and len(named) == 1:
        return named.pop(), "arithmetic as the kernels' names say"
    parameters = output.parameters
    if task.arithmetic in ("fp32", "fp16"):
        half = task.arithmetic == "fp16"
        if unit == "gpu" and parameters.get("allow lower precision in gpu") == str(int(half)):
            return task.arithmetic, f"the tool {'allowed' if half else 'forbade'} lower precision on the GPU"
        if unit == "cpu" and half and _echoed_fp16(parameters):
            return "fp16", "the tool forced fp16 in XNNPACK"
        if unit == "cpu" and not half and output.generation.startswith("tflite"):
            return "fp32", "TFLite on the CPU computes fp32 unless fp16 is forced"
    return "unknown", "the tool does not say in which arithmetic it computed"


def _echoed_fp16(parameters: Mapping[str, str]) -> bool:
    return any("xnnpack" in name and "fp16" in name and value == "1" for name, value in parameters.items())
