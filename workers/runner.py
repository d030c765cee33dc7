"""One attempt, one process: `python -m workers.runner ATTEMPT_DIR` reads order.json and writes result.json.

Needs the standard library, numpy and the runtime: no database, no Ray, no pydantic. All that libraries print goes to
the attempt's log, for the agent hands this process a log as its stdout and stderr.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.artifact_files import load_entry, stored, unpacked
from workers.clock import steady
from workers.codec import read_document, write_document
from workers.contract import (
    Evaluation,
    Failure,
    Fidelity,
    Measurement,
    MeasureTask,
    Op,
    Order,
    Profile,
    Result,
    RuntimeFacts,
    promises_integers,
)
from workers.errors import EXIT_DISK_FULL, AttemptError, Cause, UnsupportedError, classify
from workers.memory import own_peak_bytes, status_bytes
from workers.plugins import package_versions
from workers.recipes import arithmetic_of

if TYPE_CHECKING:
    from workers.examples import Examples
    from workers.runtimes.runtime import LoadedModel, Runtime

#: Raw iterations kept per result.
RAW_LIMIT = 65_536
#: A profile lasts about so long, within these numbers of runs.
_PROFILED_S = 1.0
_LEAST_PROFILED_RUNS = 5
_MOST_PROFILED_RUNS = 200
#: What the arithmetic of a recipe promises; recipes not listed promise none (`original`, weights only).
PROMISES = {"fp32": "fp32", "bf16": "bf16", "fp16": "fp16"}


def main(folder: Path) -> int:
    """Run the order in a folder. Returns 0 when a result document stands, else why there is none."""
    order = read_document(Order, folder / "order.json")
    started_at = steady()
    doing = "starting"
    outcome: dict[str, Any] = {}
    try:
        _limit(order)
        if order.convert is not None:
            doing = f"making {order.convert.format} {order.convert.recipe}"
            from workers.conversion import convert

            outcome["conversion"] = convert(order, order.convert, folder)
        elif order.measure is not None:
            doing = f"measuring {order.measure.recipe} on {order.measure.runtime}"
            outcome["measurement"], outcome["environment"] = measure(order, order.measure, folder)
        elif order.profile is not None:
            doing = f"profiling {order.profile.recipe} on {order.profile.runtime}"
            outcome["profile"], outcome["environment"] = profile(order, order.profile, folder)
        elif order.evaluate is not None:
            doing = f"evaluating {order.evaluate.recipe} on {order.evaluate.runtime}"
            outcome["evaluation"], outcome["environment"] = evaluate(order, order.evaluate, folder)
    except Exception as error:  # the border of the process: whatever a backend raises becomes a classified failure
        with suppress(OSError):  # the log may be on a disk that is full
            traceback.print_exc()
        failure = classify(error, doing)
        outcome = {"failure": Failure(cause=failure.cause, code=failure.code, message=failure.message)}
    result = Result(
        attempt_id=order.attempt_id, token=order.token, started_at=started_at, finished_at=steady(), **outcome
    )
    try:
        write_document(result, folder / "result.json")
    except OSError as error:
        if classify(error, "writing the result").code != "disk_full":
            raise
        return EXIT_DISK_FULL
    return 0


def measure(order: Order, task: MeasureTask, folder: Path) -> tuple[Measurement, dict[str, str]]:
    """Measure one artifact: load cold, first inference, warm-up, timed part (docs/measurement.md)."""
    import numpy as np

    from workers.measure import summarise, timed_part, warm_up

    artifact, examples, runtime, imports_ms = _prepare(order, task, folder)
    rss_after_imports = status_bytes("VmRSS")
    evicted = _evict_pages(artifact)
    model, load_cold_ms = _timed(runtime.load, artifact, task)
    first_input = examples.input_at(0)
    compiled, compile_ms = _timed(model.compile, first_input)
    run = model.bind(first_input)
    _, first_inference_ms = _timed(run)

    warmed, expected_ns = warm_up(run)
    timed_from = steady()
    timed = timed_part(run, task.options, expected_ns)
    timed_to = steady()
    peak_rss = own_peak_bytes()

    stride = -(-len(timed.nanoseconds) // RAW_LIMIT)
    raw = folder / "raw.bin"
    raw.write_bytes(timed.nanoseconds[::stride].astype(np.dtype("<i8")).tobytes())
    facts = model.facts(first_input)
    keep_promise(task.recipe, facts)
    fidelity = _fidelity(model, examples)
    # Dropped before the second load, so that no runtime can share what the first one holds.
    del model, run
    _, load_warm_ms = _timed(runtime.load, artifact, task)
    inferences = len(timed.nanoseconds) * timed.inner_iterations * task.options.batch
    measurement = Measurement(
        runtime=facts,
        imports_ms=imports_ms,
        load_cold_ms=load_cold_ms,
        load_warm_ms=load_warm_ms,
        compile_ms=compile_ms if compiled else None,
        first_inference_ms=first_inference_ms,
        warm_up=warmed,
        timings=summarise(timed, task.options.mode),
        throughput_per_s=inferences / timed.elapsed_s,
        rss_after_imports_bytes=rss_after_imports,
        peak_rss_bytes=peak_rss,
        fidelity=fidelity,
        inputs=examples.shapes(),
        timed_from=timed_from,
        timed_to=timed_to,
        raw=stored(raw, folder),
        raw_stride=stride,
    )
    pages = "evicted before the cold load" if evicted else "not evicted"
    return measurement, {"artifact_pages": pages, **_environment(runtime)}


def profile(order: Order, task: MeasureTask, folder: Path) -> tuple[Profile, dict[str, str]]:
    """Find what each operation of one inference costs, on a warm model; and what one takes without the profiler."""
    from workers.measure import warm_up
    from workers.runtimes.runtime import time_runs

    artifact, examples, runtime, _ = _prepare(order, task, folder)
    model = runtime.load(artifact, task)
    first_input = examples.input_at(0)
    model.compile(first_input)
    run = model.bind(first_input)
    _, expected_ns = warm_up(run)
    runs = min(max(round(_PROFILED_S * 1e9 / max(expected_ns, 1)), _LEAST_PROFILED_RUNS), _MOST_PROFILED_RUNS)
    unprofiled_ms = statistics.median(time_runs(run, runs))
    seen = model.profile(first_input, runs)
    facts = model.facts(first_input)
    keep_promise(task.recipe, facts)
    sources = json.loads(Path(order.paths["sources"]).read_bytes()) if "sources" in order.paths else {}
    made = Profile(
        runtime=facts,
        method=seen.method,
        ops=tuple(replace(op, source=_source_of(op, sources)) for op in seen.ops),
        runs=len(seen.run_ms),
        run_ms=statistics.median(seen.run_ms),
        unprofiled_ms=unprofiled_ms,
        inputs=examples.shapes(),
    )
    return made, _environment(runtime)


def evaluate(order: Order, task: MeasureTask, folder: Path) -> tuple[Evaluation, dict[str, str]]:
    """Find how right the artifact answers over its labelled data; how long that took is no latency."""
    from workers.data_sets.labelled import load_labelled
    from workers.evaluate import answer, scored
    from workers.progress import Seldom, tell, tell_in

    if "test" not in order.paths:
        raise AttemptError(Cause.USER, "no_data", f"{task.model} comes with no labelled data: name some with --data")
    artifact, examples, runtime, _ = _prepare(order, task, folder)
    data = load_labelled(Path(order.paths["test"]))
    model = runtime.load(artifact, task)
    first_input = examples.input_at(0)
    model.compile(first_input)
    tell_in(folder)
    answers = answer(model, examples, data, Seldom(tell))
    model.bind(first_input)()  # what tells of itself tells of its last run
    facts = model.facts(first_input)
    keep_promise(task.recipe, facts)
    made = Evaluation(
        runtime=facts,
        data=data.name,
        data_sha256=order.inputs["test"],
        skipped=data.skipped,
        inputs=examples.shapes(),
        **scored(answers, data),
    )
    return made, _environment(runtime)


def _source_of(op: Op, sources: dict[str, str]) -> str | None:
    """Where the model's code calls the layers of an operation: of the first that is known."""
    return next((sources[layer] for layer in op.layers if layer in sources), op.source)


