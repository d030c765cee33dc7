"""ExecuTorch on the CPU, with XNNPACK: the successor of PyTorch Mobile."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from workers.contract import MeasureTask, Op, RuntimeFacts
from workers.errors import UnsupportedError
from workers.examples import Array
from workers.pte_program import LAYERS_FILE, PROGRAM_FILE, Instruction, Layers, Work, read_program, read_trace
from workers.runtimes.runtime import LINUX_CPU, LoadedModel, OpTimes, Runtime, median_times, time_runs

#: Kernels of XNNPACK that multiply and accumulate, as they name themselves.
_MULTIPLY = frozenset(
    ("Convolution", "Deconvolution", "Fully Connected", "Dynamic Fully Connected", "Batch Matrix Multiply")
)
#: Kernels that compute a node whose name does not tell.
_ALSO = {
    "avgpooling2d": ("averagepooling",),
    "globalavgpooling2d": ("mean", "globalaveragepooling"),
    "reshape": ("copy",),
}
#: A delegate's call in a trace; in a profile what it took beside its kernels.
_REST = "DELEGATE_CALL"
#: Computed by table in int8: XNNPACK has no name for such a kernel.
_TABLE = "invalidunaryop"
_BY_TABLE = frozenset(("elu", "exp", "gelu", "hardswish", "leakyrelu", "log", "sigmoid", "tanh"))


class ExecuTorch(Runtime):
    """Runs what `executorch-export` makes. The thread pool is one for the process; programs keep that of their load."""

    packages: ClassVar[tuple[str, ...]] = ("executorch", "torch")
    extra: ClassVar[str] = "executorch"
    formats: ClassVar[tuple[str, ...]] = ("pte",)
    refuses: ClassVar[Mapping[str, str]] = {
        "int4-weight": "XNNPACK multiplies 4-bit weights with activations in int8 only, and the recipe promises floats"
    }
    seen: ClassVar[Mapping[str, Mapping[str, str | None]]] = {
        LINUX_CPU: dict.fromkeys(("fp32", "int8-dynamic", "int8-static"))
    }

    def import_library(self) -> None:
        """See `Runtime.import_library`."""
        import torch  # noqa: F401  # the library's bindings link against it

        _bindings()

    def load(self, artifact: Path, task: MeasureTask) -> LoadedModel:
        """See `Runtime.load`."""
        library = _bindings()
        # A pool is never replaced by one of the same size: programs that were loaded before hold on to it.
        if library._threadpool_get_thread_count() != task.options.threads:
            library._unsafe_reset_threadpool(task.options.threads)
        threads = library._threadpool_get_thread_count()
        if threads != task.options.threads:
            raise UnsupportedError(f"executorch gave {threads} threads instead of {task.options.threads}")
        return _Program(artifact)


@dataclass(frozen=True)
class _Kernel:
    """One kernel that ran: of XNNPACK, or one that the program calls itself."""

    #: As the runtime names it, within its delegate.
    name: str
    #: The same without its number.
    type: str
    #: What it computes; None where the program does not tell.
    work: Work | None
    #: None for what the program calls itself.
    delegate: str | None

    @property
    def precision(self) -> str | None:
        """The arithmetic it names, else the type of what it works on."""
        named = kernel_precision(self.type) if self.delegate is not None else None
        return named or (self.work.precision if self.work is not None else None)


@dataclass(frozen=True)
class _Trace:
    """What one loaded program ran, and how long each kernel took in each run."""

    kernels: tuple[_Kernel, ...]
    layers: Layers
    #: Per run the microseconds of each kernel.
    times_us: list[list[float]]
    run_ms: tuple[float, ...]


class _Program(LoadedModel):
    def __init__(self, artifact: Path) -> None:
        self._artifact = artifact
        self._program, self._method = _loaded(artifact, keep_trace=False)
        self._result: list[Any] = []

    def bind(self, inputs: dict[str, Array]) -> Callable[[], object]:
        tensors = _tensors(inputs)
        call = self._method.call

        def run() -> None:
            self._result = call(tensors, False)  # outputs stay in the program's own memory

        return run

    def outputs(self) -> list[Array]:
        # Copied: the program writes the next run's outputs to the same memory.
        values = [value.float() if value.is_floating_point() else value for value in self._result]
        return [np.array(value.numpy()) for value in values]

    def facts(self, inputs: dict[str, Array]) -> RuntimeFacts:
        # What stands for the rest of a delegate's call is no kernel.
        kernels = [kernel for kernel in self._traced(inputs, 1).kernels if kernel.type != _REST]
        delegates = [kernel.delegate for kernel in kernels if kernel.delegate is not None]
        macs: Counter[str | None] = Counter()
        for kernel in kernels:
            if kernel.work is not None and kernel.work.macs is not None:
                macs[kernel.precision] += kernel.work.macs
        if any(kernel.work is None and _multiplies(kernel.type) for kernel in kernels):
            macs.clear()  # no share of what is known in part
        total = sum(macs.values())
        floats = Counter({kind: count for kind, count in macs.items() if kind != "int8"})
        main = (macs if macs["int8"] * 2 >= total else floats).most_common(1)
        return RuntimeFacts(
            name="executorch",
            version=version("executorch"),
            options={
                "delegates": sorted(set(delegates)),
                "threads": _bindings()._threadpool_get_thread_count(),
            },
            precision=(main[0][0] if main else None) or "unknown",
            compute_unit="cpu",
            evidence=f"kernels as its own trace (ETDump) of one run names them, {len(delegates)} of {len(kernels)} in "
            "delegates; their sizes from the program",
            quantised_flop_share=macs["int8"] / total if total else None,
            delegated_share=len(delegates) / len(kernels) if kernels else None,
        )

    def profile(self, inputs: dict[str, Array], runs: int) -> OpTimes:
        trace = self._traced(inputs, runs)
        works = [kernel.work for kernel in trace.kernels if kernel.work is not None]
        layers = trace.layers.of(work.handle for work in works if work.handle is not None)
        ops = tuple(
            _op(kernel, time_us, layers)
            for kernel, time_us in zip(trace.kernels, median_times(trace.times_us), strict=True)
        )
        return OpTimes(
            method="ETDump; XNNPACK times its kernels in whole microseconds, rounded down: what that leaves of a "
            f"delegate's call stands as {_REST}",
            ops=ops,
            run_ms=trace.run_ms,
        )

    def _traced(self, inputs: dict[str, Array], runs: int) -> _Trace:
        """Run a second copy of the program that keeps a trace."""
        program, method = _loaded(self._artifact, keep_trace=True)
        if not program.has_etdump():
            raise UnsupportedError("this build of executorch keeps no trace: install the wheel from PyPI")
        tensors = _tensors(inputs)
        method.call(tensors, False)  # not counted: the first run touches all memory
        run_ms = time_runs(lambda: method.call(tensors, False), runs)
        with tempfile.TemporaryDirectory() as folder:
            trace = Path(folder, "trace.etdp")
            program.write_etdump_result_to_file(str(trace))
            events = read_trace(trace)[-runs:]
        layers = Layers.read(self._artifact / LAYERS_FILE)
        instructions = read_program(self._artifact / PROGRAM_FILE, layers)
        read = [_kernels_of_run(run, instructions) for run in events]
        return _Trace(
            kernels=tuple(kernel for kernel, _ in read[0]),
            layers=layers,
            times_us=[[time_us for _, time_us in run] for run in read],
            run_ms=run_ms,
        )


def _kernels_of_run(events: list[dict[str, Any]], instructions: Sequence[Instruction]) -> list[tuple[_Kernel, float]]:
    """The kernels of one run with their microseconds, in the order they ran."""
    inside: dict[int, list[tuple[str, float]]] = {}
    calls: dict[int, float] = {}
    for event in events:
        index, time_us = event["instruction_id"], (event["end_time"] - event["start_time"]) / 1e3
        if "delegate_debug_id_str" in event:
            inside.setdefault(index, []).append((event["delegate_debug_id_str"], time_us))
        elif event["name"] in ("OPERATOR_CALL", _REST):
            calls[index] = time_us
    found = []
    for index, instruction in enumerate(instructions):
        if index not in calls:
            continue
        if not instruction.is_delegate:
            operator = instruction.name.partition(".")[0]
            found.append((_Kernel(instruction.name, operator, instruction.works[0], None), calls[index]))
            continue
        names = [name for name, _ in inside.get(index, [])]
        for (name, time_us), work in zip(inside.get(index, []), match(names, instruction.works), strict=True):
            found.append((_Kernel(name, kernel_type(name), work, instruction.name), time_us))
        rest = calls[index] - sum(time_us for _, time_us in inside.get(index, []))
        found.append((_Kernel(instruction.name, _REST, None, instruction.name), max(rest, 0.0)))
    return found


def _op(kernel: _Kernel, time_us: float, layers: dict[int, tuple[str, ...]]) -> Op:
    work = kernel.work
    return Op(
        name=kernel.name,
        type=kernel.type,
        time_us=time_us,
        layers=layers[work.handle] if work is not None and work.handle is not None else (),
        compute_unit="cpu",
        precision=kernel.precision,
        flops=2 * work.macs if work is not None and work.macs is not None else None,
        bytes=work.bytes if work is not None else None,
    )


def kernel_type(name: str) -> str:
    """A kernel's name in a trace without its number: `Clamp (NC) #3` is `Clamp (NC)`."""
    return re.sub(r" #\d+$", "", name)


