"""Inserts of many rows without what SQLAlchemy does for each of their values, which costs more than the database."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    JSON,
    Connection,
    Dialect,
    Insert,
    Row,
    Select,
    Table,
    Text,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert

from device_registry.tables import JsonText

_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
#: Columns of a row, and those of a unique constraint.
_Names = tuple[str, ...]


def insert_rows(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, key: _Names = (), **common: Any
) -> None:
    """Insert many rows.

    Args:
        connection: inside a transaction that writes.
        table: where to.
        rows: all with the same columns; values as JSON has them, of a JSON column its text.
        key: columns of a unique constraint: a row of the same key that is there already gets the new values instead.
        common: columns that have the same value in all rows, of any type.
    """
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(*_of_records(connection, table, rows, common, key))
        return
    # As many executions of one prepared statement: numbers go down as they are.
    dialect = connection.dialect
    text, order = _prepared(dialect, table, (*rows[0], *common), key)
    same = {name: _bound(dialect, table, name, value) for name, value in common.items()}
    pick = itemgetter(*order)
    connection.exec_driver_sql(text, [pick({**same, **row}) for row in rows])


def insert_returning(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], returning: _Names, **common: Any
) -> Sequence[Row[Any]]:
    """Insert at least one row, of integers and text only; returns columns of what was inserted, in any order."""
    added, given = _of_records(connection, table, rows, common, ())
    return connection.execute(_returning(added, returning), given).all()


def _of_records(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], common: Mapping[str, Any], key: _Names
) -> tuple[Insert, dict[str, Any]]:
    """One statement that takes all rows as one JSON parameter, and its parameters."""
    same = {f"same_{name}": value for name, value in common.items()}
    return _inserting(connection.dialect.name, table, tuple(rows[0]), tuple(common), key), {
        "records": json.dumps(rows),
        **same,
    }


@lru_cache(maxsize=64)
def _inserting(dialect: str, table: Table, names: _Names, common: _Names, key: _Names) -> Insert:
    same = [bindparam(f"same_{name}", type_=table.c[name].type) for name in common]
    records = _on_postgresql if dialect == "postgresql" else _on_sqlite
    given = records(table, names).add_columns(*same)
    added: Insert = _INSERTS[dialect](table).from_select([*names, *common], given)
    resolved: Insert = _resolved(added, (*names, *common), key)
    return resolved


@lru_cache(maxsize=64)
def _returning(added: Insert, names: _Names) -> ReturningInsert[Any]:
    return added.returning(*(added.table.c[name] for name in names))


def _on_postgresql(table: Table, names: _Names) -> Select[Any]:
    # What a JSON column gets is a string among the rows: it becomes JSON where it goes.
    documents = {name for name in names if isinstance(table.c[name].type, JSON)}
    kinds = [column(name, Text() if name in documents else table.c[name].type) for name in names]
    records = func.json_to_recordset(bindparam("records", type_=JsonText())).table_valued(*kinds)
    given = records.render_derived(name="given", with_types=True).c
    return select(*(cast(given[name], JSON) if name in documents else given[name] for name in names)).where(true())


def _on_sqlite(table: Table, names: _Names) -> Select[Any]:
    each = func.json_each(bindparam("records", type_=Text)).table_valued("value")
    values = (func.json_extract(each.c.value, literal_column(f"'$.{name}'")) for name in names)
    return select(*values).where(true())


def _resolved(added: Any, names: _Names, key: _Names) -> Any:
    """An insert that changes the row of the same key, where there is one."""
    if not key:
        return added
    changed = {name: added.excluded[name] for name in names if name not in key}
    return added.on_conflict_do_update(index_elements=list(key), set_=changed)


@lru_cache(maxsize=64)
def _prepared(dialect: Dialect, table: Table, names: _Names, key: _Names) -> tuple[str, _Names]:
    """The text of an insert, and the order of its parameters."""
    added = _resolved(_INSERTS[dialect.name](table), names, key)
    compiled = added.compile(dialect=dialect, column_keys=list(names))
    return str(compiled), tuple(compiled.positiontup)


def _bound(dialect: Dialect, table: Table, name: str, value: Any) -> Any:
    """A value as the driver takes it."""
    processor = table.c[name].type.dialect_impl(dialect).bind_processor(dialect)
    return value if processor is None else processor(value)
