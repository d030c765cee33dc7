"""Telemetry: channels apart from readings, readings between runs too, and what an attempt keeps in the store.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_OF_ATTEMPT = sa.text("attempt_id IS NOT NULL")


def upgrade() -> None:
    """Make telemetry anew, and carry over the readings that are there."""
    _set_old_aside()
    op.create_table(
        "sensor_channel",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sensor", sa.String(length=50), nullable=False),
        sa.Column("domain", sa.String(length=100), nullable=False),
        sa.Column("quantity", sa.String(length=50), nullable=False),
        sa.Column("unit", sa.String(length=20), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("sensor", "domain", "quantity", "unit", name="one_channel_per_meaning"),
    )
    op.create_table(
        "telemetry",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("device_id", sa.Integer(), nullable=True),
        sa.Column("attempt_id", sa.Integer(), nullable=True),
        sa.Column("channel_id", sa.Integer(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("quality", sa.String(length=20), nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    _carry_over()
    op.create_index(
        "telemetry_by_time",
        "telemetry",
        ["at"],
        postgresql_using="brin",
        postgresql_with={"autosummarize": True, "pages_per_range": 32},
    )
    op.create_index("telemetry_by_device", "telemetry", ["device_id", "at"])
    op.create_index(
        "telemetry_by_attempt",
        "telemetry",
        ["attempt_id"],
        sqlite_where=_OF_ATTEMPT,
        postgresql_where=_OF_ATTEMPT,
    )
    op.add_column("attempt", sa.Column("telemetry_sha256", sa.String(length=64), nullable=True))
    op.add_column("attempt", sa.Column("raw_sha256", sa.String(length=64), nullable=True))
    op.add_column("attempt", sa.Column("clock_offset_s", sa.Float(), nullable=True))
    _name_raw_times()


def _set_old_aside() -> None:
    op.drop_index("ix_telemetry_attempt_id", table_name="telemetry")
    op.drop_index("telemetry_by_device", table_name="telemetry")
    op.rename_table("telemetry", "telemetry_0003")
    if op.get_bind().dialect.name == "postgresql":  # which keeps the names of what belongs to a table
        op.execute(sa.text("ALTER INDEX telemetry_pkey RENAME TO telemetry_0003_pkey"))
        op.execute(sa.text("ALTER SEQUENCE telemetry_id_seq RENAME TO telemetry_0003_id_seq"))


def _carry_over() -> None:
    """In the order that they came, under new numbers; a value that is no number is none, on either database."""
    meaning = "sensor, domain, quantity, unit"
    number = "abs(value) <= CAST(1.7976931348623157e308 AS double precision)"
    finite = f"CASE WHEN {number} THEN value END"
    quality = f"CASE WHEN value IS NULL OR {number} THEN quality ELSE 'implausible' END"
    op.execute(
        sa.text(
            f"INSERT INTO sensor_channel ({meaning}) SELECT {meaning} FROM telemetry_0003 "  # noqa: S608
            "GROUP BY sensor, domain, quantity, unit ORDER BY min(id)"
        )
    )
    op.execute(
        sa.text(
            "INSERT INTO telemetry (at, device_id, attempt_id, channel_id, value, quality) "  # noqa: S608
            f"SELECT at, device_id, attempt_id, sensor_channel.id, {finite}, {quality} FROM telemetry_0003 "
            f"JOIN sensor_channel USING ({meaning}) ORDER BY telemetry_0003.id"
        )
    )
    op.drop_table("telemetry_0003")


def _name_raw_times() -> None:
    """Attempts name their raw times, so that they are found when they are old."""
    raw = {
        # Of a document with a NUL anywhere it reads no part.
        "postgresql": "CASE WHEN position('\\u0000' in CAST(document AS text)) = 0 "
        "THEN document #>> '{result,measurement,raw,sha256}' END",
        "sqlite": "json_extract(document, '$.result.measurement.raw.sha256')",
    }[op.get_bind().dialect.name]
    op.execute(
        sa.text(
            f"UPDATE attempt SET raw_sha256 = (SELECT {raw} FROM result "  # noqa: S608
            "WHERE result.attempt_id = attempt.id) WHERE id IN (SELECT attempt_id FROM result)"
        )
    )
