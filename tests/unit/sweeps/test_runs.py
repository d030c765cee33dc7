"""A sweep is submitted, left out where it is fresh, held to its budget and deadline, and taken up again."""

from __future__ import annotations

import platform
from dataclasses import asdict, replace
from datetime import timedelta

import pytest
from sqlalchemy import Connection, event, select

from device_registry.database import reading, writing
from device_registry.errors import UsageError
from scheduler.clones import request_of_job, request_of_run
from scheduler.executors.scripted import Succeed
from scheduler.ingest import results
from scheduler.interventions import cancel_run
from scheduler.queue import sweep_runs
from scheduler.runs import AlreadySubmittedError
from scheduler.states import jobs
from scheduler.sweeps.budgets import enforce_budgets, used_s
from scheduler.sweeps.cells import cell_counts, run_cells
from scheduler.sweeps.fresh import known_now
from scheduler.sweeps.listing import list_runs, run_document
from scheduler.sweeps.running import submit_sweep
from scheduler.sweeps.submission import Submission, sweep_of_run
from tests.unit.builders import make_device
from tests.unit.scheduler.builders import CRASHED, UNSUPPORTED, check_history
from tests.unit.sweeps.lab import TINY, Lab
from workers.devices.cpu import HostCpu
from workers.host import describe_host
from workers.plugins import package_versions
from workers.runtimes.onnx_runtime import OnnxRuntime

BUDGET = TINY + "budget: {device_minutes: 60, deadline: 1h}\n"


def enforce(lab: Lab) -> int:
    with writing(lab.engine) as connection:
        return enforce_budgets(connection, lab.clock())


def test_a_run_has_the_columns_of_its_sweep_and_keeps_the_file(lab: Lab) -> None:
    due = lab.clock.now
    made = lab.sweep(BUDGET, schedule="nightly", due_at=due, revision="abc", build={"branch": "main"})
    assert made.sweep_run_id is not None
    row = lab.run_row(made.sweep_run_id)
    assert (row.sweep, row.schedule, row.due_at, row.revision, row.build) == (
        "night",
        "nightly",
        due,
        "abc",
        {"branch": "main"},
    )
    assert row.watched
    assert row.deadline_at == due + timedelta(hours=1)
    assert row.budget_s == 3600.0
    with reading(lab.engine) as connection:
        sweep = sweep_of_run(connection, row.id)
    assert sweep == lab.read(BUDGET)
    assert len(lab.points()) == 3
    check_history(lab)


def test_a_due_time_has_one_run(lab: Lab) -> None:
    due = lab.clock.now
    lab.sweep(schedule="nightly", due_at=due, work=False)
    with pytest.raises(AlreadySubmittedError, match="has its run already"):
        lab.sweep(schedule="nightly", due_at=due, work=False)
    assert lab.sweep(schedule="other", due_at=due, work=False).sweep_run_id is not None


def test_what_is_done_within_the_transaction_can_refuse_it(lab: Lab) -> None:
    def refuse(connection: Connection) -> None:
        raise UsageError("not now")

    with pytest.raises(UsageError, match="not now"):
        submit_sweep(lab, lab.read(), Submission(), follow=False, within=refuse, now=lab.clock())  # type: ignore[arg-type]
    assert lab.jobs() == []


def test_processes_are_mixed_over_the_cases_by_repeat(lab: Lab) -> None:
    lab.sweep(TINY + "options: {threads: [1, 2, 4, 8]}\n", work=False)
    measurements = sorted(lab.jobs(jobs.c.kind == "measure"), key=lambda row: row.position)
    assert [row.repeat_no for row in measurements] == [0] * 12 + [1] * 12
    assert [row.device_id for row in measurements[:12]] != sorted(row.device_id for row in measurements[:12])