def _prepare(order: Order, task: MeasureTask, folder: Path) -> tuple[Path, Examples, Runtime, float]:
    """What measuring and profiling begin with; the runtime's library imported, and the milliseconds that took."""
    from workers.examples import load_examples

    if task.options.affinity is not None:
        _bind_to_cpus(task.options.affinity)
    artifact = unpacked(order, folder, task.format)
    examples = load_examples(Path(order.paths["examples"]))
    runtime: Runtime = load_entry(task.entry)
    _, imports_ms = _timed(runtime.import_library)
    return artifact, examples, runtime, imports_ms


def _environment(runtime: Runtime) -> dict[str, str]:
    return {"python": platform.python_version(), **package_versions(runtime.packages)}


def keep_promise(recipe: str, facts: RuntimeFacts) -> None:
    """A label is a promise: refuse a result whose arithmetic, read back, is not what the recipe names.

    Raises:
        UnsupportedError: the runtime fell back to fp32 altogether, here or for this graph.
        AttemptError: it ran less precisely than asked.
    """
    if promises_integers(recipe):
        if facts.quantised_flop_share == 0:
            raise UnsupportedError(
                f"{facts.name} did no multiplication in integers: nothing of {recipe} would be measured"
            )
        return
    promised = PROMISES.get(arithmetic_of(recipe))
    if promised is None or facts.precision in (promised, "unknown"):  # unknown is flagged, not broken
        return
    if facts.precision == "fp32":
        raise UnsupportedError(
            f"{facts.name} {facts.version} computed in fp32 on this {facts.compute_unit}, not in {promised} "
            f"({facts.evidence})"
        )
    raise AttemptError(
        Cause.MODEL,
        "label_broken",
        f"asked for {promised}, {facts.name} computed in {facts.precision} ({facts.evidence})",
    )


