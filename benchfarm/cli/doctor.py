"""`benchfarm doctor`: what each seam found on this host, and the one command that mends what it lacks."""

from __future__ import annotations

from dataclasses import asdict

import typer

from benchfarm.cli.output import Json, print_json


def doctor(json: Json = False) -> None:
    """Say what this host can do, what it lacks, and how to mend it."""
    from benchfarm.doctor import examine
    from exporters.tables import show, simple_table

    findings = examine()
    if json:
        print_json([asdict(finding) for finding in findings])
    else:
        marks = {True: "ok", False: "missing"}
        rows = [[f.seam, f.name, marks[f.ok], f.detail, f.fix or ""] for f in findings]
        show(simple_table("benchfarm doctor", ["what", "name", "", "found", "mend"], rows))
    if not all(finding.ok for finding in findings if finding.needed):
        raise typer.Exit(1)
