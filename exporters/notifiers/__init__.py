"""Channels: webhooks, Slack, Markdown files, Grafana annotations; and who takes messages to them."""

from __future__ import annotations
