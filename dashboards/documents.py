"""The committed dashboards: what is published and exported. Needs no library beyond the standard one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: One file for each dashboard, called by its uid.
FOLDER = Path(__file__).parent / "json"


def texts() -> dict[str, str]:
    """File name -> JSON of every dashboard, as committed."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.json"))}


def documents() -> list[Mapping[str, Any]]:
    """Every dashboard, by uid."""
    return [json.loads(text) for text in texts().values()]


def write(files: Mapping[str, str], folder: Path) -> list[Path]:
    """Write files where they are not already the same; returns those that changed.

    Args:
        files: name -> content.
        folder: made where it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    changed = []
    for name, content in files.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")
            changed.append(path)
    return changed
