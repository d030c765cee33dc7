"""A real model on this machine's CPU becomes 5 % slower at some revision: what a farm that is swept each night says.

A factory of twenty equal blocks gets one more, and loses it again some nights later. Each night is one `benchfarm sweep
run` with its `--revision`, its confirmation runs in the same command. Asked: does an incident appear, does it name the
revision, is it closed after the fix, and was anything said before. Noise that hides 5 % leaves it unresolved.

    python benchmarks/nights_cpu.py [--quick] [--slower 0.05] [--before N] [--slow N] [--after N]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import Figure, counted, finish, say

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.nightly.cpu import CpuNights

_BLOCKS = 20


def main() -> int:
    """Pass the nights; returns the exit code of docs/measurement.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1.0 slower, few and short processes: shows that it works")
    parser.add_argument("--slower", type=float, default=None, help="share of the model's time; default 0.05")
    parser.add_argument("--before", type=int, default=None, help="nights before; default 10, 5 with --quick")
    parser.add_argument(
        "--slow", type=int, default=None, help="most nights until it is told; default 8, 3 with --quick"
    )
    parser.add_argument("--after", type=int, default=None, help="most nights until it is closed; as --slow")
    parser.add_argument("--any-load", action="store_true", help="let foreign load pass, which else spoils processes")
    given = parser.parse_args()
    slower = given.slower if given.slower is not None else 1.0 if given.quick else 0.05
    before = given.before or (5 if given.quick else 10)
    slow = given.slow or (3 if given.quick else 8)
    after = given.after or slow
    blocks = _BLOCKS + max(1, round(_BLOCKS * slower))
    with tempfile.TemporaryDirectory(prefix="benchfarm-nights-") as name:
        nights = CpuNights(Path(name), max_seconds=0.3 if given.quick else 2.0, any_load=given.any_load)
        said = _pass(nights, before, slow, after, blocks)
    figures = _judge(said)
    context = {
        "slower": slower,
        "any_load": given.any_load,
        **{what: value for what, value in said.items() if what != "shown"},
    }
    code = finish("nights_cpu", given.quick, figures, **context)
    say(said["shown"])
    return code


def _pass(nights: CpuNights, before: int, slow: int, after: int, blocks: int) -> dict[str, Any]:
    said: dict[str, Any] = {"nights": [], "shown": "", "told_after": None, "closed_after": None, "incident": None}

    def pass_one(count: int) -> list[dict[str, Any]]:
        began = time.monotonic()
        revision = nights.commit(count)
        nights.sweep(revision)
        found = nights.incidents()
        said["nights"].append({"revision": revision, "blocks": count, "s": round(time.monotonic() - began, 1)})
        states = ", ".join(f"{row['id']} {row['state']} ({row['cause']})" for row in found) or "no incident"
        say(f"{revision}: {count} blocks, {said['nights'][-1]['s']} s, {states}")
        return found

    for _ in range(before):
        found = pass_one(_BLOCKS)
    known = {row["id"] for row in found}
    said["false_before"] = len(known)
    said["slow_revision"] = f"r{nights.revision + 1}"
    for night in range(slow):
        new = [row for row in pass_one(blocks) if row["id"] not in known and row["change"] > 0]
        if new:
            said["told_after"], said["incident"] = night + 1, new[0]
            break
    if said["incident"] is None:
        return said
    number = said["incident"]["id"]
    said["shown"] = nights.show(number)
    for night in range(after):
        [row] = [row for row in pass_one(_BLOCKS) if row["id"] == number]
        if row["state"] == "resolved":
            said["closed_after"], said["incident"] = night + 1, row
            break
    said["seconds_of_a_night"] = statistics.median(one["s"] for one in said["nights"])
    return said


def _judge(said: dict[str, Any]) -> list[Figure]:
    figures = [counted("incidents before anything changed", said["false_before"], 0, "incidents")]
    incident = said["incident"]
    if incident is None:
        say(f"nothing was told of {said['slow_revision']}: this machine's noise hides it")
        name = "an incident names the revision, and is closed after the fix"
        return [*figures, {"name": name, "effect": None, "resolved": False, "met": None}]
    right = incident["cause"] == "code" and incident["revision_bad"] == said["slow_revision"]
    figures.append(counted("incidents that do not name the code and its revision", int(not right), 0, "incidents"))
    figures.append(counted("incidents still open after the fix", int(said["closed_after"] is None), 0, "incidents"))
    return figures


if __name__ == "__main__":
    sys.exit(main())
