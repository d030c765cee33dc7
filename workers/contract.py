"""Documents that cross a process border: orders to the runner, and results from it (the agent's: `workers.report`).

Frozen standard-library dataclasses; `workers.codec` reads and writes them as strict JSON. Units are in the names;
`None` means absent, never 0.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from workers.recipes import arithmetic_of

SCHEMA_VERSION = 1
#: Changes with every rule of docs/measurement.md: results of different protocols are never one series.
PROTOCOL_VERSION = "1"

Mode = Literal["burst", "sustained", "offline"]
GatePolicy = Literal["wait", "strict", "none"]


def promises_integers(recipe: str) -> bool:
    """Whether a recipe promises multiplications in integers; integer weights alone promise none."""
    arithmetic = arithmetic_of(recipe)
    return arithmetic.startswith("int8") and arithmetic != "int8-weight"


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a case is run. Listed once, here; part of the series' identity."""

    #: Threads the runtime may use.
    threads: int = 1
    #: CPUs the process is bound to; None: wherever the system puts it.
    affinity: tuple[int, ...] | None = None
    batch: int = 1
    mode: Mode = "burst"
    #: Target rate of inferences; None: back to back.
    rate_hz: float | None = None
    #: The timed part lasts at least this long.
    min_seconds: float = 3.0
    #: Cap on the timed part; None: that of the mode, raised with the iterations that the percentile needs.
    max_seconds: float | None = None
    #: Highest percentile wanted: 90, 95 or 99; 99 raises the least number of iterations from 64 to 662.
    percentile: int = 90
    #: The runtime's own options that differ from its defaults (`Runtime.options` lists them).
    runtime_options: dict[str, str] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        """As part of a series' identity; no runtime options at all are left out, as before there were any."""
        options = asdict(self)
        if not self.runtime_options:
            del options["runtime_options"]
        return options


@dataclass(frozen=True, kw_only=True)
class ModelRequest:
    """Which program to make, for a model source."""

    name: str
    #: What the source runs on: random (seeded) or pretrained.
    weights: Literal["random", "pretrained"] = "random"
    seed: int = 0
    batch: int = 1
    #: The user allowed code of the model to run (factories).
    allow_code: bool = False
    #: Folders that a factory's modules are found in.
    search_path: tuple[str, ...] = ()
    #: The user's calibration inputs (.npz); None: the source makes them.
    calibration: str | None = None
    #: Labelled data for training and accuracy (`workers.data_sets`); None: what comes with the model, if anything.
    data: str | None = None
    #: At most so many examples of it are used.
    data_limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A model that another learns from."""

    #: "module:Class" of its model source.
    entry: str
    model: ModelRequest


@dataclass(frozen=True, kw_only=True)
class ConvertTask:
    """Make one artifact: from a model request (the canonical program) or from another artifact."""

    #: "module:Class" of the model source, converter or compression.
    entry: str
    format: str
    recipe: str
    #: Set for a model source, and for a compression: whose module is changed.
    model: ModelRequest | None = None
    #: Set for a converter: what the input artifact is.
    input_format: str | None = None
    #: What this one conversion does, of all that the recipe names; None: the recipe.
    step: str | None = None
    #: Of a compression: the entry of the model's source, the steps whose outcome the input's checkpoint holds, and who
    #: is learnt from.
    source: str | None = None
    before: tuple[str, ...] = ()
    teacher: Teacher | None = None


@dataclass(frozen=True, kw_only=True)
class MeasureTask:
    """Measure one artifact on one runtime."""

    runtime: str
    #: "module:Class" of the runtime.
    entry: str
    format: str
    recipe: str
    model: str
    weights: str
    #: What the runtime shall compute on: cpu, cuda:UUID, mps, ...
    compute_unit: str
    options: Options = field(default_factory=Options)

    @property
    def arithmetic(self) -> str:
        """What the recipe promises to compute in, whatever else it does to the model."""
        return arithmetic_of(self.recipe)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a child may use."""

    deadline_s: float
    #: Private memory that a child may map. Libraries crash where they meet it, so it is far off: a host's share.
    memory_bytes: int
    #: What a conversion and the processes it starts may have resident together; past it the agent ends them.
    resident_bytes: int | None = None
    file_bytes: int = 64 * 2**30


