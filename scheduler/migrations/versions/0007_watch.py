"""Sweeps with a name and a revision, schedules, trials, screenings, noise floors, incidents and notifications.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_RUN: dict[str, Any] = {
    "purpose": sa.String(length=20),
    "sweep": sa.String(length=200),
    "watched": sa.Boolean(),
    "revision": sa.String(length=200),
    "build": sa.JSON(),
    "deadline_at": _TIME,
    "budget_s": sa.Float(),
    "screened_at": _TIME,
}


def upgrade() -> None:
    """Add columns and tables; runs of canaries say so by their purpose, no longer by a schedule's name."""
    for name, kind in _RUN.items():
        op.add_column("sweep_run", sa.Column(name, kind, nullable=True))
    op.execute(sa.text("UPDATE sweep_run SET watched = false"))
    op.execute(sa.text("UPDATE sweep_run SET purpose = 'canary', schedule = NULL WHERE schedule = 'canary'"))
    with op.batch_alter_table("sweep_run") as run:
        run.alter_column("watched", existing_type=sa.Boolean(), nullable=False)
    to_screen = sa.text("watched AND screened_at IS NULL")
    op.create_index("run_to_screen", "sweep_run", ["id"], sqlite_where=to_screen, postgresql_where=to_screen)
    op.create_index(op.f("ix_sweep_run_sweep"), "sweep_run", ["sweep"])
    op.create_index(op.f("ix_sweep_run_revision"), "sweep_run", ["revision"])
    op.add_column("job", sa.Column("trial_id", sa.Integer(), nullable=True))
    op.add_column("job", sa.Column("side", sa.String(length=20), nullable=True))
    of_trial = sa.text("trial_id IS NOT NULL")
    op.create_index("job_by_trial", "job", ["trial_id"], sqlite_where=of_trial, postgresql_where=of_trial)
    op.create_index("point_by_run", "point", ["sweep_run_id"])
    _make_schedule()
    _make_trial()
    _make_screening()
    _make_incident()
    _make_notification()


