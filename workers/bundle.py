"""A folder artifact (an `.mlpackage`) as one file: a tar whose bytes depend on the folder's contents only."""

from __future__ import annotations

import tarfile
from pathlib import Path

from workers.errors import BadModelError, first_line


def pack(folder: Path, target: Path) -> None:
    """Write a folder as a tar with sorted names and no times, owners or modes of this host."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                info = tarfile.TarInfo(path.relative_to(folder).as_posix())
                info.size = path.stat().st_size
                with path.open("rb") as file:
                    archive.addfile(info, file)


def unpack(archive_path: Path, folder: Path) -> None:
    """Unpack a packed folder; members that would leave it, links and devices are refused.

    Raises:
        BadModelError: the archive is damaged or tries to escape.
    """
    try:
        with tarfile.open(archive_path, "r:") as archive:
            archive.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise BadModelError(f"cannot unpack the artifact: {first_line(error)}") from error
