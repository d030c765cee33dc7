"""Trials: two artifacts of one case, measured on one unit in turns (ABBA), and the answer that comes of it.

`start_trial` queues the processes of both sides, `step_trials` looks at what came of them: it makes again what does
not count, measures on where the answer is not clear yet, and judges. Both work on the database alone.
"""

from __future__ import annotations

from scheduler.trials.floors import noise_floor_of, process_medians_of
from scheduler.trials.start import FARM_PRIORITY, Purpose, Wanted, start_run, start_trial, trials
from scheduler.trials.step import LONGEST_AWAY, LONGEST_WAIT, step_trials
from scheduler.trials.templates import Template, template_job, template_jobs, template_of

__all__ = [
    "FARM_PRIORITY",
    "LONGEST_AWAY",
    "LONGEST_WAIT",
    "Purpose",
    "Template",
    "Wanted",
    "noise_floor_of",
    "process_medians_of",
    "start_run",
    "start_trial",
    "step_trials",
    "template_job",
    "template_jobs",
    "template_of",
    "trials",
]