def kernel_precision(name: str) -> str | None:
    """The arithmetic that an XNNPACK kernel names: `Fully Connected (NC, QS8, QC8W) GEMM` multiplies in int8.

    The first type is that of the activations: weights alone in int8 are multiplied as what the activations are.
    None where it names none, and for kernels that only move values (X32).
    """
    named = re.search(r"\(([^)]*)\)", name)
    for part in named[1].split(", ")[1:] if named else ():
        if re.fullmatch(r"(Q[SUDPC]+|[SU])8W?", part):
            return "int8"
        if part in ("F32", "PF32", "F16", "BF16"):
            return {"F": "fp", "B": "bf"}[part.removeprefix("P")[0]] + part[-2:]
    return None


def match(kernels: Sequence[str], works: Sequence[Work]) -> list[Work | None]:
    """What each kernel that XNNPACK ran computes of the graph it was given.

    XNNPACK keeps the order, drops nodes that it fuses or that move nothing, and inserts kernels. Convolutions and
    matrix products are neither dropped nor inserted: they are matched one by one, what stands between them by name.
    Where their numbers differ nothing is matched, for nothing would be certain.
    """
    multiplying = [work for work in works if work.macs is not None]
    if len(multiplying) != sum(_multiplies(name) for name in kernels):
        return [None] * len(kernels)
    found: list[Work | None] = []
    at = 0
    for name in kernels:
        end = next((index for index in range(at, len(works)) if works[index].macs is not None), len(works))
        if _multiplies(name):
            here: int | None = end
        else:
            here = next((index for index in range(at, end) if _same(name, works[index].type)), None)
        found.append(None if here is None else works[here])
        at = at if here is None else here + 1
    return found


