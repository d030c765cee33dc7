"""Bytes as they are copied: a bar on a terminal, one plain line for each step elsewhere. Always on standard error."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn


class CopyProgress:
    """Shows what is being copied."""

    def __init__(self) -> None:
        """Nothing is shown before `__enter__`."""
        self._console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._bar = Progress(*columns, console=self._console, transient=True) if self._console.is_terminal else None
        self._doing = ""
        self._task: TaskID | None = None

    def __enter__(self) -> CopyProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def observe(self, doing: str, done: int, total: int | None) -> None:
        """How far it is."""
        if doing != self._doing:
            self._doing = doing
            if self._bar is None:
                self._console.print(doing, style="dim", highlight=False)
            else:
                if self._task is not None:
                    self._bar.remove_task(self._task)
                self._task = self._bar.add_task(doing, total=total)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total)
