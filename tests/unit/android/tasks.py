"""Tasks and files of phones, as the tests of tools need them."""

from __future__ import annotations

from workers.android.tools.tool import RemoteDelegate, RemoteFiles
from workers.contract import MeasureTask, Options

DELEGATE = "/data/local/tmp/benchfarm/tools/abc/libQnnTFLiteDelegate.so"


def task(
    delegate: str = "cpu", *, full: bool = False, recipe: str = "fp32", threads: int = 4, rate_hz: float | None = None
) -> MeasureTask:
    """What a case with these options asks for."""
    options = {"delegate": delegate} | ({"require_full_delegation": "yes"} if full else {})
    return MeasureTask(
        runtime="benchmark-model",
        entry="workers.runtimes.phone_tools:BenchmarkModelRuntime",
        format="tflite",
        recipe=recipe,
        model="torchvision/mobilenet_v3_small",
        weights="random",
        compute_unit="android",
        options=Options(threads=threads, rate_hz=rate_hz, runtime_options={} if delegate == "cpu" else options),
    )


def files(*flags: str, vendor: bool = False, libraries: bool = False) -> RemoteFiles:
    """Where the things of one invocation are."""
    return RemoteFiles(
        binary="/data/local/tmp/benchfarm/tools/abc/benchmark_model",
        model="/data/local/tmp/benchfarm/cache/0123",
        job="/data/local/tmp/benchfarm/job",
        libraries="/data/local/tmp/benchfarm/tools/abc" if libraries else None,
        delegate=RemoteDelegate(library=DELEGATE, options="backend_type:htp") if vendor else RemoteDelegate(),
        flags=frozenset(flags),
    )
