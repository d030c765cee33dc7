"""Runtimes of phones: benchmark tools that run there. This host only drives them (`workers.devices.android`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from device_registry.errors import UsageError
from workers.android.settings import load_settings
from workers.android.tools.benchmark_model import BenchmarkModel
from workers.android.tools.executor_runner import ExecutorRunner
from workers.android.tools.ort_perf_test import OrtPerfTest
from workers.android.tools.tool import PhoneTool
from workers.contract import MeasureTask
from workers.errors import UnsupportedError
from workers.runtimes.runtime import LoadedModel, Runtime

#: Every tool by its name, which is its runtime's.
PHONE_TOOLS: Mapping[str, PhoneTool] = {
    tool.binary: tool for tool in (BenchmarkModel(), ExecutorRunner(), OrtPerfTest())
}


class PhoneRuntime(Runtime):
    """A tool as a runtime: name, formats and options for plans; it loads nothing here."""

    device_kinds: ClassVar[tuple[str, ...]] = ("android",)
    no_answers: ClassVar[str | None] = "tools on phones time a program, and do not answer to a data set"
    #: What drives the phone.
    tool: ClassVar[PhoneTool]

    def missing(self) -> tuple[str, str] | None:
        """Say when no build of the tool is configured on this host."""
        name = self.tool.binary
        try:
            settings = load_settings()
        except UsageError as error:
            return str(error), "mend android.toml (docs/android.md)"
        if settings.tools.get(name):
            return None
        return (
            f"no {name} binary is configured for any ABI of a phone",
            f"add [tools.{name}.arm64-v8a] to android.toml (docs/android.md), then benchfarm android provision",
        )

    def import_library(self) -> None:
        """There is none here."""

    def load(self, artifact: Path, task: MeasureTask) -> LoadedModel:
        """Refuse: this host has nothing to run it on."""
        raise UnsupportedError(f"{self.tool.binary} runs on phones only")


class BenchmarkModelRuntime(PhoneRuntime):
    """TensorFlow Lite's and LiteRT's benchmark_model."""

    tool: ClassVar[PhoneTool] = PHONE_TOOLS[BenchmarkModel.binary]
    formats: ClassVar[tuple[str, ...]] = BenchmarkModel.formats
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "delegate": BenchmarkModel.delegates,
        "require_full_delegation": ("no", "yes"),
    }


class ExecutorRunnerRuntime(PhoneRuntime):
    """ExecuTorch's executor_runner: a program's delegates were chosen when it was made."""

    tool: ClassVar[PhoneTool] = PHONE_TOOLS[ExecutorRunner.binary]
    formats: ClassVar[tuple[str, ...]] = ExecutorRunner.formats


class OrtPerfTestRuntime(PhoneRuntime):
    """ONNX Runtime's onnxruntime_perf_test."""

    tool: ClassVar[PhoneTool] = PHONE_TOOLS[OrtPerfTest.binary]
    formats: ClassVar[tuple[str, ...]] = OrtPerfTest.formats
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "delegate": OrtPerfTest.delegates,
        "require_full_delegation": ("no", "yes"),
    }
