"""`python -m dashboards [FOLDER]`: write the JSON of every dashboard, beside the code where no folder is given."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Write, and say what changed."""
    from dashboards.documents import FOLDER, write

    try:
        from dashboards.generate import generate
    except ModuleNotFoundError as error:
        sys.exit(f"dashboards: {error.name} is not installed: pip install 'benchfarm[grafana]'")
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for path in write(generate(), folder):
        print(path)


if __name__ == "__main__":
    main()
