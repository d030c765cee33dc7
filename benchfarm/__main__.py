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
        from exporters.escaping import printable

        print(printable(f"benchfarm: {error}"), file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(
            f"benchfarm: {error.strerror or error}" + (f": {error.filename}" if error.filename else ""), file=sys.stderr
        )
        sys.exit(1)
    except Exception as error:
        # A database error has a cause outside of us (disk full, read-only, damaged); anything else is a bug, and loud.
        if (cause := _database_error(error)) is None:
            raise
        print(f"benchfarm: the database answered: {cause}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("benchfarm: interrupted", file=sys.stderr)
        sys.exit(130)


def _database_error(error: Exception) -> str | None:
    from sqlalchemy.exc import DBAPIError

    return str(error.orig) if isinstance(error, DBAPIError) else None


if __name__ == "__main__":
    main()