def _multiplies(kernel: str) -> bool:
    return kernel.partition(" (")[0] in _MULTIPLY


def _same(kernel: str, node: str) -> bool:
    """Whether a kernel may compute a node: by their names, which one of the two writes in full."""
    name = kernel_type(kernel).partition(" (")[0].removeprefix("Static ").replace(" ", "").lower()
    kind = node.removeprefix("XNN").removeprefix("Static").lower()
    return (
        kind.startswith(name)
        or name.startswith(kind)
        or name in _ALSO.get(kind, ())
        or (name == _TABLE and kind in _BY_TABLE)
    )


def _tensors(inputs: dict[str, Array]) -> list[Any]:
    import torch

    return [torch.from_numpy(np.ascontiguousarray(value)) for value in inputs.values()]


def _loaded(artifact: Path, *, keep_trace: bool) -> tuple[Any, Any]:
    """A program, which must outlive its method, and the method, with all that XNNPACK prepares for it.

    The bindings' simpler `_load_for_executorch` leaves that to the first run.
    """
    library = _bindings()
    program = library._load_program(
        str(artifact / PROGRAM_FILE), keep_trace, 0, library.Verification.InternalConsistency
    )
    return program, program.load_method("forward")


def _bindings() -> Any:
    """The bindings themselves: the module that documents them imports the exporter, seconds and 300 MB for nothing."""
    import torch  # noqa: F401  # they link against it
    from executorch.extension.pybindings import _C

    return _C
