"""What people read of jobs in lists."""

from __future__ import annotations

from scheduler.planned import PlannedMeasurement
from scheduler.request import Request


def title_of(item: PlannedMeasurement, request: Request) -> str:
    """What a measurement, profile or evaluation is of, where; as much as tells it from the others of its request."""
    task = item.task
    where = item.where or (item.device.name if item.device is not None else "any device")
    title = f"{task.model} on {task.runtime} {task.recipe}, {where}"
    title += "".join(f", {name} {value}" for name, value in task.options.runtime_options.items())
    if item.kind == "evaluate":  # once, whatever the threads
        return title + (f", batch {task.options.batch}" if task.options.batch != 1 else "")
    if request.threads != (1,):
        title += f", {task.options.threads} thread" + ("s" if task.options.threads != 1 else "")
    if request.sweep is not None:  # which may have several of these
        title += f", batch {task.options.batch}" if task.options.batch != 1 else ""
        title += f", {task.options.mode}" if task.options.mode != "burst" else ""
    return title + (f", repeat {item.repeat_no + 1} of {request.repeats}" if request.repeats > 1 else "")