def test_what_is_fresh_is_not_measured_again(lab: Lab) -> None:
    lab.sweep()
    again = lab.sweep(fresh_only=True)
    assert (again.sweep_run_id, again.fresh, again.cases) == (None, 3, 0)
    assert lab.sweep().cases == 3


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"text": TINY.replace("repeats: 2", "repeats: 3")}, "2 of 3 processes"),
        ({"revision": "other"}, "another revision"),
        ({"text": TINY + "stale_after: 1s\n"}, "too old"),
        ({"text": TINY.replace("sim/tiny", "sim/tiny@1.05")}, "another artifact"),
    ],
)
def test_what_is_stale_is_measured_again_and_says_why(lab: Lab, changed: dict[str, str], why: str) -> None:
    lab.sweep(revision="one")
    lab.clock.advance(5)
    prepared = lab.prepare(**changed, fresh_only=True)
    assert not prepared.fresh
    assert {point.stale for point in prepared.points.values()} == {why}


def test_a_new_version_of_the_device_makes_a_point_stale(lab: Lab) -> None:
    lab.sweep()
    first = lab.results()[0]
    with writing(lab.engine) as connection:
        for row in lab.results():
            document = {**row.document, "environment": {"os": "14", "python": "3"}}
            connection.execute(results.update().where(results.c.id == row.id).values(document=document))
    key = next(device.key for device in lab.devices() if device.id == first.device_id)
    lab.host.plug(
        [
            replace(one, attributes={**one.attributes, "os": "15" if one.key == key else "14"})
            for one in lab.host.devices
        ]
    )
    lab.tick()
    prepared = lab.prepare(fresh_only=True)
    assert {point.stale for point in prepared.points.values()} == {None, "os 14 -> 15"}
    assert len(prepared.fresh) == 2


def test_what_a_host_says_of_its_cpu_is_what_its_measurements_tell() -> None:
    """Or no point of a CPU would ever be fresh."""
    [described] = HostCpu().discover()
    host = describe_host()
    device = make_device(driver="cpu", attributes=described.attributes, host_description=asdict(host))
    said = known_now(device, "onnxruntime")
    told = HostCpu().environment(described) | {"python": platform.python_version()}
    told |= package_versions(OnnxRuntime.packages)
    assert {"os", "kernel", "python"} <= set(said) & set(told)
    assert {name: said[name] for name in set(said) & set(told)} == {name: told[name] for name in set(said) & set(told)}


def test_what_was_found_unsupported_lately_is_not_tried_again(lab: Lab) -> None:
    lab.play(lambda order: UNSUPPORTED if order.measure is not None else Succeed())
    lab.sweep()
    prepared = lab.prepare(fresh_only=True)
    assert len(prepared.fresh) == 3
    lab.clock.advance(2 * 86400)
    assert not lab.prepare(fresh_only=True).fresh


def test_a_sweep_larger_than_its_budget_is_refused_or_trimmed_to_what_was_measured_longest_ago(lab: Lab) -> None:
    with pytest.raises(UsageError, match=r"night.yaml:5:26: its 3 cases take about 0.9 .* 1 of them fit, which --trim"):
        lab.sweep(BUDGET.replace("60", "0.3"))  # two processes of 9 s, by a guess
    lab.sweep()
    text = BUDGET.replace("60", "0.04")  # of 1 s, as it is known now
    measured = []
    for _ in range(3):
        made = lab.sweep(text, trim=True)
        assert (made.cases, made.left_out) == (1, 2)
        measured += [row.device_id for row in lab.jobs(jobs.c.sweep_run_id == made.sweep_run_id) if row.device_id]
        lab.clock.advance(60)
    assert len(set(measured)) == 3  # each has its turn
    with pytest.raises(UsageError, match="no case fits the budget"):
        lab.sweep(BUDGET.replace("60", "0.0001"), trim=True)


