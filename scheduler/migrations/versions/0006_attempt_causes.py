"""Attempts say what they failed for: a job keeps only what it failed for in the end.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_LAST = "attempt.id = (SELECT max(other.id) FROM attempt AS other WHERE other.job_id = attempt.job_id)"


def upgrade() -> None:
    """Add the columns; of what there is, lost attempts are known, and the last attempts of jobs that failed."""
    op.add_column("attempt", sa.Column("failure_cause", sa.String(length=20), nullable=True))
    op.add_column("attempt", sa.Column("failure_code", sa.String(length=50), nullable=True))
    op.execute(
        sa.text(
            "UPDATE attempt SET failure_cause = 'infrastructure', failure_code = 'lost' "
            "WHERE state IN ('lost', 'stale')"
        )
    )
    for name in ("failure_cause", "failure_code"):
        op.execute(
            sa.text(
                f"UPDATE attempt SET {name} = (SELECT job.{name} FROM job WHERE job.id = attempt.job_id) "  # noqa: S608
                "WHERE state = 'finished' AND message IS NOT NULL AND job_id IN "
                f"(SELECT id FROM job WHERE state = 'failed') AND {_LAST}"
            )
        )
