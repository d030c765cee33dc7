"""PyTorch compiled by inductor. What it compiled is kept from one attempt to the next."""

from __future__ import annotations

import os
import platform
import shutil
import sysconfig
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from workers.contract import MeasureTask, Op, RuntimeFacts
from workers.errors import UnsupportedError
from workers.examples import Array
from workers.runtimes.inductor_trace import InductorTrace
from workers.runtimes.runtime import LINUX_CPU, LoadedModel, OpTimes, Runtime, compile_cache, median_times, option
from workers.runtimes.torch_eager import INT4_IS_PACKED, TorchProgram, between_ops, multiplied
from workers.runtimes.torch_events import Event, record

#: Where children look for programs.
_PATH = "/usr/local/bin:/usr/bin:/bin"
#: Ranges around what inductor generated: containers of operations, and Python between them.
_CONTAINERS = ("Torch-Compiled Region", "## Call CompiledFxGraph")


class TorchCompile(Runtime):
    """One graph, static shapes. Weights are constants as in every deployed program, unless `freezing` is off."""

    # The fusions of int8-static are torchao's.
    packages: ClassVar[tuple[str, ...]] = ("torch", "torchao")
    extra: ClassVar[str] = "torch"
    formats: ClassVar[tuple[str, ...]] = ("pt2",)
    device_kinds: ClassVar[tuple[str, ...]] = ("cpu", "gpu")
    refuses: ClassVar[Mapping[str, str]] = {"int4-weight": INT4_IS_PACKED}
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {"freezing": ("on", "off")}
    seen: ClassVar[Mapping[str, Mapping[str, str | None]]] = {
        LINUX_CPU: dict.fromkeys(("fp32", "bf16", "int8-dynamic", "int8-static", "int8-weight"))
    }

    def missing(self) -> tuple[str, str] | None:
        """See `Runtime.missing`."""
        mac = platform.system() == "Darwin"
        if shutil.which("clang++" if mac else "g++", path=_PATH) is None:
            return "no C++ compiler", "xcode-select --install" if mac else "apt-get install g++"
        if not Path(sysconfig.get_path("include"), "Python.h").exists():
            return "no headers of this Python, which compiled code needs", "apt-get install python3-dev"
        return None

    def import_library(self) -> None:
        """See `Runtime.import_library`."""
        # Before torch is imported; and no pool of compiling processes that could outlive the attempt.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(_cache())
        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
        import torch._inductor.compile_fx
        import torch.export  # noqa: F401  # so that the first load does not pay for it

        # Registers the fusions with inductor; programs of other recipes hold nothing that they match.
        import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer  # noqa: F401

    def load(self, artifact: Path, task: MeasureTask) -> LoadedModel:
        """See `Runtime.load`."""
        freezing = option(self, task, "freezing") == "on"
        if task.arithmetic == "int8-static" and not freezing:
            raise UnsupportedError("torch-compile fuses int8-static with its option freezing=on only")
        return _Compiled(artifact, task, freezing=freezing)


class _Compiled(TorchProgram):
    name: ClassVar[str] = "torch-compile"

    def __init__(self, artifact: Path, task: MeasureTask, *, freezing: bool) -> None:
        super().__init__(artifact, task)
        import torch
        from torch._inductor import config

        self._freezing = freezing
        self._compiled_from = "not compiled"
        # Of the process, for options of torch.compile reach inductor, not dynamo, which must know of freezing too.
        config.freezing = freezing
        # The number of threads is part of the generated code, so it must be part of the cache's key.
        config.cpp.threads = task.options.threads
        torch._dynamo.reset()  # what an earlier load compiled is not this one's
        self.callable = torch.compile(self.module, dynamic=False, fullgraph=True)

    def compile(self, inputs: dict[str, Array]) -> bool:
        """See `LoadedModel.compile`."""
        from torch._dynamo.utils import counters

        counters.clear()
        built = _built()
        self.bind(inputs)()
        self._compiled_from = cache_story(counters["inductor"], _built() - built)
        return True

    def facts(self, inputs: dict[str, Array]) -> RuntimeFacts:
        """See `LoadedModel.facts`."""
        seen = self.seen_flops(self.callable, inputs)
        # Inductor may generate code of its own for a product, and no event tells: the program's FLOPs are the whole.
        flops = max(seen.total(), self.seen_flops(self.module, inputs).total())
        return self.facts_of(
            seen, flops, {"freezing": "on" if self._freezing else "off", "compile_cache": self._compiled_from}
        )

    def profile(self, inputs: dict[str, Array], runs: int) -> OpTimes:
        """See `LoadedModel.profile`. Compiles once more: kernels must tell the profiler when they begin and end."""
        self.refuse_device_profile()
        traced = InductorTrace(self.module)
        run = self.runner_of(traced.callable, inputs)
        with traced.settings():
            run()
        run()
        (shaped,), _ = record(run, 1, shapes=True)
        timed, run_ms = record(run, runs, shapes=False)
        kernels = list(unwrapped(shaped.children))
        names = [event.name for event in kernels]
        rows = [list(unwrapped(each.children)) for each in timed]
        if any([event.name for event in row] != names for row in rows):
            raise UnsupportedError("torch's profiler saw other kernels from one run to the next")
        times_us = median_times([[event.duration_ns / 1e3 for event in row] for row in rows])
        layers = traced.layers(kernels)
        ops = [_op(*row) for row in zip(kernels, times_us, layers, strict=True)]
        for each, row in zip(timed, rows, strict=True):
            each.children = row  # what containers hold beside kernels is time between them
        return OpTimes(
            "torch.profiler, kernels compiled to tell their times",
            (*ops, between_ops("the wrapper's Python", timed)),
            run_ms,
        )


def cache_story(counters: Mapping[str, int], built: int) -> str:
    """What inductor's counters say of its cache after one compilation.

    Args:
        counters: torch's own, of inductor.
        built: libraries that the C++ compiler made meanwhile.
    """
    if counters.get("fxgraph_cache_hit"):
        return "hit"
    if counters.get("fxgraph_cache_miss"):
        return f"miss, {built} libraries built"
    # Weights packed for oneDNN cannot be stored, so inductor generates its code anew; unchanged kernels are kept.
    return f"bypassed, {built} libraries built"


def unwrapped(events: list[Event]) -> Iterator[Event]:
    """Operations among events: containers replaced by what they hold."""
    for event in events:
        if event.name.startswith(_CONTAINERS):
            yield from unwrapped(event.children)
        else:
            yield event


def _op(event: Event, time_us: float, layers: tuple[str, ...]) -> Op:
    flops, precision = multiplied(event)
    type_ = "fused" if "cpp_fused" in event.name else event.name if "::" in event.name else "overhead"
    return Op(
        name=event.name,
        type=type_,
        time_us=time_us,
        layers=layers,
        compute_unit="cpu",
        precision=precision,
        flops=flops,
    )


def _cache() -> Path:
    return compile_cache(f"torch-{version('torch')}")


def _built() -> int:
    return sum(1 for _ in _cache().rglob("*.so"))
