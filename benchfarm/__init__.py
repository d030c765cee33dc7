"""The door: command line, Python interface and configuration. No logic of its own.

import benchfarm

farm = benchfarm.connect()
job = farm.submit("torchvision/mobilenet_v3_small", device="kind=cpu", runtimes=["litert"])
job.wait()
farm.results(run=job.run)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from benchfarm.api import Client

__version__ = "0.1.0"


def connect(url: str | None = None, home: str | Path | None = None) -> Client:
    """Connect to a farm.

    Args:
        url: of its database; default: BENCHFARM_DATABASE_URL, else the one in the data directory.
        home: the data directory; default: BENCHFARM_HOME, else the user's data folder.

    Raises:
        BenchfarmError: the data directory or the database cannot be used.
    """
    from benchfarm.api import Client  # importing benchfarm alone stays cheap
    from benchfarm.config import load_home

    return Client(load_home(url=url, path=home))