@dataclass(frozen=True, kw_only=True)
class Order:
    """One attempt for one place, as the executor hands it to an agent and the agent to the runner."""

    attempt_id: int
    token: str
    #: Key of the device or slot it runs at.
    place: str
    limits: Limits
    convert: ConvertTask | None = None
    measure: MeasureTask | None = None
    #: Where the time of one inference goes; what a measurement is told, this is told.
    profile: MeasureTask | None = None
    #: How right its answers are over labelled data; what a measurement is told, this is told.
    evaluate: MeasureTask | None = None
    #: Role (artifact, examples, calibration, sources) to sha256 in the artifact store. The agent adds the local paths.
    inputs: dict[str, str] = field(default_factory=dict)
    #: Role to file or folder on this host, digest checked; filled by the agent.
    paths: dict[str, str] = field(default_factory=dict)
    #: Of a conversion: what is known of the artifact that it starts from.
    facts: dict[str, Any] = field(default_factory=dict)
    gate: GatePolicy = "wait"
    gate_timeout_s: float = 60.0
    #: Processes of our own that are no foreign load (dispatcher, followers).
    own_pids: tuple[int, ...] = ()
    schema_version: int = SCHEMA_VERSION

    @property
    def on_device(self) -> MeasureTask | None:
        """The task of an attempt that has a device to itself; None for a conversion."""
        return self.measure or self.profile or self.evaluate


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an attempt has no result."""

    cause: str
    code: str
    message: str
    #: The stored file that was missing or damaged.
    artifact_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file by its digest; `path` only until it is in the store."""

    sha256: str
    bytes: int
    path: str | None = None


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What a convert attempt made."""

    artifact: StoredFile
    #: examples (inputs and reference outputs), calibration, sources (layer to its line of code), ...
    companions: dict[str, StoredFile]
    format: str
    recipe: str
    seconds: float
    imports_ms: float
    #: Versions of the packages that took part.
    versions: dict[str, str]
    #: Named facts: parameters, flops, nodes, inputs, ...
    facts: dict[str, Any]
    #: The most that the converting process had resident, or one that it started, where that had more; None where the
    #: system does not tell.
    peak_rss_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """How the warm-up went."""

    runs: int
    seconds: float
    #: The medians of the last two stretches were within 2 %; None where the runtime warms up by itself.
    stable: bool | None


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Summary of the timed part. Percentiles without the samples for them are None.

    Of a runtime that prints summaries only, an iteration is one invocation of it, and takes what it printed.
    """

    iterations: int
    #: Inferences per timed iteration; above 1 the percentiles above the median are absent.
    inner_iterations: int
    elapsed_s: float
    converged: bool
    p50_ms: float
    #: 95 % order-statistic interval over the iterations of this process: it understates the truth between processes.
    p50_within_ci_ms: tuple[float, float] | None
    mean_ms: float
    min_ms: float
    max_ms: float
    mad_ms: float
    iqr_over_median: float
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    #: Beyond 1.5 and 3 interquartile ranges; counted, never dropped.
    outliers_mild: int
    outliers_extreme: int
    #: Median of the last fifth over that of the first fifth, and Mann-Whitney's p (None below 30 at each end).
    drift_ratio: float | None
    drift_p: float | None
    #: Sustained mode: medians of the first and the last minute.
    first_minute_p50_ms: float | None = None
    last_minute_p50_ms: float | None = None
    #: What an invocation printed of its own runs, where iterations are invocations: never compared with one another.
    of_invocations: Literal["median", "mean"] | None = None
    #: Standard deviation of the iterations; None of loop means, of a single one, and where only a summary is printed.
    std_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """Outputs against the fp32 reference, over all example inputs."""

    #: Signal-to-noise ratio; None where there is no noise (identical), no signal, or no finite output.
    snr_db: float | None
    identical: bool
    #: No NaN or infinity among the outputs.
    finite: bool
    cosine: float | None
    #: Share of examples with the same largest output; None where the output is no classification.
    top1_agreement: float | None
    examples: int


