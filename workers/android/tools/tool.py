"""The seam of tools on the phone: the words of one invocation, and what its output proves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from workers.android.proof import tidy
from workers.contract import MeasureTask, Op, RuntimeFacts
from workers.errors import AttemptError, Cause

#: What a delegate computes on. NNAPI chooses its accelerator itself and does not always say which.
UNITS = {"cpu": "cpu", "gpu": "gpu", "nnapi": "nnapi", "qnn": "npu", "neuron": "npu", "tensor": "npu", "xnnpack": "cpu"}
#: What a result says of NNAPI (developer.android.com/ndk/guides/neuralnetworks/migration-guide).
NNAPI_DEPRECATED = "NNAPI is deprecated since Android 15"
#: Names of the files that a tool writes below the job's folder, as `PhoneTool.read` finds them in `extra`.
RESULT_FILE = "result.pb"
PROFILE_FILE = "profile.csv"


@dataclass(frozen=True, kw_only=True)
class RemoteDelegate:
    """A vendor's delegate as it is on the phone (`workers.android.settings.Delegate` says what it is here)."""

    #: The shared library that benchmark_model loads, or that LiteRT dispatches to.
    library: str | None = None
    #: As the tool takes them: "key:value;key:value".
    options: str = ""


@dataclass(frozen=True, kw_only=True)
class RemoteFiles:
    """Where on the phone things are that an invocation needs."""

    binary: str
    model: str
    #: The job's folder; result files go there.
    job: str
    #: Folder of the libraries beside the binary; None where there are none.
    libraries: str | None = None
    delegate: RemoteDelegate = field(default_factory=RemoteDelegate)
    #: Flags that the binary itself lists; empty where it does not tell, and then it is given all.
    flags: frozenset[str] = frozenset()

    def knows(self, flag: str) -> bool:
        """Whether the binary lists a flag, or lists none at all."""
        return not self.flags or flag in self.flags


@dataclass(frozen=True, kw_only=True)
class DelegateProof:
    """What the log says about who executed the graph. A delegate that took nothing is no accelerator."""

    #: The runtime option's value: cpu, gpu, nnapi, qnn, ...
    asked: str
    #: The delegate's own name of itself.
    name: str | None = None
    delegated_nodes: int | None = None
    total_nodes: int | None = None
    #: Delegate kernels that the graph became.
    partitions: int | None = None
    #: The log says that the whole graph went (True), or that not all of it did (False).
    complete: bool | None = None
    #: The lines that say so.
    evidence: tuple[str, ...] = ()

    @property
    def share(self) -> float | None:
        """Share of the graph's nodes that the delegate took: 0.0 none, 1.0 all of them; None where nothing tells."""
        if self.complete:
            return 1.0
        if self.delegated_nodes == 0:
            return 0.0
        if self.delegated_nodes is None or not self.total_nodes:
            return None
        return min(self.delegated_nodes / self.total_nodes, 1.0)

    @property
    def took_part(self) -> bool | None:
        """Whether it executed anything; None where nothing tells."""
        if self.share is not None:
            return self.share > 0
        return True if self.partitions else None

    @property
    def compute_unit(self) -> str:
        """What the run may be labelled: gpu, npu, nnapi, with "+cpu" where the CPU did the rest; unknown unproven."""
        unit = UNITS.get(self.asked, self.asked)
        if unit == "cpu" or self.took_part is False:
            return "cpu"
        if self.took_part is None:
            return "unknown"
        return unit if self.share == 1.0 else f"{unit}+cpu"

    def refuse(self, *, require_full: bool) -> AttemptError | None:
        """Why this run is no result: a delegate was asked for and took nothing, or not all where all was required."""
        if UNITS.get(self.asked, self.asked) == "cpu":
            return None
        told = f" ({tidy(self.evidence[-1])})" if self.evidence else ""
        if self.took_part is False:
            message = f"the {self.asked} delegate took no node of the model: everything ran on the CPU{told}"
            return AttemptError(Cause.MODEL, "not_delegated", message)
        if require_full and self.share != 1.0:
            share = "not all" if self.share is None else f"{self.share:.0%}"
            if self.took_part is None:
                share = "an unknown share"
            message = f"full delegation is required, and the {self.asked} delegate took {share} of the model{told}"
            return AttemptError(Cause.MODEL, "partially_delegated", message)
        return None


