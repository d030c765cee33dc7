"""exporters.files: rows as csv, json and parquet."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from device_registry.errors import BenchfarmError, UsageError
from exporters.files import export_rows, flat_row, write_csv, write_json
from tests.unit.builders import make_row

FIDELITY = {"snr_db": 42.4, "identical": False, "cosine": 0.999, "top1_agreement": None, "examples": 8}


def as_csv(*rows: dict[str, Any]) -> list[dict[str, str]]:
    """Rows written as csv and read again."""
    out = io.StringIO()
    assert write_csv(rows, out) == len(rows)
    return list(csv.DictReader(io.StringIO(out.getvalue())))


def as_json(*rows: dict[str, Any]) -> str:
    """Rows written as json."""
    out = io.StringIO()
    assert write_json(rows, out) == len(rows)
    return out.getvalue()


def test_json_is_the_rows_as_they_are() -> None:
    rows = [make_row(fidelity=FIDELITY, p50_ci_ms=[12.0, 12.5]), make_row(runtime="größer", model="a\nb")]
    text = as_json(*rows)
    assert json.loads(text) == rows
    assert text == json.dumps(rows, indent=2) + "\n"


def test_json_refuses_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        as_json(make_row(p50_ms=float("nan")))


def test_csv_has_one_flat_column_for_each_nested_value() -> None:
    (row,) = as_csv(make_row(fidelity=FIDELITY, p50_ci_ms=[12.0, 12.5], speedup_ci=[0.9, 1.1]))
    assert (row["p50_ci_ms_low"], row["p50_ci_ms_high"]) == ("12.0", "12.5")
    assert (row["speedup_ci_low"], row["speedup_ci_high"]) == ("0.9", "1.1")
    assert (row["fidelity_snr_db"], row["fidelity_identical"], row["fidelity_top1_agreement"]) == ("42.4", "False", "")
    assert json.loads(row["environment"]) == {"torch": "2"}
    assert json.loads(row["processes"]) == [{"job": 1, "p50_ms": 12.34}]


def test_csv_has_the_same_columns_where_nested_values_are_absent() -> None:
    whole, bare = as_csv(make_row(fidelity=FIDELITY, p50_ci_ms=[12.0, 12.5]), make_row())
    assert set(whole) == set(bare)
    assert (bare["p50_ci_ms_low"], bare["fidelity_snr_db"], bare["p99_ms"]) == ("", "", "")
    assert bare["p50_ms"] == "12.34"


def test_csv_keeps_commas_quotes_and_lines_inside_a_cell() -> None:
    (row,) = as_csv(make_row(model='a, "b"\nc'))
    assert row["model"] == 'a, "b"\nc'


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_a_spreadsheet_would_run_is_made_inert(begin: str) -> None:
    (row,) = as_csv(make_row(model=f"{begin}HYPERLINK(1)", device=f"d{begin}"))
    shown = begin.replace("\r", "\n")
    assert (row["model"], row["device"]) == (f"'{shown}HYPERLINK(1)", f"d{shown}")


def test_negative_numbers_are_no_formulas() -> None:
    (row,) = as_csv(make_row(p50_ms=-1.5, threads=-1))
    assert (row["p50_ms"], row["threads"]) == ("-1.5", "-1")


def test_no_rows_are_no_error() -> None:
    assert as_json() == "[]\n"
    assert as_csv() == []


@pytest.mark.parametrize(("format_", "write"), [("csv", write_csv), ("json", write_json)])
def test_a_file_holds_the_text_that_is_printed_without_one(
    format_: Any, write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.txt"
    assert export_rows([make_row(model="größer")], format_, path) == 1
    out = io.StringIO()
    write([make_row(model="größer")], out)
    assert path.read_text(encoding="utf-8") == out.getvalue()
    export_rows([make_row(model="größer")], format_, None)
    assert capsys.readouterr().out == out.getvalue()


@pytest.mark.parametrize("format_", ["csv", "json"])
def test_a_file_that_cannot_be_written_is_said_in_a_sentence(format_: Any, tmp_path: Path) -> None:
    with pytest.raises(BenchfarmError, match=r"cannot write .*No such file"):
        export_rows([make_row()], format_, tmp_path / "none" / "results.txt")


@pytest.mark.parametrize("format_", ["csv", "json", "parquet"])
def test_a_file_stands_whole_or_as_it_was(format_: Any, tmp_path: Path) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield make_row()
        raise RuntimeError("the database went away")

    path = tmp_path / "results.txt"
    path.write_text("before")
    with pytest.raises(RuntimeError):
        export_rows(broken(), format_, path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_plain_file_is_written_as_it_comes(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    export_rows([make_row()], "json", pipe)
    reader.join(20)
    assert json.loads(read[0]) == [make_row()]
    assert pipe.is_fifo()


@pytest.mark.parametrize("format_", ["csv", "json"])
def test_rows_are_written_as_they_come_and_not_held(format_: Any, tmp_path: Path) -> None:
    path, sizes = tmp_path / "results.txt", []

    def many() -> Iterator[dict[str, Any]]:
        for _ in range(300):
            sizes.extend(one.stat().st_size for one in tmp_path.iterdir())
            yield make_row()

    export_rows(many(), format_, path)
    assert 0 < sizes[200] < path.stat().st_size


def test_parquet_without_its_package_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'benchfarm\[parquet\]'"):
        export_rows([make_row()], "parquet", tmp_path / "results.parquet")


def test_parquet_goes_to_no_terminal() -> None:
    with pytest.raises(UsageError, match="give a file"):
        export_rows([make_row()], "parquet", None)


def test_parquet_comes_back_with_its_types(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "results.parquet"
    assert export_rows([make_row(fidelity=FIDELITY), make_row(p50_ci_ms=[12.0, 12.5])], "parquet", path) == 2
    first, second = parquet.read_table(path).to_pylist()
    assert (first["p50_ms"], first["threads"], first["fidelity_identical"]) == (12.34, 1, False)
    assert (first["p50_ci_ms_low"], second["p50_ci_ms_low"]) == (None, 12.0)


def test_parquet_types_a_column_whose_first_rows_are_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("exporters.files._ROW_GROUP", 2)
    path = tmp_path / "results.parquet"
    empty = make_row(energy_per_inference_mj=None, p99_ms=None, artifact_bytes=None)
    later = make_row(energy_per_inference_mj=4.5, p99_ms=3, artifact_bytes=10, fidelity=FIDELITY)
    assert export_rows([empty, empty, empty, later], "parquet", path) == 4
    table = parquet.read_table(path)
    assert parquet.ParquetFile(path).num_row_groups == 2
    row = table.to_pylist()[3]
    assert (row["energy_per_inference_mj"], row["p99_ms"], row["artifact_bytes"]) == (4.5, 3.0, 10)
    assert row["fidelity_snr_db"] == 42.4


def test_no_rows_are_a_parquet_file_without_columns(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "results.parquet"
    assert export_rows([], "parquet", path) == 0
    assert parquet.read_table(path).num_rows == 0


def test_a_flat_row_has_no_nested_values() -> None:
    flat = flat_row(make_row(fidelity=FIDELITY))
    assert not any(isinstance(value, dict | list) for value in flat.values())