def _fidelity(model: LoadedModel, examples: Examples) -> Fidelity | None:
    from workers.fidelity import compare_outputs

    if not examples.outputs:
        return None
    actual = []
    for example in examples.each():
        model.bind(example)()
        actual.append([output.copy() for output in model.outputs()])
    reference = [[stack[index] for stack in examples.outputs] for index in range(len(examples))]
    first = examples.outputs[0]
    return compare_outputs(reference, actual, classification=first.ndim == 3 and first.shape[-1] > 1)


def _timed(act: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    began = time.perf_counter()
    value = act(*arguments)
    return value, (time.perf_counter() - began) * 1e3


def _limit(order: Order) -> None:
    """Bound memory, file size and core dumps before anything that a model file could steer is imported."""
    if sys.platform == "linux":  # RLIMIT_DATA counts private anonymous memory there; elsewhere it does not
        _set_limit(resource.RLIMIT_DATA, order.limits.memory_bytes)
    _set_limit(resource.RLIMIT_FSIZE, order.limits.file_bytes)
    _set_limit(resource.RLIMIT_CORE, 0)


def _set_limit(kind: int, value: int) -> None:
    """Lower a limit; one that is lower already stays."""
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _bind_to_cpus(cpus: tuple[int, ...]) -> None:
    if not hasattr(os, "sched_setaffinity"):
        raise UnsupportedError(f"{platform.system()} cannot bind a process to CPUs")
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        raise AttemptError(Cause.USER, "bad_affinity", f"this host has no CPUs {cpus}") from error


def _evict_pages(artifact: Path) -> bool:
    """Drop the artifact from the page cache, so that the first load reads the disk; False where the system cannot."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in [artifact] if artifact.is_file() else [item for item in artifact.rglob("*") if item.is_file()]:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


if __name__ == "__main__":
    status = main(Path(sys.argv[1]))
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    # Leave at once: atexit handlers of runtimes have crashed processes whose result already stood.
    os._exit(status)
