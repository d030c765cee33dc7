"""`benchfarm` and `python -m benchfarm`: errors become one sentence and an exit code, never a traceback."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    from benchfarm.cli.app import app
    from device_registry.errors import BenchfarmError

    try:
        app()
    except BenchfarmError as error:
        print(f"benchfarm: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("benchfarm: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