def test_what_has_not_begun_by_the_deadline_is_cancelled_and_what_runs_goes_on(lab: Lab) -> None:
    lab.play(lambda order: Succeed() if order.convert is not None else "silent")
    made = lab.sweep(BUDGET, work=False)
    for _ in range(6):
        lab.tick()
    running = {row.id for row in lab.jobs(jobs.c.state == "running")}
    assert running
    assert enforce(lab) == 0
    lab.clock.advance(3600)
    assert enforce(lab) == 6 - len(running)
    assert enforce(lab) == 0
    cancelled = lab.jobs(jobs.c.state == "cancelled")
    assert {row.failure_code for row in cancelled} == {"deadline"}
    assert {row.id for row in lab.jobs(jobs.c.state == "running")} == running
    with reading(lab.engine) as connection:
        [told] = list_runs(connection, 10, lab.clock())
    assert (told["run"], told["state"], told["cancelled"]) == (made.sweep_run_id, "running", 6 - len(running))


def test_what_is_beyond_the_budget_is_cancelled(lab: Lab) -> None:
    lab.play(lambda order: Succeed() if order.convert is not None else "silent")
    made = lab.sweep(TINY + "budget: {device_minutes: 1}\n", work=False)
    assert made.sweep_run_id is not None
    for _ in range(6):
        lab.tick()
    lab.clock.advance(30)
    with reading(lab.engine) as connection:
        assert used_s(connection, made.sweep_run_id, lab.clock()) >= 60
    assert enforce(lab) == 3
    assert {row.failure_code for row in lab.jobs(jobs.c.state == "cancelled")} == {"budget"}


def test_a_deadline_spares_conversions_that_others_wait_for(lab: Lab) -> None:
    lab.sweep(BUDGET, work=False)
    lab.sweep(work=False)
    lab.clock.advance(3600)
    assert enforce(lab) == 6
    lab.work()
    with reading(lab.engine) as connection:
        assert cell_counts(run_cells(connection, 1)) == {"cancelled": 3}
        assert cell_counts(run_cells(connection, 2)) == {"done": 3}


def test_a_run_is_resumed_in_itself(lab: Lab) -> None:
    broken = {"left": 4}

    def play(order: object) -> object:
        if getattr(order, "measure", None) is not None and broken["left"]:
            broken["left"] -= 1
            return CRASHED
        return Succeed()

    lab.play(play)  # type: ignore[arg-type]
    made = lab.sweep(BUDGET)
    run_id = made.sweep_run_id
    assert run_id is not None
    with reading(lab.engine) as connection:
        assert run_document(connection, run_id, lab.clock())["failed"] == 4
    lab.clock.advance(7200)  # long past its deadline, which begins again
    resumed = lab.resume(run_id)
    assert (resumed.again, resumed.missing, resumed.still_open) == (4, 0, 0)
    assert enforce(lab) == 0
    lab.work()
    with reading(lab.engine) as connection:
        assert cell_counts(run_cells(connection, run_id)) == {"done": 3}
    assert sorted(row.repeats for row in lab.points()) == [2, 2, 2]
    assert {row.sweep_run_id for row in lab.points()} == {run_id}
    check_history(lab)


def test_resuming_takes_up_what_a_device_was_away_for_and_what_was_cancelled(lab: Lab) -> None:
    here = list(lab.host.devices)
    lab.host.plug(here[:2])
    lab.tick()
    made = lab.sweep(work=False)
    assert [one.device for one in made.absent] == ["d2"]
    run_id = made.sweep_run_id
    assert run_id is not None
    with writing(lab.engine) as connection:
        cancel_run(connection, run_id, who="tester", now=lab.clock())
    lab.host.plug(here)
    lab.tick()
    resumed = lab.resume(run_id)
    assert (resumed.again, resumed.missing) == (4, 1)
    lab.work()
    with reading(lab.engine) as connection:
        assert cell_counts(run_cells(connection, run_id)) == {"done": 3}
    check_history(lab)


