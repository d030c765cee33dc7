"""Per-operator times as TFLite's tools print them: old and new columns, and the CSV export.

Three tables of one profile hold the same rows: in the order they ran, by time, and summed by type. Only the first is
read, of the regular runs. What a delegate tells of its insides comes in a table of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from workers.android.tools.log import number, plain
from workers.contract import Op

#: Rows that are read of one table.
_MOST_ROWS = 20_000
_MOST_CHARACTERS = 400
_REGULAR = "Operator-wise Profiling Info for Regular Benchmark Runs"
_TITLE = re.compile(r"={5,}\s*(.*?)\s*={5,}")
_DELEGATE_INTERNAL = "Delegate internal"
#: A row of the printed table: type, start (old builds), first, average, share, share so far, memory, calls, name.
_ROW = re.compile(
    r"^\s*(?P<type>\S.*?)\s+(?:(?P<start>[\d.]{1,24})\s+)?(?P<first>[\d.]{1,24})\s+(?P<average>[\d.]{1,24})"
    r"\s+(?P<share>[\d.]{1,12})%\s+[\d.]{1,12}%\s+(?P<memory>[\d.]{1,24})\s+(?P<calls>\d{1,12})\s+(?P<name>\S.*)?$"
)
#: XNNPACK names its microkernels' arithmetic in its operators' names: "Convolution (NHWC, F16) IGEMM".
_ARITHMETIC = (
    (re.compile(r"\b(F16|PF16)\b"), "fp16"),
    (re.compile(r"\b(QS8|QU8|QC8|QD8|PQS8)\b"), "int8"),
    (re.compile(r"\b(F32|PF32)\b"), "fp32"),
)


@dataclass(frozen=True)
class OpTable:
    """The operators of one profile, in the order they ran."""

    ops: tuple[Op, ...] = ()
    #: What a delegate itself tells of the part it took: its time is in `ops` already, as one row or a few.
    inner: tuple[Op, ...] = ()

    @property
    def finest(self) -> tuple[Op, ...]:
        """All operators once: a delegate's own in place of its rows, where it tells."""
        kept = [op for op in self.ops if not _is_delegate(op.type)]
        if not self.inner or len(kept) == len(self.ops):
            return self.ops
        first = next(index for index, op in enumerate(self.ops) if _is_delegate(op.type))
        before = sum(not _is_delegate(op.type) for op in self.ops[:first])
        return (*kept[:before], *self.inner, *kept[before:])


def read_op_table(text: str, unit: str = "unknown") -> OpTable:
    """Read the printed tables or their CSV form; any text at all is answered.

    Args:
        text: standard output, or the exported file.
        unit: what the delegate that was asked for computes on.
    """
    ops: list[Op] = []
    inner: list[Op] = []
    # A text without the header of the regular runs is an export of an old build, or of part of it.
    in_regular = _REGULAR not in text
    rows: list[Op] | None = None
    into = ops
    for line in text.splitlines():
        said, _ = plain(line)
        if _REGULAR in said:
            in_regular, into, rows = True, ops, None
        elif "Profiling Info for Benchmark Initialization" in said:
            in_regular, rows = False, None
        elif _DELEGATE_INTERNAL in said:
            into, rows = inner, None
        elif (title := _TITLE.search(said)) is not None:
            rows = into if in_regular and title[1].startswith("Run Order") else None
        elif rows is not None and len(rows) < _MOST_ROWS and (op := _row(said, unit, inner=into is inner)) is not None:
            rows.append(op)
    return OpTable(tuple(ops), tuple(inner))


def _row(line: str, unit: str, *, inner: bool) -> Op | None:
    """One row of either form, or None."""
    if (found := _ROW.match(line)) is not None:
        return _op(found["type"], found["average"], found["name"] or "", unit, inner=inner)
    cells = [cell.strip() for cell in line.split(",")]
    # node type, first, avg_ms, %, cdf%, mem KB, times called, name: commas of names became tabs
    if len(cells) == 8 and cells[3].endswith("%") and cells[4].endswith("%"):
        return _op(cells[0], cells[2], cells[7], unit, inner=inner)
    return None


def _op(kind: str, average_ms: str, name: str, unit: str, *, inner: bool) -> Op | None:
    if (average := number(average_ms)) is None or not kind:
        return None
    name = name.strip()[:_MOST_CHARACTERS]
    kind = kind[:_MOST_CHARACTERS]
    by_delegate = inner or _is_delegate(kind)
    precision = next((word for pattern, word in _ARITHMETIC if pattern.search(kind) or pattern.search(name)), None)
    return Op(
        name=name or kind,
        type=kind,
        time_us=average * 1e3,
        compute_unit=("cpu" if "xnnpack" in kind.casefold() else unit) if by_delegate else "cpu",
        precision=precision if inner else None,
    )


def _is_delegate(kind: str) -> bool:
    """Whether a row is the whole part of the graph that a delegate took."""
    folded = kind.casefold()
    return "delegate" in folded or folded.startswith("litert_")
