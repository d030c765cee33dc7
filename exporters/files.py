"""Result rows as files: csv, json, parquet; written as they come, so that no more than a portion is ever held."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

from device_registry.errors import BenchfarmError, UsageError

Format = Literal["csv", "json", "parquet"]
Rows = Iterable[Mapping[str, Any]]

#: A spreadsheet takes text that begins so for a formula, and runs it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
#: Rows of one row group of a parquet file.
_ROW_GROUP = 2_000
#: Columns whose first rows may all be empty are typed by their names.
_INTEGERS = (
    *("run", "threads", "batch", "artifact_bytes", "peak_rss_bytes", "rss_after_imports_bytes"),
    "accuracy_examples",
)
_FLOATS = (
    "_ms", "_mj", "_share", "_hz", "_low", "_high", "_db", "_cosine", "_agreement", "_median", "_per_s", "speedup",
    "offset_s", "value", "_top1", "_top5", "_f1_macro", "_wer",
)  # fmt: skip
_BOOLEANS = ("simulated", "fidelity_identical")


def export_rows(rows: Rows, format_: Format, path: Path | None) -> int:
    """Write rows to a file, or as text to standard output. A file stands whole or not at all.

    Args:
        rows: read once.
        format_: nested values become flat columns or JSON text, but in json, where they stay as they are.
        path: the file; None: standard output, which parquet cannot go to.

    Returns:
        How many rows were written.

    Raises:
        UsageError: parquet without a file, or without pyarrow.
        BenchfarmError: the file cannot be written.
    """
    if format_ == "parquet":
        write = _parquet_writer()
        if path is None:
            raise UsageError("parquet is not text: give a file with --output")
        with whole_file(path) as file:
            return write(rows, file)
    write_text = write_csv if format_ == "csv" else write_json
    if path is None:
        return write_text(rows, sys.stdout)
    with whole_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        written = write_text(rows, text)
        text.detach()
        return written


def write_json(rows: Rows, out: IO[str]) -> int:
    """One JSON list, one row after another. Refuses what JSON has no word for."""
    count = 0
    for row in rows:
        text = json.dumps(row, indent=2, allow_nan=False)
        out.write(("[\n  " if count == 0 else ",\n  ") + text.replace("\n", "\n  "))
        count += 1
    out.write("\n]\n" if count else "[]\n")
    return count


def write_csv(rows: Rows, out: IO[str]) -> int:
    """Flat columns, named in the first line; those of the first row are those of all."""
    writer: csv.DictWriter[str] | None = None
    count = 0
    for row in rows:
        flat = flat_row(row)
        if writer is None:
            writer = csv.DictWriter(out, list(flat), lineterminator="\n")
            writer.writeheader()
        writer.writerow({name: _safe(value) for name, value in flat.items()})
        count += 1
    return count


def flat_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of results without nested values: flat columns, else JSON text."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name == "fidelity":
            for part in ("snr_db", "cosine", "top1_agreement", "identical"):
                flat[f"fidelity_{part}"] = value[part] if value is not None else None
        elif name == "accuracy":
            for part in ("top1", "top5", "f1_macro", "wer", "examples", "data"):
                flat[f"accuracy_{part}"] = value[part] if value is not None else None
            low, high = (value or {}).get("top1_ci") or (None, None)
            flat["accuracy_top1_low"], flat["accuracy_top1_high"] = low, high
        elif name in ("p50_ci_ms", "speedup_ci", "value_ci"):
            flat[f"{name}_low"], flat[f"{name}_high"] = value or (None, None)
        elif isinstance(value, dict | list):
            flat[name] = json.dumps(value)
        else:
            flat[name] = value
    return flat


def _safe(value: Any) -> Any:
    """Text that a spreadsheet would run stands behind an apostrophe; numbers stay numbers.

    A carriage return is a line's end like another: csv writes it unquoted between lines that end without one.
    """
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if value.startswith(_FORMULA) else text


def _parquet_writer() -> Callable[[Rows, IO[bytes]], int]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError("parquet needs pyarrow: pip install 'benchfarm[parquet]'") from None

    types = {"integer": pa.int64(), "float": pa.float64(), "boolean": pa.bool_(), "text": pa.string()}

    def write(rows: Rows, out: IO[bytes]) -> int:
        left = iter(rows)
        writer: Any = None
        count = 0
        while portion := [flat_row(row) for row in islice(left, _ROW_GROUP)]:
            if writer is None:
                schema = pa.schema([(name, types[_kind(name, portion)]) for name in portion[0]])
                writer = pq.ParquetWriter(out, schema)
            writer.write_table(pa.Table.from_pylist(portion, schema=writer.schema))
            count += len(portion)
        if writer is None:
            writer = pq.ParquetWriter(out, pa.schema([]))
        writer.close()
        return count

    return write


def _kind(name: str, rows: list[dict[str, Any]]) -> str:
    """The type of a column: by its name, which later rows keep to as well, else by its first value."""
    if name in _INTEGERS:
        return "integer"
    if name in _BOOLEANS:
        return "boolean"
    if name.endswith(_FLOATS):
        return "float"
    first = next((row[name] for row in rows if row[name] is not None), "")
    return {bool: "boolean", int: "integer", float: "float"}.get(type(first), "text")


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its place when it is whole; what is no plain file (a pipe, a device) is written as it comes."""
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        half = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with half.open("xb") as file:
                yield file
            half.replace(path)
        except BaseException:
            half.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise BenchfarmError(f"cannot write {path}: {error.strerror or error}") from error
