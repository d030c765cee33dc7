"""`python -m workers.android.fake RACK.json`: play a rack of phones until standard input ends."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

from workers.android.fake.rack import play
from workers.android.fake.root import RootError, as_root, why_not


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m workers.android.fake", description=__doc__)
    parser.add_argument("rack", help='JSON: {"phones": [{"name": "a", "vendor": "pixel"}, ...]}, or - for a first line')
    given = parser.parse_args()
    if (reason := why_not()) is not None:
        print(reason, file=sys.stderr)
        return 2
    if prefix := as_root():
        command = [*prefix, sys.executable, "-m", "workers.android.fake", *sys.argv[1:]]
        os.execvp(command[0], command)  # noqa: S606  # no shell is wanted
    text = sys.stdin.readline() if given.rack == "-" else Path(given.rack).read_text(encoding="utf-8")
    try:
        asyncio.run(play(json.loads(text)))
    except (RootError, ValueError, KeyError, TypeError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
