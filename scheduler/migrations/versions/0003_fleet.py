"""A fleet: requirements and lanes, owners and durations of jobs, hosts that come and go, devices that are quarantined.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_QUEUED = sa.text("state = 'queued'")
_NOT_BEGUN = sa.text("state IN ('blocked', 'queued')")
_AWAKE = sa.text("followed_until IS NOT NULL AND NOT resting")
_MAKES = sa.text("makes_key IS NOT NULL")
_WAITS_UNTIL = sa.text("queue_until IS NOT NULL AND state IN ('blocked', 'queued')")


def upgrade() -> None:
    """Add what a fleet needs; what was queued for one host goes on."""
    _hosts_devices_and_runs()
    op.create_table(
        "requirement",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("place", sa.String(length=20), nullable=False),
        sa.Column("selector", sa.Text(), nullable=False),
        sa.Column("device_id", sa.Integer(), nullable=True),
        sa.Column("host_id", sa.Integer(), nullable=True),
        sa.Column("needs", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"]),
        sa.ForeignKeyConstraint(["host_id"], ["host.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_table(
        "payload",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_table(
        "duration",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("expected_s", sa.Float(), nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.add_column("point", sa.Column("process_medians", sa.JSON(), nullable=True))
    op.create_index("run_by_follower", "sweep_run", ["followed_until"], sqlite_where=_AWAKE, postgresql_where=_AWAKE)
    with op.batch_alter_table("job") as job:
        job.add_column(sa.Column("requirement_id", sa.Integer(), nullable=True))
        job.add_column(sa.Column("payload_id", sa.Integer(), nullable=True))
        job.add_column(sa.Column("owner", sa.String(length=200), nullable=True))
        job.add_column(sa.Column("rank", sa.Float(), nullable=True))
        job.add_column(sa.Column("expected_s", sa.Float(), nullable=True))
        job.add_column(sa.Column("duration_key", sa.String(length=64), nullable=True))
        job.add_column(sa.Column("queue_until", sa.DateTime(timezone=True), nullable=True))
        job.add_column(sa.Column("avoid", sa.JSON(), nullable=True))
        job.add_column(sa.Column("canary", sa.Boolean(), nullable=True))
    _fill_jobs()
    op.drop_index("job_by_order", table_name="job")
    # PostgreSQL names constraints by itself; SQLite's have no names, and go with the column.
    constraint = "job_host_id_fkey" if op.get_bind().dialect.name == "postgresql" else None
    with op.batch_alter_table("job") as job:
        if constraint is not None:
            job.drop_constraint(constraint, type_="foreignkey")
        job.drop_column("host_id")
        job.drop_column("payload")
        for name, kind in _REQUIRED.items():
            job.alter_column(name, existing_type=kind, nullable=False)
        job.create_foreign_key("job_requirement_id_fkey", "requirement", ["requirement_id"], ["id"])
        job.create_foreign_key("job_payload_id_fkey", "payload", ["payload_id"], ["id"])
    lane = ["requirement_id", "owner", "rank", "sweep_run_id", "position", "expected_s", "state"]
    op.create_index("job_by_lane", "job", lane, sqlite_where=_QUEUED, postgresql_where=_QUEUED)
    op.create_index(
        "job_by_queue_end", "job", ["queue_until"], sqlite_where=_WAITS_UNTIL, postgresql_where=_WAITS_UNTIL
    )
    op.create_index("job_by_make", "job", ["makes_key"], sqlite_where=_MAKES, postgresql_where=_MAKES)
    op.drop_index("job_by_need", table_name="job")
    op.create_index("job_by_need", "job", ["needs_key"], sqlite_where=_NOT_BEGUN, postgresql_where=_NOT_BEGUN)
    op.drop_index("ix_result_sweep_run_id", table_name="result")
    op.drop_index("ix_result_case_key", table_name="result")
    op.create_index("result_by_run", "result", ["sweep_run_id"])
    op.drop_index("ix_job_case_key", table_name="job")
    op.create_index("job_by_case", "job", ["sweep_run_id", "case_key"])
    _compress_faster()


def _compress_faster() -> None:
    """Documents of results, half of what ingest costs PostgreSQL, by the quicker of its two ways where it has it."""
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        known = sa.text("SELECT enumvals FROM pg_settings WHERE name = 'default_toast_compression'")
        if "lz4" in (connection.execute(known).scalar() or ()):
            connection.execute(sa.text("ALTER TABLE result ALTER COLUMN document SET COMPRESSION lz4"))


_REQUIRED: dict[str, Any] = {
    "requirement_id": sa.Integer(),
    "payload_id": sa.Integer(),
    "owner": sa.String(length=200),
    "rank": sa.Float(),
    "expected_s": sa.Float(),
    "avoid": sa.JSON(),
    "canary": sa.Boolean(),
}


def _hosts_devices_and_runs() -> None:
    """New columns, filled for the rows that are there."""
    added: dict[str, tuple[sa.Column[Any], ...]] = {
        "host": (
            sa.Column("presence", sa.String(length=20), nullable=True),
            sa.Column("why", sa.Text(), nullable=True),
            sa.Column("labels", sa.JSON(), nullable=True),
        ),
        "device": (
            sa.Column("admin_why", sa.Text(), nullable=True),
            sa.Column("tags", sa.JSON(), nullable=True),
            sa.Column("failures_in_row", sa.Integer(), nullable=True),
            sa.Column("probes", sa.Integer(), nullable=True),
            sa.Column("probe_at", sa.DateTime(timezone=True), nullable=True),
            sa.Column("used_s", sa.Float(), nullable=True),
        ),
        "sweep_run": (sa.Column("resting", sa.Boolean(), nullable=True),),
    }
    filled: dict[str, dict[str, tuple[Any, Any]]] = {
        "host": {"presence": (sa.String(length=20), "online"), "labels": (sa.JSON(), {})},
        "device": {
            "tags": (sa.JSON(), []),
            "failures_in_row": (sa.Integer(), 0),
            "probes": (sa.Integer(), 0),
            "used_s": (sa.Float(), 0.0),
        },
        "sweep_run": {"resting": (sa.Boolean(), False)},
    }
    for name, columns in added.items():
        for column in columns:
            op.add_column(name, column)
        values = filled[name]
        table = sa.table(name, *(sa.column(column, kind) for column, (kind, _) in values.items()))
        op.execute(table.update().values({column: value for column, (_, value) in values.items()}))
        with op.batch_alter_table(name) as batch:
            for filled_column, (kind, _) in values.items():
                batch.alter_column(filled_column, existing_type=kind, nullable=False)


def _fill_jobs() -> None:
    """Each job gets the requirement that its kind, device and host said before, and refers to its payload."""
    connection = op.get_bind()
    job = sa.table(
        "job",
        *(sa.column(name) for name in ("id", "sweep_run_id", "kind", "device_id", "host_id")),
        *(sa.column(name, kind) for name, kind in _REQUIRED.items()),
        sa.column("created_at", sa.DateTime(timezone=True)),
        sa.column("priority", sa.Integer()),
        sa.column("payload", sa.JSON()),
    )
    payload = sa.table("payload", sa.column("id"), sa.column("digest"), sa.column("document", sa.JSON()))
    requirement = sa.table(
        "requirement",
        *(sa.column(name) for name in ("id", "digest", "place", "selector", "device_id", "host_id")),
        sa.column("needs", sa.JSON()),
    )
    run = sa.table("sweep_run", sa.column("id"), sa.column("owner"))
    owners = {row.id: row.owner for row in connection.execute(sa.select(run))}
    known: dict[tuple[str, int | None, int | None], int] = {}
    payloads: dict[str, int] = {}
    for row in connection.execute(sa.select(job)).all():
        place = "slot" if row.kind == "convert" else "device"
        want = (place, row.device_id, row.host_id)
        if want not in known:
            text = json.dumps([place, "", row.device_id, row.host_id, []], separators=(",", ":"))
            values = {"place": place, "selector": "", "device_id": row.device_id, "host_id": row.host_id, "needs": []}
            known[want] = len(known) + 1
            digest = hashlib.sha256(text.encode()).hexdigest()
            connection.execute(requirement.insert().values(id=known[want], digest=digest, **values))
        told = hashlib.sha256(json.dumps(row.payload, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
        if told not in payloads:
            payloads[told] = len(payloads) + 1
            connection.execute(payload.insert().values(id=payloads[told], digest=told, document=row.payload))
        created: datetime = row.created_at
        aware = created if created.tzinfo is not None else created.replace(tzinfo=UTC)
        connection.execute(
            job.update()
            .where(job.c.id == row.id)
            .values(
                requirement_id=known[want],
                payload_id=payloads[told],
                owner=owners[row.sweep_run_id],
                rank=aware.timestamp() - row.priority * 600.0,  # as `placement.rank_of` was then
                expected_s=0.0,
                avoid=[],
                canary=False,
            )
        )
    if known and connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT setval('requirement_id_seq', (SELECT max(id) FROM requirement))"))
        connection.execute(sa.text("SELECT setval('payload_id_seq', (SELECT max(id) FROM payload))"))
