"""ExecuTorch's executor_runner, and the one of its Qualcomm backend: a time in the log, its form by the build's age.

Written from the tool's sources and from logs in public issues; not run by us on a phone.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from workers.android.tools.log import NUMBER, complaints, lines, number, whole
from workers.android.tools.tool import DelegateProof, PhoneTool, RemoteFiles, ToolOutput
from workers.contract import MeasureTask, RuntimeFacts

#: Runs per second of an invocation's length: the tool takes a number of runs, never a time.
_RUNS_PER_SECOND = 32
_LEAST_RUNS, _MOST_RUNS = 10, 500
#: First runs of a log that has each of them: they load weights and pages.
_WARM_UP_RUNS = 3
_ITERATION = re.compile(rf"Iteration (\d+) of (\d+): ({NUMBER}) ms")
_TOTAL = re.compile(rf"Model executed successfully (\d+) time\(s\) in ({NUMBER}) ms")
_QUALCOMM = re.compile(rf"(\d{{1,9}}) inference took ({NUMBER}) ms, avg ({NUMBER}) ms")
_LOADED = re.compile(rf"Model loaded in ({NUMBER}) ms")
#: Time since the start of the process: "I 00:00:00.437405 executorch:executor_runner.cpp:219] Inputs prepared."
_CLOCK = re.compile(r"^[IEDF] (\d\d):(\d\d):(\d\d\.\d{1,9}) executorch:[\w./-]{1,80}:\d+\] (.*)$")
_ACCELERATORS = {"Qnn ExecuTorch": "npu", "Neuropilot": "npu", "NeuroPilot": "npu", "vulkan": "gpu", "Vulkan": "gpu"}


class ExecutorRunner(PhoneTool):
    """Runs programs whose delegates were chosen when they were made; it reports on none of them."""

    binary: ClassVar[str] = "executor-runner"
    formats: ClassVar[tuple[str, ...]] = ("pte",)
    delegates: ClassVar[tuple[str, ...]] = ()
    published: ClassVar[str] = (
        "built from ExecuTorch with the Android NDK: its documentation, 'Building from Source', and its backends' pages"
    )

    def command(self, task: MeasureTask, files: RemoteFiles, seconds: float, *, profile: bool = False) -> list[str]:
        """See `PhoneTool.command`."""
        runs = min(max(round(seconds * _RUNS_PER_SECOND), _LEAST_RUNS), _MOST_RUNS)
        flags: dict[str, object] = {"model_path": files.model}
        if "iteration" in files.flags:  # Qualcomm's
            flags |= {"iteration": runs, "warm_up": _WARM_UP_RUNS}
        else:
            flags |= {"num_executions": runs, "cpu_threads": task.options.threads, "print_output": "none"}
            if profile:
                flags["etdump_path"] = f"{files.job}/model.etdump"
        # A flag that this binary does not know ends it: gflags takes no unknown ones.
        return [files.binary, *(f"--{name}={value}" for name, value in flags.items() if files.knows(name))]

    def read(self, text: str, extra: Mapping[str, str], asked: str | None = None) -> ToolOutput:
        """See `PhoneTool.read`."""
        said = lines(text)
        each = [number(found[3]) for line in said if (found := _ITERATION.search(line))]
        each_ms = [time for time in each if time is not None]
        loaded = next((number(found[1]) for line in said if (found := _LOADED.search(line))), None)
        proof = _proof(text, asked or "cpu")
        plain = ToolOutput(generation="unknown", delegate=proof, init_ms=loaded, errors=complaints(text))
        if len(each_ms) > _WARM_UP_RUNS:
            timed = each_ms[_WARM_UP_RUNS:]
            return replace(
                plain,
                generation="executorch with iterations",
                statistic="median",
                value_ms=statistics.median(timed),
                first_ms=each_ms[0],
                warm_up_ms=statistics.fmean(each_ms[:_WARM_UP_RUNS]),
                warm_up_runs=_WARM_UP_RUNS,
                runs=len(timed),
                min_ms=min(timed),
                max_ms=max(timed),
                std_ms=statistics.pstdev(timed),
            )
        for pattern, generation in ((_QUALCOMM, "executorch qualcomm"), (_TOTAL, "executorch")):
            found = next((found for line in said if (found := pattern.search(line))), None)
            count, total = (whole(found[1]), number(found[2])) if found else (None, None)
            if count and total is not None:
                return replace(plain, generation=generation, statistic="mean", value_ms=total / count, runs=count)
        return replace(
            plain,
            generation="executorch without times" if "Model executed successfully" in text else "unknown",
            # An old build runs once and says only when: that is a first inference, and no measurement.
            first_ms=each_ms[0] if each_ms else _first_by_clock(text),
            unread=("time of more than the first runs",),
        )

    def facts(self, outputs: Sequence[ToolOutput], task: MeasureTask, version: str) -> RuntimeFacts:
        """See `PhoneTool.facts`."""
        proof = outputs[0].delegate
        return RuntimeFacts(
            name=self.binary,
            version=version,
            options={"generation": outputs[0].generation, "how": "shell binary"},
            precision="unknown",
            compute_unit=proof.name or "unknown",
            evidence="; ".join(proof.evidence)
            or "the log names no backend; the program's own delegates are not reported",
        )


def _proof(text: str, asked: str) -> DelegateProof:
    """The backend whose lines are in the log; how much it took, none of them says."""
    for word, unit in _ACCELERATORS.items():
        if word in text:
            line = next(line for line in text.splitlines() if word in line).strip()
            return DelegateProof(asked=asked, name=unit, evidence=(f"lines of its backend in the log: {line[:160]}",))
    return DelegateProof(asked=asked)


def _first_by_clock(text: str) -> float | None:
    """Milliseconds from "Inputs prepared." to "Model executed successfully." by the log's own clock."""
    at: dict[str, float] = {}
    for line in text.splitlines():
        if (found := _CLOCK.match(line.strip())) is not None:
            seconds = int(found[1]) * 3600 + int(found[2]) * 60 + (number(found[3]) or 0.0)
            for sign in ("Inputs prepared", "Model executed successfully"):
                if found[4].startswith(sign):
                    at.setdefault(sign, seconds)
    if len(at) < 2 or (took := at["Model executed successfully"] - at["Inputs prepared"]) < 0:
        return None
    return took * 1e3
