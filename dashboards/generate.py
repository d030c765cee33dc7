"""All dashboards, made anew from code. Needs the extra `grafana`."""

from __future__ import annotations

from dashboards import device, fleet, history, model, operations, regressions, run
from dashboards.board import Board, document


def boards() -> list[Board]:
    """Every dashboard."""
    return [
        fleet.board(),
        device.board(),
        model.board(),
        run.board(),
        history.board(),
        regressions.board(),
        operations.board(),
    ]


def generate() -> dict[str, str]:
    """File name -> JSON of every dashboard: the same text every time."""
    return {f"{board.uid}.json": document(board) for board in boards()}
