"""A run as it goes: a live view on a terminal, plain lines elsewhere. Always on standard error."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from exporters.escaping import printable
from exporters.harmless import Harmless
from exporters.numbers import duration, milliseconds
from scheduler.status import JobStatus, RunStatus
from workers.errors import UNSUPPORTED, UPSTREAM

#: Lines of what runs at once.
_MOST_RUNNING = 8
#: Where there is no terminal, what runs is told of so often at most.
_TOLD_PERIOD_S = 10.0
_DONE = ("succeeded", "failed", "cancelled")
_VERB = {"convert": "converted", "measure": "measured", "profile": "profiled", "evaluate": "evaluated"}
_VERBING = {"convert": "converting", "measure": "measuring", "profile": "profiling", "evaluate": "evaluating"}


class RunProgress:
    """Shows states of a run. While the local CPU measures, the terminal changes at most once a second."""

    def __init__(self) -> None:
        """Nothing is shown before `__enter__`."""
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._told: set[int] = set()
        self._saying = ""
        self._shown_at = 0.0
        #: When jobs that run were last told of on plain lines, and what each said then.
        self._said_at = time.monotonic()
        self._said: dict[int, str] = {}

    def __enter__(self) -> RunProgress:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def say(self, text: str) -> None:
        """Tell of something slow that is not a job."""
        self._saying = text
        if self._live is not None:
            self._live.update(Harmless(Text(text + " ...")), refresh=True)
        else:
            self._console.print(Text(printable(text), style="dim"))

    def tell(self, text: str) -> None:
        """Tell of something that stays to be read."""
        self._console.print(Text(printable(text)), highlight=False, soft_wrap=True)

    def observe(self, status: RunStatus) -> None:
        """Show a state of the run."""
        for job in status.jobs:
            if job.state in _DONE and job.id not in self._told:
                self._told.add(job.id)
                if job.failure_code != UPSTREAM:  # the failure it comes from is told
                    self._tell(job, status)
        if self._live is not None and time.monotonic() - self._shown_at >= 1.0:
            self._shown_at = time.monotonic()
            self._live.update(Harmless(_view(status, self._saying)), refresh=True)
        elif self._live is None and time.monotonic() - self._said_at >= _TOLD_PERIOD_S:
            self._said_at = time.monotonic()
            self._tell_running(status)

    def _tell_running(self, status: RunStatus) -> None:
        """On plain lines: jobs that say how far they are, and said something else before."""
        for job in status.jobs:
            if job.state == "running" and job.progress is not None and self._said.get(job.id) != job.progress:
                self._said[job.id] = job.progress
                line = Text(printable(f"  {_VERBING[job.kind]} {job.title}: {job.progress}"), style="dim")
                self._console.print(line, highlight=False, soft_wrap=True)

    def _tell(self, job: JobStatus, status: RunStatus) -> None:
        head = f"[{status.finished}/{sum(status.counts.values())}] "
        if job.state == "succeeded":
            line = Text(f"{head}{_VERB[job.kind]} {printable(job.title)}", style="default")
            if job.took_s is not None:
                line.append(f" in {duration(job.took_s)}", style="dim")
            if job.p50_ms is not None:
                line.append(f": {milliseconds(job.p50_ms)} ms")
                line.append("" if job.verdict == "valid" else f", {job.verdict}", style="red")
        else:
            word = UNSUPPORTED if job.failure_code == UNSUPPORTED else job.state
            line = Text(
                printable(f"{head}{word}: {job.title}" + (f": {job.failure_message}" if job.failure_message else "")),
                style="yellow" if word == UNSUPPORTED else "red",
            )
        if job.retries:
            line.append(f" (try {job.retries + 1})", style="dim")
        self._console.print(line, highlight=False, soft_wrap=True)


def _view(status: RunStatus, saying: str) -> RenderableType:
    now = datetime.now(UTC)
    done = status.finished
    total = max(sum(status.counts.values()), 1)
    head = Table.grid(padding=(0, 1))
    left = f"about {duration(status.left_s)} left" if status.left_s else "finishing"
    head.add_row(
        Text(f"run {status.run_id}"),
        ProgressBar(total=total, completed=done, width=30),
        Text(f"{done}/{total} jobs, {left}"),
    )
    lines: list[RenderableType] = [head]
    running = [job for job in status.jobs if job.state == "running"]
    for job in running[:_MOST_RUNNING]:
        for_s = (now - job.since).total_seconds() if job.since else 0
        lines.append(Text(f"  {_VERBING[job.kind]} {job.title} ({duration(for_s)})"))
        if job.progress is not None:
            lines.append(Text(f"    {job.progress}", style="dim"))
    if (more := status.counts.get("running", 0) - _MOST_RUNNING) > 0:
        lines.append(Text(f"  and {more} more at once", style="dim"))
    if not running:
        waiting = (
            f"  waits for {', '.join(status.others_running)} of another run" if status.others_running else f"  {saying}"
        )
        lines.append(Text(waiting, style="dim"))
    queued, blocked = status.counts.get("queued", 0), status.counts.get("blocked", 0)
    waits = []
    if queued:
        waits.append(f"{queued} waiting for a place" + (" or for a quiet host" if running else ""))
    if blocked:
        waits.append(f"{blocked} waiting for their artifact")
    if waits:
        lines.append(Text("  " + "; ".join(waits), style="dim"))
    return Group(*lines)