@dataclass(frozen=True, kw_only=True)
class ToolOutput:
    """What one invocation printed. Times in milliseconds, memory in bytes; None for what it did not say."""

    #: Which format it was, for people: "tflite 2019", "litert 2", ...
    generation: str
    delegate: DelegateProof
    #: What `value_ms` is. Means and medians are never compared, so a series is of one of them.
    statistic: Literal["median", "mean"] | None = None
    value_ms: float | None = None
    init_ms: float | None = None
    first_ms: float | None = None
    warm_up_ms: float | None = None
    warm_up_runs: int | None = None
    runs: int | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    std_ms: float | None = None
    p5_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    #: Highest use of memory that the tool watched; most builds only tell the growth.
    peak_memory_bytes: int | None = None
    #: Growth of the process from the tool's start to its end.
    memory_growth_bytes: int | None = None
    #: Per-operator times of a profiling run, in the order they ran.
    ops: tuple[Op, ...] = ()
    #: Facts of the log that `PhoneTool.facts` reads: parameters as the tool echoed them.
    parameters: Mapping[str, str] = field(default_factory=dict)
    #: Lines in which the tool complains.
    errors: tuple[str, ...] = ()
    #: What was looked for and not found.
    unread: tuple[str, ...] = ()

    @property
    def why_not_measured(self) -> str | None:
        """One sentence why there is no time, or None."""
        if self.value_ms is not None:
            return None
        if self.errors:
            return f"the tool printed no time: {tidy(self.errors[-1])}"
        return "the tool printed no time" + (f"; missing: {', '.join(self.unread)}" if self.unread else "")


class PhoneTool(ABC):
    """One benchmark tool. Stateless."""

    #: Its name in the settings (`[tools.NAME.ABI]`) and as a runtime.
    binary: ClassVar[str]
    #: Formats that it runs.
    formats: ClassVar[tuple[str, ...]]
    #: Values of its runtime option "delegate", the default first.
    delegates: ClassVar[tuple[str, ...]]
    #: Files that an invocation writes into the job's folder, for `read`.
    keep: ClassVar[tuple[str, ...]] = ()
    #: Where its builds are found: the project's documentation, by its name.
    published: ClassVar[str]

    @abstractmethod
    def command(self, task: MeasureTask, files: RemoteFiles, seconds: float, *, profile: bool = False) -> list[str]:
        """Words of one invocation, unquoted; `environment` has its variables, and CPUs are bound by who starts it.

        Args:
            task: what to measure, and how.
            files: where things are on the phone.
            seconds: how long its timed part should last, where the tool can be told.
            profile: time each operation; such times are no latency.
        """

    @abstractmethod
    def read(self, text: str, extra: Mapping[str, str], asked: str | None = None) -> ToolOutput:
        """What an output says; any text at all is answered.

        Args:
            text: standard output and error of one invocation.
            extra: files that it wrote, by name (`RESULT_FILE`, `PROFILE_FILE`), bytes read as Latin-1.
            asked: the delegate that was asked for; None: what the log says was.
        """

    @abstractmethod
    def facts(self, outputs: Sequence[ToolOutput], task: MeasureTask, version: str) -> RuntimeFacts:
        """What the tool says of itself over all invocations; the least proven of them counts.

        Args:
            outputs: of each invocation; at least one.
            task: what was asked for.
            version: of the binary, as its owner calls it, or its digest.
        """


def asked_delegate(task: MeasureTask) -> str:
    """The delegate that a task asks for."""
    return task.options.runtime_options.get("delegate", "cpu")


def requires_full(task: MeasureTask) -> bool:
    """Whether a task refuses a graph that a delegate took only part of."""
    return task.options.runtime_options.get("require_full_delegation", "no") == "yes"


def least_proven(outputs: Sequence[ToolOutput]) -> DelegateProof:
    """The proof of the invocation whose delegate took least: one label covers all of them."""
    return min(
        (output.delegate for output in outputs),
        key=lambda proof: (proof.took_part is True, proof.share if proof.share is not None else 0.5),
    )


def environment(files: RemoteFiles) -> dict[str, str]:
    """Variables of an invocation: where its libraries are, for the CPU's linker and for Hexagon DSPs.

    A DSP loads its own part from ADSP_LIBRARY_PATH, whose folders are divided by semicolons.
    """
    if files.libraries is None:
        return {}
    dsp = f"{files.libraries};/vendor/lib/rfsa/adsp;/vendor/dsp;/system/lib/rfsa/adsp"
    return {"LD_LIBRARY_PATH": files.libraries, "ADSP_LIBRARY_PATH": dsp}
