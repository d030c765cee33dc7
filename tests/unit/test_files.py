"""exporters.files: rows as csv, json and parquet."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from device_registry.errors import BenchfarmError, UsageError
from exporters.files import export_rows
from tests.unit.builders import make_row

FIDELITY = {"snr_db": 42.4, "identical": False, "cosine": 0.999, "top1_agreement": None, "examples": 8}


def as_csv(*rows: dict[str, Any]) -> list[dict[str, str]]:
    """Rows written as csv and read again."""
    text = export_rows(rows, "csv", None)
    assert text is not None
    return list(csv.DictReader(io.StringIO(text)))


def test_json_is_the_rows_as_they_are() -> None:
    rows = [make_row(fidelity=FIDELITY, p50_ci_ms=[12.0, 12.5]), make_row(runtime="größer")]
    text = export_rows(rows, "json", None)
    assert text is not None
    assert json.loads(text) == rows
    assert text.endswith("\n")


def test_json_refuses_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        export_rows([make_row(p50_ms=float("nan"))], "json", None)


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


def test_no_rows_are_no_error() -> None:
    assert export_rows([], "json", None) == "[]\n"
    assert (export_rows([], "csv", None) or "").strip() == ""


@pytest.mark.parametrize("format_", ["csv", "json"])
def test_a_file_holds_the_text_that_is_printed_without_one(format_: Any, tmp_path: Path) -> None:
    path = tmp_path / "results.txt"
    assert export_rows([make_row(model="größer")], format_, path) is None
    assert path.read_text(encoding="utf-8") == export_rows([make_row(model="größer")], format_, None)


@pytest.mark.parametrize("format_", ["csv", "json"])
def test_a_file_that_cannot_be_written_is_said_in_a_sentence(format_: Any, tmp_path: Path) -> None:
    with pytest.raises(BenchfarmError, match=r"cannot write .*No such file"):
        export_rows([make_row()], format_, tmp_path / "none" / "results.txt")


def test_parquet_without_its_package_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'benchfarm\[parquet\]'"):
        export_rows([make_row()], "parquet", tmp_path / "results.parquet")


def test_parquet_comes_back_with_its_types(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "results.parquet"
    assert export_rows([make_row(fidelity=FIDELITY), make_row(p50_ci_ms=[12.0, 12.5])], "parquet", path) is None
    first, second = parquet.read_table(path).to_pylist()
    assert (first["p50_ms"], first["threads"], first["fidelity_identical"]) == (12.34, 1, False)
    assert (first["p50_ci_ms_low"], second["p50_ci_ms_low"]) == (None, 12.0)
