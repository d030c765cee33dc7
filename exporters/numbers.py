"""Numbers as people read them: significant figures, units, and a dash where there is none."""

from __future__ import annotations

NONE = "—"


def milliseconds(value: float | None) -> str:
    """Three significant figures; a dash where there is none."""
    return NONE if value is None else significant(value)


def significant(value: float, figures: int = 3) -> str:
    """A number with so many significant figures, never in scientific notation below a million."""
    if value == 0:
        return "0"
    if abs(value) >= 10**figures:
        return f"{value:,.0f}"
    return f"{value:#.{figures}g}".rstrip(".")


def size(value: float | None) -> str:
    """Bytes in decimal units, as model sizes are usually given."""
    if value is None:
        return NONE
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{significant(value)} {unit}"


def duration(seconds: float) -> str:
    """Seconds as 12 s, 3 min 20 s or 1 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
