"""Numbers as people read them: significant figures, units, and a dash where there is none."""

from __future__ import annotations

import math

NONE = "—"


def milliseconds(value: float | None) -> str:
    """Three significant figures; a dash where there is none."""
    return NONE if value is None else significant(value)


def significant(value: float, figures: int = 3) -> str:
    """A number with so many significant figures, never in scientific notation."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{figures - 1}e}")
    decimals = figures - 1 - math.floor(math.log10(abs(rounded)))
    return f"{value:,.{max(decimals, 0)}f}"


def size(value: float | None) -> str:
    """Bytes in decimal units, as model sizes are usually given."""
    if value is None:
        return NONE
    unit = "B"
    for larger in ("kB", "MB", "GB"):
        if value < 999.5:  # what would round to a thousand is one of the next unit
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} B" if unit == "B" else f"{significant(value)} {unit}"


def duration(seconds: float) -> str:
    """Seconds as 12 s, 3 min 20 s or 1 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
