"""`python -m dashboards [FOLDER]`: write the JSON of every dashboard, beside the code where no folder is given."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    """Write, and say what changed."""
    from dashboards.documents import FOLDER, write

    parser = argparse.ArgumentParser(prog="python -m dashboards", description="Write the JSON of every dashboard.")
    parser.add_argument("folder", metavar="FOLDER", type=Path, nargs="?", default=FOLDER, help="default: %(default)s")
    folder = parser.parse_args().folder
    try:
        from dashboards.generate import generate
    except ModuleNotFoundError as error:
        sys.exit(f"dashboards: {error.name} is not installed: pip install 'benchfarm[grafana]'")
    for path in write(generate(), folder):
        print(path)


if __name__ == "__main__":
    main()
