"""Migrations of every table, for SQLite and PostgreSQL."""

from __future__ import annotations
