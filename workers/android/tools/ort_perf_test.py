"""ONNX Runtime's onnxruntime_perf_test: a summary with percentiles in seconds.

Written from the tool's sources and from outputs in public documentation; not run by us on a phone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from workers.android.tools.log import NUMBER, complaints, lines, number, scaled, whole
from workers.android.tools.tool import (
    NNAPI_DEPRECATED,
    DelegateProof,
    PhoneTool,
    RemoteFiles,
    ToolOutput,
    asked_delegate,
    least_proven,
    requires_full,
)
from workers.contract import MeasureTask, RuntimeFacts

_SUMMARY = re.compile(
    rf"(Session creation time cost|First inference time cost|Average inference time cost|Average time cost)(?: total)?"
    rf"\s*:\s*({NUMBER})\s*(ms|s)\b"
)
_COUNT = re.compile(r"(?:Total inference requests|Total iterations|Runs)\s*:\s*(\d{1,15})")
_LATENCY = re.compile(rf"(Min|Max|P50|P90|P95|P99) Latency(?: is|:)\s*({NUMBER})\s*s")
_PEAK = re.compile(r"Peak working set size\s*:\s*(\d{1,18})")
#: The session's log of where nodes went, at verbose level.
_PLACED = re.compile(r"placed on \[(\w{1,60})ExecutionProvider\]\. Number of nodes: (\d{1,9})")
#: The session's options, which the same log tells: with this one a session starts only if the CPU has no node.
_NO_FALLBACK = re.compile(r"session\.disable_cpu_ep_fallback\s*:\s*1\b")
#: The log's level is a letter in brackets: "2020-01-08 11:14:46.90 [E:onnxruntime:, session.cc:1] ...".
_ERROR = re.compile(r"\[E:onnxruntime:")
_PROVIDERS = {"xnnpack": "Xnnpack", "nnapi": "Nnapi", "qnn": "QNN"}
_TO_MS = {"ms": 1.0, "s": 1e3}


class OrtPerfTest(PhoneTool):
    """CPU, XNNPACK, NNAPI and QNN, as far as the build has them."""

    binary: ClassVar[str] = "ort-perf-test"
    formats: ClassVar[tuple[str, ...]] = ("onnx",)
    delegates: ClassVar[tuple[str, ...]] = ("cpu", "xnnpack", "nnapi", "qnn")
    published: ClassVar[str] = "built from ONNX Runtime with the Android NDK: its documentation, 'Build for Android'"

    def command(self, task: MeasureTask, files: RemoteFiles, seconds: float, *, profile: bool = False) -> list[str]:
        """See `PhoneTool.command`. The tool warms up with one run, and takes whole seconds."""
        asked = asked_delegate(task)
        words = [files.binary, "-m", "duration", "-t", str(max(math.ceil(seconds), 1)), "-I", "-s"]
        words += ["-x", str(task.options.threads), "-e", asked]
        if files.delegate.options and asked == "qnn":
            words += ["-i", files.delegate.options]
        if asked != "cpu":
            # The log says where the nodes went; without a fallback a session that starts is proof by itself.
            words.append("-v")
            if requires_full(task):
                words += ["-C", "session.disable_cpu_ep_fallback|1"]
        if profile:
            words += ["-p", f"{files.job}/profile"]
        return [*words, files.model]

    def read(self, text: str, extra: Mapping[str, str], asked: str | None = None) -> ToolOutput:
        """See `PhoneTool.read`."""
        summary: dict[str, float] = {}
        latency: dict[str, float] = {}
        runs = peak = None
        for line in lines(text):
            if (found := _SUMMARY.search(line)) is not None and (value := number(found[2])) is not None:
                summary[found[1]] = value * _TO_MS[found[3]]
            elif (found := _LATENCY.search(line)) is not None and (value := number(found[2])) is not None:
                latency[found[1]] = value * 1e3
            elif (found := _COUNT.search(line)) is not None:
                runs = whole(found[1])
            elif (found := _PEAK.search(line)) is not None:
                peak = whole(found[1])
        mean = summary.get("Average inference time cost", summary.get("Average time cost"))
        median = latency.get("P50")
        chosen = median if median is not None else mean
        errors = tuple(line.strip()[:300] for line in text.splitlines() if _ERROR.search(line))[-20:]
        return ToolOutput(
            generation="onnxruntime" if summary else "unknown",
            statistic=None if chosen is None else "mean" if median is None else "median",
            value_ms=chosen if runs != 0 else None,
            init_ms=summary.get("Session creation time cost"),
            # Printed in whole milliseconds: 0 says less than a millisecond, no time.
            first_ms=scaled(summary.get("First inference time cost") or None, 1.0),
            warm_up_runs=1 if summary else None,
            runs=runs,
            min_ms=latency.get("Min"),
            max_ms=latency.get("Max"),
            p90_ms=latency.get("P90"),
            p95_ms=latency.get("P95"),
            p99_ms=latency.get("P99"),
            peak_memory_bytes=peak or None,
            delegate=_proof(text, asked or "cpu", started=bool(summary)),
            errors=errors or complaints(text),
            unread=() if chosen is not None else ("average inference time",),
        )

    def facts(self, outputs: Sequence[ToolOutput], task: MeasureTask, version: str) -> RuntimeFacts:
        """See `PhoneTool.facts`."""
        proof = least_proven(outputs)
        said = list(proof.evidence) or ["the log does not say where the nodes went"]
        share = proof.share
        if requires_full(task) and asked_delegate(task) != "cpu" and share is None and outputs[0].value_ms is not None:
            said = ["the session started with the fallback to the CPU disabled"]
            proof = DelegateProof(asked=proof.asked, name=proof.name, complete=True)
            share = 1.0
        return RuntimeFacts(
            name=self.binary,
            version=version,
            options={"delegate": asked_delegate(task), "how": "shell binary"},
            precision="unknown",
            compute_unit=proof.compute_unit,
            evidence="; ".join([*said, *([NNAPI_DEPRECATED] if proof.asked == "nnapi" else [])]),
            delegated_share=None if proof.asked == "cpu" else share,
        )


def _proof(text: str, asked: str, *, started: bool) -> DelegateProof:
    """Where the session's verbose log says the nodes went; the last such log counts."""
    placed: dict[str, int] = {}
    evidence = []
    for line in lines(text):
        if (found := _PLACED.search(line)) is not None:
            placed[found[1]] = whole(found[2]) or 0
            evidence.append(line.strip()[-160:])
    name = _PROVIDERS.get(asked)
    if name is not None and not placed and started and (option := _NO_FALLBACK.search(text)) is not None:
        return DelegateProof(asked=asked, name=name, complete=True, evidence=(f"the session started with {option[0]}",))
    if name is None or not placed or not started:
        return DelegateProof(asked=asked, name=name, evidence=tuple(evidence[-4:]))
    taken, total = placed.get(name, 0), sum(placed.values())
    return DelegateProof(
        asked=asked,
        name=name,
        delegated_nodes=taken,
        total_nodes=total,
        complete=taken == total > 0,
        evidence=tuple(evidence[-4:]),
    )
