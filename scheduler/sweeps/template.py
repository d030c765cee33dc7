"""The file that `sweep init` writes: valid as it stands, every field of a sweep named and explained."""

from __future__ import annotations

_TEXT = """\
# yaml-language-server: $schema={schema}
# A benchfarm sweep. `benchfarm sweep check {file}` says what it would measure, `benchfarm sweep run {file}` does it.
name: {name}

# Zoo names, model files (relative to this file), or package.module:factory (needs --allow-code).
# A model file is known by its name: the same name in another folder continues the same history.
models:
{models}

# All that the models have, unless you name some.
recipes: [fp32, int8-static]
# runtimes: [onnxruntime, litert]

# Several values are several cases.
options:
  threads: [1]
  batch: [1]
  mode: burst            # burst, sustained or offline
  # max_seconds: 3       # cap on the timed part of each process
  # percentile: 90       # 99 needs 662 iterations
  # rate_hz: 30          # as a camera app calls
  # affinity: [0, 1]

# Options that only some runtimes have (benchfarm runtimes list):
# runtime_options:
#   execution: [sequential, parallel]

# Selectors; each device that one of them matches is measured (spread: each, any or per-model).
devices:
  - {devices}
# wait_for_device: true  # devices that are away now are measured when they come, before the deadline

# Left out is what an exclude rule matches in all of its fields, unless an include rule matches it, too.
# exclude:
#   - {{runtime: litert, threads: [2, 4]}}
#   - {{recipe: "int8-*"}}
# include:
#   - {{recipe: int8-static, runtime: onnxruntime}}

repeats: 5               # fresh processes per case; 5 or more give intervals, ranks and regressions
stale_after: 1d          # sweep run leaves out cases whose last valid point is younger
gate: wait               # wait for a quiet machine, strict: fail instead, none
# priority: 0
# evaluate: true         # how right each variant answers over labelled data, too
# data: digits           # or folder:PATH, npz:FILE, hf:NAME; else what comes with the model
# max_memory: 8GB        # what a conversion may hold
# baseline: v1.0         # a revision or the number of a run that the digest compares with, too

budget:
  device_minutes: 60     # of all devices together
  deadline: 6h           # what has not begun by then is cancelled
"""


def template(name: str, models: list[str], devices: str, *, file: str, schema: str) -> str:
    """A commented sweep file.

    Args:
        name: of the sweep.
        models: to begin with.
        devices: a selector.
        file: what the file will be called.
        schema: where its JSON schema is.
    """
    listed = "\n".join(f"  - {_quoted(model)}" for model in models)
    return _TEXT.format(name=name, models=listed, devices=_quoted(devices), file=file, schema=schema)


def _quoted(text: str) -> str:
    """A YAML text that is read back as it is."""
    return "'" + text.replace("'", "''") + "'" if not text.replace("/", "").replace("_", "").isalnum() else text
