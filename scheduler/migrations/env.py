"""Alembic's environment: migrations run on a connection that benchfarm opened, never on a URL from a file."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

import scheduler.evaluation_table
import scheduler.watch_tables  # noqa: F401  # registers the tables, and those of scheduler.tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
