"""The Python interface: submit, wait, results. What it refuses it refuses as the command line does, with a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from device_registry.database import reading, writing
from device_registry.errors import UsageError
from device_registry.registry import list_devices
from device_registry.selectors import parse_selector
from device_registry.tables import utc_now
from scheduler import interventions
from scheduler.farm import Farm
from scheduler.home import Home
from scheduler.quantities import located_data
from scheduler.request import Request
from scheduler.status import RunStatus
from workers.contract import GatePolicy, Mode, Options

#: What may be compared, as in scheduler.cells.
Metric = Literal["latency", "p99", "energy", "memory", "size"]
#: What rows are given as; None: a pandas or polars data frame where one of them is installed, else dictionaries.
As = Literal["pandas", "polars", "dicts"]
_MOST_ROWS = 1_000_000


class Client:
    """A farm, as programs use it. Safe to keep; holds no connection while it is not used."""

    def __init__(self, home: Home) -> None:
        """Use `benchfarm.connect`."""
        self.farm = Farm(home)

    def submit(
        self,
        *models: str,
        device: str = "",
        any: bool = False,  # noqa: A002  # the command line's word
        per_model: bool = False,
        runtimes: Sequence[str] | None = None,
        recipes: Sequence[str] | None = None,
        threads: Sequence[int] = (1,),
        batch: int = 1,
        runtime_options: Mapping[str, Sequence[str]] | None = None,
        repeats: int = 1,
        mode: Mode = "burst",
        rate_hz: float | None = None,
        max_seconds: float | None = None,
        percentile: int = 90,
        weights: Literal["random", "pretrained"] = "random",
        seed: int = 0,
        calibration: str | Path | None = None,
        evaluate: bool = False,
        data: str | None = None,
        max_memory_bytes: int | None = None,
        allow_code: bool = False,
        gate: GatePolicy = "wait",
        priority: int = 0,
        owner: str | None = None,
        queue_timeout_s: float | None = None,
        run_timeout_s: float | None = None,
        wait_for_device: bool = False,
    ) -> Submission:
        """Queue conversions and measurements; returns at once. Options as those of `benchfarm submit`.

        Raises:
            UsageError: something named cannot be.
        """
        if any and per_model:
            raise UsageError("any and per_model exclude each other")
        request = Request(
            models=models,
            runtimes=None if runtimes is None else tuple(runtimes),
            recipes=None if recipes is None else tuple(recipes),
            selector=device,
            spread="any" if any else "per-model" if per_model else "each",
            threads=tuple(threads),
            runtime_options={name: tuple(values) for name, values in (runtime_options or {}).items()},
            options=Options(batch=batch, mode=mode, rate_hz=rate_hz, max_seconds=max_seconds, percentile=percentile),
            repeats=repeats,
            weights=weights,
            seed=seed,
            calibration=None if calibration is None else str(Path(calibration).absolute()),
            evaluate=evaluate,
            data=None if data is None else located_data(data, Path.cwd()),
            max_memory_bytes=max_memory_bytes,
            allow_code=allow_code,
            search_path=(str(Path.cwd()),) if allow_code else (),
            gate=gate,
            priority=priority,
            owner=owner,
            queue_timeout_s=queue_timeout_s,
            run_timeout_s=run_timeout_s,
            wait_for_device=wait_for_device,
        )
        return Submission(self, self.farm.submit(request).sweep_run_id)

    def submit_suite(
        self,
        name: str,
        *,
        quick: bool = False,
        device: str = "",
        runtimes: Sequence[str] | None = None,
        blocks: Sequence[str] | None = None,
        again: bool = False,
        owner: str | None = None,
    ) -> dict[str, Submission | None]:
        """Queue what a suite has no fresh point of; returns at once. Options as those of `benchfarm suite run`.

        Returns:
            The run of each block; None: all of it is fresh, or nothing of it can be measured.

        Raises:
            UsageError: there is no such suite, something named cannot be, or nothing of it can be measured.
        """
        from scheduler.suites.planning import Wishes
        from scheduler.suites.running import Nobody, submit_suite
        from scheduler.suites.shipped import load_named

        wishes = Wishes(
            selector=device,
            runtimes=None if runtimes is None else tuple(runtimes),
            blocks=None if blocks is None else tuple(blocks),
            again=again,
            owner=owner,
        )
        made = submit_suite(self.farm, load_named(name, quick=quick), wishes, Nobody())
        return {item.block.name: None if run is None else Submission(self, run) for item, run in made}

    def suite(self, name: str, *, quick: bool = False) -> dict[str, Any]:
        """What a suite found so far, block by block, beside what was published: as `benchfarm suite report --json`.

        Raises:
            UsageError: there is no such suite, or nothing of it was run yet.
        """
        from exporters.suites.document import suite_document
        from scheduler.suites.shipped import load_named

        with reading(self.farm.engine) as connection:
            return suite_document(connection, load_named(name, quick=quick))

    def run(self, number: int) -> Submission:
        """A run that was submitted before.

        Raises:
            UsageError: there is no such run.
        """
        with reading(self.farm.engine) as connection:
            interventions.known_run(connection, number)
        return Submission(self, number)

    def results(self, run: int | None = None, model: str | None = None, as_: As | None = None) -> Any:
        """Measured cases, one row per case and device: of one run, or of all, newest first.

        Args:
            run: only of this run.
            model: only of this model.
            as_: see `As`; data frames have no nested values.

        Raises:
            UsageError: there is no such run, or what was asked for is not installed.
        """
        from scheduler.comparisons import latest_results, run_results

        with reading(self.farm.engine) as connection:
            if run is not None:
                interventions.known_run(connection, run)
                rows = [{"run": run, **row} for row in run_results(connection, run).results]
            else:
                rows = latest_results(connection, _MOST_ROWS)
        return _framed([row for row in rows if model is None or row["model"] == model], as_)

    def compare(
        self,
        *models: str,
        device: str = "",
        runtimes: Sequence[str] = (),
        recipes: Sequence[str] = (),
        baseline: str | None = None,
        metric: Metric = "latency",
        invalid: bool = False,
        as_: As | None = None,
    ) -> Any:
        """What was measured last, one row per variant and device, each against its baseline; as `benchfarm compare`.

        Args:
            models: only these; none: all.
            device: a selector.
            runtimes: only these; none: all.
            recipes: only these; none: all.
            baseline: "torch/fp32", for example; None: the unconverted program.
            metric: what is compared.
            invalid: whether what was judged invalid is compared too.
            as_: see `As`; data frames have no nested values.

        Raises:
            UsageError: something named is not there, or what was asked for is not installed.
        """
        from scheduler.cells import Wanted, variant_named
        from scheduler.matrix import matrix

        wanted = Wanted(
            models=models,
            selector=device,
            runtimes=tuple(runtimes),
            recipes=tuple(recipes),
            baseline=None if baseline is None else variant_named(baseline),
            metric=metric,
            invalid=invalid,
        )
        with reading(self.farm.engine) as connection:
            rows = [row for _, cells in matrix(connection, wanted, utc_now()) for row in cells]
        return _framed(rows, as_)

    def evaluations(self, run: int | None = None, model: str | None = None, as_: As | None = None) -> Any:
        """How right variants answered over labelled data: of one run, or of all, newest first.

        Args:
            run: only of this run.
            model: only of this model.
            as_: see `As`; data frames have no nested values.

        Raises:
            UsageError: there is no such run, or what was asked for is not installed.
        """
        from scheduler.evaluations import list_evaluations

        with reading(self.farm.engine) as connection:
            if run is not None:
                interventions.known_run(connection, run)
            rows = list_evaluations(connection, run_id=run, model=model, limit=_MOST_ROWS)
        return _framed(rows, as_)

    def failed(self, run: int) -> list[dict[str, Any]]:
        """What failed of a run, and why.

        Raises:
            UsageError: there is no such run.
        """
        from scheduler.comparisons import run_results

        with reading(self.farm.engine) as connection:
            interventions.known_run(connection, run)
            return run_results(connection, run).failed

    def jobs(
        self, run: int | None = None, state: str | None = None, owner: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Jobs, newest first.

        Raises:
            UsageError: no such state.
        """
        from scheduler.records import list_jobs

        with reading(self.farm.engine) as connection:
            return list_jobs(connection, state, limit, utc_now(), run_id=run, owner=owner)

    def devices(self, selector: str = "") -> list[dict[str, Any]]:
        """Devices that a selector matches.

        Raises:
            SelectorError: it cannot be read.
        """
        parsed = parse_selector(selector)
        with reading(self.farm.engine) as connection:
            found = list_devices(connection, parsed)
        hidden = ("host_description",)
        return [
            {name: value for name, value in asdict(device).items() if name not in hidden}
            | {"simulated": device.simulated}
            for device in found
        ]