@dataclass(frozen=True, kw_only=True)
class RuntimeFacts:
    """What the runtime says of itself, read back after loading."""

    name: str
    version: str
    options: dict[str, Any]
    #: The arithmetic that really ran.
    precision: str
    compute_unit: str
    #: Where the two above come from.
    evidence: str
    #: Share of the multiply-accumulates done in integers; None where the runtime does not tell.
    quantised_flop_share: float | None = None
    #: Share of the graph that a delegate took; None where there is no delegate or it does not tell.
    delegated_share: float | None = None


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a measure attempt saw inside the child."""

    runtime: RuntimeFacts
    #: None, here and below, where the runtime does not tell.
    imports_ms: float | None
    load_cold_ms: float | None
    load_warm_ms: float | None
    #: None where the runtime compiles nothing apart from its load.
    compile_ms: float | None
    first_inference_ms: float | None
    warm_up: WarmUp
    timings: Timings
    throughput_per_s: float
    rss_after_imports_bytes: int | None
    peak_rss_bytes: int | None
    fidelity: Fidelity | None
    #: Each input's type and shape: ["float32", 1, 3, 224, 224].
    inputs: dict[str, tuple[Any, ...]]
    #: When the timed part began and ended, epoch seconds: what sensors are cut to.
    timed_from: float
    timed_to: float
    #: Per-iteration nanoseconds, raw little-endian int64; None on summary runtimes.
    raw: StoredFile | None
    #: Every n-th iteration is kept in raw.
    raw_stride: int = 1


@dataclass(frozen=True, kw_only=True)
class Op:
    """One operation of a profile, as the runtime ran it: it may compute several layers of the model, or none."""

    #: The runtime's own name of it.
    name: str
    #: The runtime's own type: Conv, CONV_2D, aten::conv2d, ...
    type: str
    #: Typical over the profiled runs: their median, where the profiler tells them apart (`Profile.method` says it).
    time_us: float
    #: Layers of the model (`features.0.0`) that it computes; empty for what a runtime or a quantiser inserted.
    layers: tuple[str, ...] = ()
    #: Line of the model's code that calls the layer, where the program knows it.
    source: str | None = None
    compute_unit: str | None = None
    precision: str | None = None
    #: Two per multiply-accumulate of convolutions and matrix products; None for every other type.
    flops: int | None = None
    #: Inputs, weights and outputs, each once.
    bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What each operation of one inference costs. Profilers cost time: never to be read as a latency."""

    runtime: RuntimeFacts
    #: How the times were taken.
    method: str
    #: In the order they ran.
    ops: tuple[Op, ...]
    #: Profiled runs, and the median of one of them as a whole, measured around the runtime's own call.
    runs: int
    run_ms: float
    #: Median of one inference in the same process without the profiler.
    unprofiled_ms: float
    #: Each input's type and shape: ["float32", 1, 3, 224, 224].
    inputs: dict[str, tuple[Any, ...]]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How right an artifact is over labelled data, on its own runtime. Never to be read as a latency."""

    runtime: RuntimeFacts
    #: What is asked of the model: classification, ...
    task: str
    #: The data set as it was named, and the sha256 of the examples that were used.
    data: str
    data_sha256: str
    examples: int
    #: Files of the data set that could not be read: counted when it was prepared.
    skipped: int
    #: Examples that were answered right: the largest class is the label's.
    correct: int
    #: Examples whose answer held NaN or infinity: wrong.
    not_finite: int
    #: Shares of the examples; None where the task has no such.
    top1: float | None
    top5: float | None
    #: Mean of the classes' F1.
    f1_macro: float | None
    #: Word errors over words of the references.
    wer: float | None
    #: One bit per example, in their order, the first in the highest bit of the first byte: right or not.
    outcomes_base64: str
    seconds: float
    #: Each input's type and shape: ["float32", 1, 3, 224, 224].
    inputs: dict[str, tuple[Any, ...]]


@dataclass(frozen=True, kw_only=True)
class Result:
    """The one document that the runner writes."""

    attempt_id: int
    token: str
    started_at: float
    finished_at: float
    failure: Failure | None = None
    conversion: Conversion | None = None
    measurement: Measurement | None = None
    profile: Profile | None = None
    evaluation: Evaluation | None = None
    #: Versions of the runtime's side of the environment.
    environment: dict[str, str] = field(default_factory=dict)
    protocol_version: str = PROTOCOL_VERSION
    schema_version: int = SCHEMA_VERSION
