"""Proof from the log that a delegate took the graph, or part of it, or nothing.

Tools exit 0 with CPU times when a delegate falls back, so only these lines tell. Some take back what others said
before: NNAPI claims all nodes, and the tool then says that none of them will be executed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from workers.android.tools.log import lines, whole
from workers.android.tools.tool import DelegateProof

#: Lines of evidence that are kept, and characters of each.
_MOST_LINES = 6
_MOST_CHARACTERS = 240
_REPLACING = re.compile(
    r"Replacing (\d+)(?: out of (\d+))? node\(s\) with delegate \(([^)]{0,80})\) node(?:, yielding (\d+) partitions)?"
    r"(?: for ([\w ]{1,40}))?"
)
_OUT_OF = re.compile(
    r"(?:([\w .-]{1,60}):\s*)?(\d{1,9}) nodes delegated out of (\d{1,9})(?: nodes)?(?:,? with (\d+) partitions)?"
)
_COMPLETELY = re.compile(r"Explicitly applied (.{1,60}?) delegate, and the model graph will be completely executed")
_PARTIALLY = re.compile(
    r"Explicitly applied (.{1,60}?) delegate, and the model graph will be partially executed by the delegate"
    r"(?: w/ (\d+) delegate kernels)?"
)
_NOT = re.compile(r"Though (.{1,60}?) delegate is explicitly applied, the model graph will not be\s+executed")
_GPU_KERNELS = re.compile(r"Created (\d+) GPU delegate kernels")
#: The delegate was taken back, or never came to be.
_UNDONE = re.compile(
    r"Restored original execution plan after delegate application failure|Failed to apply .{0,60}delegate"
    r"|(?:GPU|NNAPI|EXTERNAL|Hexagon) (?:acceleration|delegate) is (?:unsupported|not supported)"
    r"|No usable Dispatch runtime found|Failed to initialize Dispatch API"
    r"|Failed to create a dispatch delegate kernel"
)
#: The tool ends itself: full delegation was required, and is not what came of it.
_NOT_FULL = "Disallowed CPU fallback detected"
_ACCELERATORS = "NNAPI accelerators available"
_UNCONSUMED = re.compile(r"Unconsumed cmdline flags:(.*)")
_ECHOED = re.compile(r"^(Use gpu|Use NNAPI|Use npu|Use xnnpack|External delegate path)\s*: \[(.*)\]", re.IGNORECASE)

#: Words in the names that delegates give themselves, per option; a vendor's is any name but these and TensorFlow's own.
_NAMES: dict[str, tuple[str, ...]] = {
    "cpu": ("xnnpack",),
    "gpu": ("gpu", "_cl", "opencl", "mldrift", "ml_drift", "webgpu"),
    "nnapi": ("nnapi",),
}
#: Flags without which a delegate was never asked for, as the tool understood it.
_FLAGS = {"gpu": ("--use_gpu",), "nnapi": ("--use_nnapi",)}


def asked_in(text: str) -> str:
    """The delegate that a log says was asked for; a vendor's library by its name, else cpu."""
    asked = "cpu"
    for line in lines(text):
        if (found := _ECHOED.match(line)) is None:
            continue
        name, value = found[1].casefold(), found[2]
        if name == "external delegate path" and value:
            library = value.casefold()
            asked = next((vendor for vendor in ("qnn", "neuron", "tensor") if vendor in library), "external")
        elif value == "1" and name != "use xnnpack":
            asked = {"use gpu": "gpu", "use nnapi": "nnapi"}.get(name, "npu")
    return asked


@dataclass
class _Seen:
    """What the lines read so far say."""

    counts: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    partitions: int | None = None
    complete: bool | None = None
    none: bool = False
    #: What was claimed was taken back; only the tool's own word after it counts again.
    undone: bool = False
    name: str | None = None
    evidence: list[str] = field(default_factory=list)


def read_delegation(text: str, asked: str) -> DelegateProof:
    """Who executed the graph, by the log of one invocation; any text at all is answered."""
    seen = _Seen()
    for line in lines(text):
        if _read_line(line, asked, seen):
            seen.evidence.append(line.strip()[:_MOST_CHARACTERS])
    evidence = tuple(seen.evidence[-_MOST_LINES:])
    if seen.none:
        return DelegateProof(asked=asked, name=seen.name, delegated_nodes=0, complete=False, evidence=evidence)
    nodes = sum(taken for taken, _ in seen.counts.values()) if seen.counts else None
    totals = [total for _, total in seen.counts.values()]
    total = sum(total for total in totals if total is not None) if totals and None not in totals else None
    complete = seen.complete
    if complete is None and nodes is not None and total is not None:
        complete = nodes == total > 0
    return DelegateProof(
        asked=asked,
        name=seen.name,
        delegated_nodes=nodes,
        total_nodes=total,
        partitions=seen.partitions,
        complete=complete,
        evidence=evidence,
    )


def _read_line(line: str, asked: str, seen: _Seen) -> bool:
    """Take one line into account; whether it said anything of the delegate that was asked for."""
    if (found := _REPLACING.search(line)) is not None:
        if not _is_asked(found[3], asked):
            return False
        _count(seen, found[5] or "graph", found[1], found[2], found[4], found[3])
        return True
    if (found := _OUT_OF.search(line)) is not None:
        if not _is_asked(found[1] or "", asked):
            return False
        _count(seen, "delegate", found[2], found[3], found[4], found[1])
        return True
    if (found := _NOT.search(line)) is not None:
        if asked == "cpu" or not _is_asked(found[1], asked):
            return False
        seen.none, seen.undone, seen.name = True, True, found[1]
        return True
    if (found := _COMPLETELY.search(line)) is not None:
        if not _is_asked(found[1], asked):
            return False
        seen.complete, seen.none, seen.name = True, False, seen.name or found[1]
        return True
    if (found := _PARTIALLY.search(line)) is not None:
        if not _is_asked(found[1], asked):
            return False
        kernels = whole(found[2])
        seen.complete, seen.name = False, seen.name or found[1]
        seen.none, seen.partitions = kernels == 0, kernels or seen.partitions
        return True
    if asked == "gpu" and (found := _GPU_KERNELS.search(line)) is not None:
        seen.undone |= whole(found[1]) == 0
        seen.none |= seen.undone
        return True
    if asked != "cpu" and _UNDONE.search(line) is not None:
        seen.none, seen.undone, seen.complete = True, True, None
        return True
    if asked == "nnapi" and _ACCELERATORS in line:  # no proof, but all that NNAPI says of where it computes
        return True
    if asked != "cpu" and _NOT_FULL in line:
        seen.complete = False
        return True
    if (found := _UNCONSUMED.search(line)) is not None and any(flag in found[1] for flag in _FLAGS.get(asked, ())):
        seen.none = seen.undone = True
        return True
    return False


def _count(seen: _Seen, graph: str, taken: str, total: str | None, partitions: str | None, name: str | None) -> None:
    """Nodes taken of one graph; the last word on each counts."""
    if (nodes := whole(taken)) is None:
        return
    seen.counts[graph] = (nodes, whole(total))
    seen.none = seen.undone or not any(count for count, _ in seen.counts.values())
    seen.partitions = whole(partitions) or seen.partitions
    seen.name = (name or "").strip() or seen.name


def _is_asked(name: str, asked: str) -> bool:
    """Whether a delegate's name of itself is that of the one asked for: XNNPACK takes what others leave."""
    name = name.casefold()
    wanted = _NAMES.get(asked)
    if wanted is None:
        return "flex" not in name and not any(word in name for words in _NAMES.values() for word in words)
    return any(word in name for word in wanted)