def _make_schedule() -> None:
    op.create_table(
        "schedule",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("sweep", sa.String(length=200), nullable=False),
        sa.Column("sweep_text", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("cron", sa.String(length=200), nullable=False),
        sa.Column("timezone", sa.String(length=100), nullable=False),
        sa.Column("missed", sa.String(length=20), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("changed_at", _TIME, nullable=False),
        sa.Column("next_due_at", _TIME, nullable=True),
        sa.Column("missing", sa.Integer(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )


def _make_trial() -> None:
    op.create_table(
        "trial",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.String(length=20), nullable=False),
        sa.Column("sweep_run_id", sa.Integer(), nullable=False),
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("series_id", sa.Integer(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("baseline_key", sa.String(length=64), nullable=False),
        sa.Column("candidate_key", sa.String(length=64), nullable=False),
        sa.Column("baseline_point_id", sa.Integer(), nullable=True),
        sa.Column("candidate_point_id", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("most", sa.Integer(), nullable=False),
        sa.Column("effect", sa.Float(), nullable=False),
        sa.Column("suspected", sa.Float(), nullable=True),
        sa.Column("answer", sa.String(length=20), nullable=True),
        sa.Column("ratio", sa.Float(), nullable=True),
        sa.Column("ratio_low", sa.Float(), nullable=True),
        sa.Column("ratio_high", sa.Float(), nullable=True),
        sa.Column("p", sa.Float(), nullable=True),
        sa.Column("adjusted_p", sa.Float(), nullable=True),
        sa.Column("least_effect", sa.Float(), nullable=True),
        sa.Column("bound", sa.Float(), nullable=True),
        sa.Column("detectable", sa.Float(), nullable=True),
        sa.Column("baseline_values", sa.JSON(), nullable=False),
        sa.Column("candidate_values", sa.JSON(), nullable=False),
        sa.Column("clock_agrees", sa.Boolean(), nullable=True),
        sa.Column("not_alternated", sa.Boolean(), nullable=False),
        sa.Column("device_s", sa.Float(), nullable=False),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["baseline_point_id"],
            ["point.id"],
        ),
        sa.ForeignKeyConstraint(
            ["candidate_point_id"],
            ["point.id"],
        ),
        sa.ForeignKeyConstraint(
            ["device_id"],
            ["device.id"],
        ),
        sa.ForeignKeyConstraint(
            ["series_id"],
            ["series.id"],
        ),
        sa.ForeignKeyConstraint(
            ["sweep_run_id"],
            ["sweep_run.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_trial_sweep_run_id"), "trial", ["sweep_run_id"], unique=False)
    op.create_index(
        "running_trial",
        "trial",
        ["state"],
        unique=False,
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index("trial_by_series", "trial", ["series_id"], unique=False)
    learning = sa.text("state = 'running' AND purpose = 'noise'")
    op.create_index(
        "one_noise_trial", "trial", ["series_id"], unique=True, sqlite_where=learning, postgresql_where=learning
    )


def _make_screening() -> None:
    op.create_table(
        "screening",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("point_id", sa.Integer(), nullable=True),
        sa.Column("series_id", sa.Integer(), nullable=False),
        sa.Column("sweep_run_id", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=20), nullable=False),
        sa.Column("effect", sa.Float(), nullable=True),
        sa.Column("z", sa.Float(), nullable=True),
        sa.Column("noise", sa.Float(), nullable=True),
        sa.Column("segment_point_id", sa.Integer(), nullable=True),
        sa.Column("baseline_point_id", sa.Integer(), nullable=True),
        sa.Column("step_point_id", sa.Integer(), nullable=True),
        sa.Column("found_by", sa.String(length=20), nullable=True),
        sa.Column("trial_id", sa.Integer(), nullable=True),
        sa.Column("tests", sa.JSON(), nullable=True),
        sa.Column("looked_at", _TIME, nullable=True),
        sa.Column("conclusion", sa.String(length=20), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("confirmed", sa.Float(), nullable=True),
        sa.Column("at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["point_id"],
            ["point.id"],
        ),
        sa.ForeignKeyConstraint(
            ["series_id"],
            ["series.id"],
        ),
        sa.ForeignKeyConstraint(
            ["sweep_run_id"],
            ["sweep_run.id"],
        ),
        sa.ForeignKeyConstraint(
            ["trial_id"],
            ["trial.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("series_id", "sweep_run_id", name="one_screening_per_run"),
    )
    op.create_index(op.f("ix_screening_sweep_run_id"), "screening", ["sweep_run_id"], unique=False)
    op.create_index("screening_by_point", "screening", ["point_id"], unique=False)
    op.create_table(
        "noise_floor",
        sa.Column("series_id", sa.Integer(), nullable=False),
        sa.Column("noise", sa.Float(), nullable=False),
        sa.Column("detectable", sa.Float(), nullable=True),
        sa.Column("processes", sa.Integer(), nullable=False),
        sa.Column("trial_id", sa.Integer(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["series_id"],
            ["series.id"],
        ),
        sa.ForeignKeyConstraint(
            ["trial_id"],
            ["trial.id"],
        ),
        sa.PrimaryKeyConstraint("series_id"),
    )


def _make_incident() -> None:
    op.create_table(
        "incident",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("cause", sa.String(length=20), nullable=False),
        sa.Column("cause_why", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("sweep", sa.String(length=200), nullable=True),
        sa.Column("sweep_run_id", sa.Integer(), nullable=False),
        sa.Column("change", sa.Float(), nullable=False),
        sa.Column("change_low", sa.Float(), nullable=True),
        sa.Column("change_high", sa.Float(), nullable=True),
        sa.Column("revision_good", sa.String(length=200), nullable=True),
        sa.Column("revision_bad", sa.String(length=200), nullable=True),
        sa.Column("environment", sa.JSON(), nullable=False),
        sa.Column("opened_at", _TIME, nullable=False),
        sa.Column("changed_at", _TIME, nullable=False),
        sa.Column("acknowledged_by", sa.String(length=200), nullable=True),
        sa.Column("resolved_at", _TIME, nullable=True),
        sa.Column("resolved_by", sa.String(length=200), nullable=True),
        sa.Column("canary_run_id", sa.Integer(), nullable=True),
        sa.Column("canary", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["sweep_run_id"],
            ["sweep_run.id"],
        ),
        sa.ForeignKeyConstraint(
            ["canary_run_id"],
            ["sweep_run.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_incident_sweep_run_id"), "incident", ["sweep_run_id"], unique=False)
    op.create_index(
        "unresolved_incident",
        "incident",
        ["state"],
        unique=False,
        sqlite_where=sa.text("state != 'resolved'"),
        postgresql_where=sa.text("state != 'resolved'"),
    )
    op.create_table(
        "incident_series",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("incident_id", sa.Integer(), nullable=False),
        sa.Column("series_id", sa.Integer(), nullable=False),
        sa.Column("found_by", sa.String(length=20), nullable=False),
        sa.Column("trial_id", sa.Integer(), nullable=True),
        sa.Column("baseline_point_id", sa.Integer(), nullable=False),
        sa.Column("candidate_point_id", sa.Integer(), nullable=False),
        sa.Column("change", sa.Float(), nullable=False),
        sa.Column("change_low", sa.Float(), nullable=True),
        sa.Column("change_high", sa.Float(), nullable=True),
        sa.Column("recovered_point_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["baseline_point_id"],
            ["point.id"],
        ),
        sa.ForeignKeyConstraint(
            ["candidate_point_id"],
            ["point.id"],
        ),
        sa.ForeignKeyConstraint(
            ["incident_id"],
            ["incident.id"],
        ),
        sa.ForeignKeyConstraint(
            ["recovered_point_id"],
            ["point.id"],
        ),
        sa.ForeignKeyConstraint(
            ["series_id"],
            ["series.id"],
        ),
        sa.ForeignKeyConstraint(
            ["trial_id"],
            ["trial.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("incident_id", "series_id", name="one_series_once_per_incident"),
    )
    op.create_index(op.f("ix_incident_series_series_id"), "incident_series", ["series_id"], unique=False)


def _make_notification() -> None:
    op.create_table(
        "notification",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("channel", sa.String(length=100), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=50), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_at", _TIME, nullable=True),
        sa.Column("give_up_at", _TIME, nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("receipt", sa.String(length=200), nullable=True),
        sa.Column("incident_id", sa.Integer(), nullable=True),
        sa.Column("sweep_run_id", sa.Integer(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("sent_at", _TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["incident_id"],
            ["incident.id"],
        ),
        sa.ForeignKeyConstraint(
            ["sweep_run_id"],
            ["sweep_run.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("channel", "key", name="one_message_per_channel"),
    )
    op.create_index(op.f("ix_notification_incident_id"), "notification", ["incident_id"], unique=False)
    op.create_index(
        "given_up_notification",
        "notification",
        ["channel", "give_up_at"],
        unique=False,
        sqlite_where=sa.text("state = 'given_up'"),
        postgresql_where=sa.text("state = 'given_up'"),
    )
    op.create_index(
        "pending_notification",
        "notification",
        ["channel", "next_at"],
        unique=False,
        sqlite_where=sa.text("state = 'pending'"),
        postgresql_where=sa.text("state = 'pending'"),
    )
