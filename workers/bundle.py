"""A folder artifact (an `.mlpackage`) as one file: a tar whose bytes depend on the folder's contents only."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path, PurePosixPath

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
    """Unpack a packed folder: regular files below it, which is all that `pack` writes; anything else is refused.

    Raises:
        BadModelError: the archive is damaged, or holds links, devices or names that leave the folder.
    """
    # By hand, for tarfile's own filter came with Python 3.11.4, and distributions ship 3.11.2.
    try:
        with tarfile.open(archive_path, "r:") as archive:
            for info in archive:
                name = PurePosixPath(info.name)
                content = archive.extractfile(info) if info.isreg() else None
                if content is None or name.is_absolute() or ".." in name.parts:
                    raise BadModelError(f"cannot unpack the artifact: {info.name!r} is no file below it")
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as file:
                    shutil.copyfileobj(content, file)
    except (tarfile.TarError, FileExistsError, NotADirectoryError) as error:
        raise BadModelError(f"cannot unpack the artifact: {first_line(error)}") from error