def test_a_model_that_is_another_by_now_is_not_mixed_into_the_run(lab: Lab) -> None:
    here = list(lab.host.devices)
    lab.host.plug(here[:2])
    lab.tick()
    run_id = lab.sweep().sweep_run_id
    assert run_id is not None
    lab.host.plug(here)
    lab.tick()
    with writing(lab.engine) as connection:
        row = lab.run_row(run_id)
        request = {**row.request, "sweep": {**row.request["sweep"], "models": ["sim/tiny@1.05"]}}
        connection.execute(sweep_runs.update().where(sweep_runs.c.id == run_id).values(request=request))
    resumed = lab.resume(run_id)
    assert (resumed.missing, resumed.changed) == (0, ("sim/tiny",))


def test_devices_that_are_away_are_left_out_or_waited_for(lab: Lab) -> None:
    lab.host.plug(list(lab.host.devices)[:1])
    lab.tick()
    assert lab.sweep(work=False).cases == 1
    waiting = lab.sweep(TINY + "wait_for_device: true\n", work=False)
    assert (waiting.cases, waiting.absent) == (3, [])


def test_a_baseline_must_be_there(lab: Lab) -> None:
    for baseline, says in (("7", "no run of that number"), ("v1.0", "no run of that revision has results")):
        with pytest.raises(UsageError, match=rf"night.yaml:5:11: baseline .*{says}"):
            lab.sweep(TINY + f"baseline: {baseline}\n")
    lab.sweep(revision="v1.0")
    assert lab.prepare(TINY + "baseline: v1.0\n").baseline_run_id == 1
    assert lab.prepare(TINY + "baseline: 1\n").baseline_run_id == 1
    # A schedule measures all the same; its digest says that the baseline is gone.
    assert lab.sweep(TINY + "baseline: 99\n", schedule="s", due_at=lab.clock.now, work=False).cases == 3


def test_expected_times_come_from_history(lab: Lab) -> None:
    guessed = lab.prepare()
    assert (guessed.expected.guessed, guessed.expected.conversions, guessed.expected.total_s) == (3, 1, 54.0)
    lab.sweep()
    known = lab.prepare()
    assert (known.expected.guessed, known.expected.conversions, known.expected.total_s) == (0, 0, 6.0)
    lab.sweep(work=False)
    lab.tick()
    queued = lab.prepare().expected
    assert queued.queued_s
    assert queued.finish_s > known.expected.finish_s


def test_a_case_of_a_sweep_is_cloned_as_it_was_measured_and_its_run_is_not(lab: Lab) -> None:
    made = lab.sweep(TINY + "options: {batch: [1, 4], mode: [burst, offline]}\ndevices: [model=Galaxy S24, d0]\n")
    assert made.sweep_run_id is not None
    with reading(lab.engine) as connection:
        title = "%d0%batch 4%offline%repeat 2%"
        job_id = connection.execute(select(jobs.c.id).where(jobs.c.title.like(title))).scalar_one()
        one = request_of_job(connection, job_id)
        with pytest.raises(UsageError, match=r"one of sweep night.*: benchfarm sweep run night\.yaml --all"):
            request_of_run(connection, made.sweep_run_id)
    assert (one.options.batch, one.options.mode, one.repeats, one.sweep) == (4, "offline", 1, None)
    assert one.selector == "key=sim:here:0"


def test_many_jobs_are_tried_again_with_few_statements(lab: Lab) -> None:
    made = lab.sweep(TINY, work=False)
    assert made.sweep_run_id is not None
    with writing(lab.engine) as connection:
        cancel_run(connection, made.sweep_run_id, who="tester", now=lab.clock())
    seen: list[str] = []
    event.listen(lab.engine, "before_cursor_execute", lambda _c, _cursor, text, *_rest: seen.append(text))
    assert lab.resume(made.sweep_run_id).again == 6
    # What stands is asked once for all of them and once for the conversion that they need.
    assert sum(text.startswith("SELECT artifact") and "IN (" in text for text in seen) <= 3, seen
    assert sum(text.startswith("UPDATE sweep_run") for text in seen) <= 6, seen
