"""Result rows as files: csv, json, parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from device_registry.errors import BenchfarmError, UsageError


def export_rows(
    rows: Sequence[Mapping[str, Any]], format_: Literal["csv", "json", "parquet"], path: Path | None
) -> str | None:
    """Write rows to a file, or return the text where no file is given. Nested values become flat columns or JSON text.

    Raises:
        UsageError: parquet without pyarrow.
        BenchfarmError: the file cannot be written.
    """
    if format_ == "parquet":
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise UsageError("parquet needs pyarrow: pip install 'benchfarm[parquet]'") from None
        table = pa.Table.from_pylist([flat_row(row) for row in rows])
        try:
            pq.write_table(table, path)
        except OSError as error:
            raise BenchfarmError(f"cannot write {path}: {error.strerror or error}") from error
        return None
    text = (
        json.dumps(list(rows), indent=2, allow_nan=False) + "\n"
        if format_ == "json"
        else _csv([flat_row(row) for row in rows])
    )
    if path is None:
        return text
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BenchfarmError(f"cannot write {path}: {error.strerror}") from error
    return None


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def flat_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of results without nested values: flat columns, else JSON text."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name == "fidelity":
            for part in ("snr_db", "cosine", "top1_agreement", "identical"):
                flat[f"fidelity_{part}"] = value[part] if value is not None else None
        elif name in ("p50_ci_ms", "speedup_ci"):
            flat[f"{name}_low"], flat[f"{name}_high"] = value or (None, None)
        elif isinstance(value, dict | list):
            flat[name] = json.dumps(value)
        else:
            flat[name] = value
    return flat