class Submission:
    """What was submitted: one run."""

    def __init__(self, client: Client, run: int) -> None:
        """Use `Client.submit` or `Client.run`."""
        self._client = client
        #: Number of the run.
        self.run = run

    def __repr__(self) -> str:
        return f"Submission(run={self.run})"

    @property
    def jobs(self) -> list[int]:
        """Numbers of its jobs."""
        from scheduler.records import run_job_ids

        with reading(self._client.farm.engine) as connection:
            return run_job_ids(connection, self.run)

    def status(self) -> RunStatus:
        """How far it is."""
        from scheduler.status import run_status

        with reading(self._client.farm.engine) as connection:
            return run_status(connection, self.run, utc_now())

    def wait(self, timeout_s: float | None = None, progress: bool = False) -> RunStatus:
        """Wait until it is done.

        Args:
            timeout_s: how long at most; None: as long as it takes.
            progress: whether to show it on standard error.

        Raises:
            WaitTimeoutError: it is not done in time.
        """
        if not progress:
            return self._client.farm.wait(self.run, timeout_s=timeout_s)
        from exporters.progress import RunProgress

        with RunProgress() as shown:
            return self._client.farm.wait(self.run, timeout_s=timeout_s, observe=shown.observe, say=shown.say)

    def results(self, as_: As | None = None) -> Any:
        """See `Client.results`."""
        return self._client.results(run=self.run, as_=as_)

    def failed(self) -> list[dict[str, Any]]:
        """See `Client.failed`."""
        return self._client.failed(self.run)

    def cancel(self) -> int:
        """Cancel what is open of it; returns how many jobs."""
        import getpass

        with writing(self._client.farm.engine) as connection:
            return interventions.cancel_run(connection, self.run, who=getpass.getuser(), now=utc_now())


def _framed(rows: list[dict[str, Any]], as_: As | None) -> Any:
    """Rows as a data frame, or as they are."""
    from exporters.files import flat_row

    installed = [name for name in ("pandas", "polars") if find_spec(name) is not None]
    wanted = as_ or (installed[0] if installed else "dicts")
    if wanted == "dicts":
        return rows
    if wanted not in installed:
        raise UsageError(f"{wanted} is not installed here; as_='dicts' needs nothing")
    made: Any = import_module(wanted).DataFrame([flat_row(row) for row in rows])
    return made
