"""Trials in a database: turns, what does not count and is made again, answers, and ends without one."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import event, select, update

from device_registry.database import reading, writing
from device_registry.errors import UsageError
from device_registry.registry import devices
from scheduler import clones, interventions, queue
from scheduler.executors.scripted import Outcome
from scheduler.ingest import results
from scheduler.quarantine import set_admin
from scheduler.queue import sweep_runs
from scheduler.states import change_jobs, jobs
from scheduler.trials import (
    LONGEST_AWAY,
    noise_floor_of,
    process_medians_of,
    step_trials,
    template_job,
    trials,
)
from scheduler.trials.floors import floors
from tests.unit.scheduler.builders import BROKEN, INT8, ONNX, Farm, check_counts, check_history, plan_of
from tests.unit.scheduler.trial_rows import (
    CONTAMINATED,
    CRASHED,
    begin,
    by_recipe,
    measured,
    started,
    steady,
    step,
    trial,
    work,
)

#: What follows from the rows alone is the same on any database.
on_sqlite = pytest.mark.parametrize("databases", ["sqlite"], indirect=True)


@pytest.fixture
def pair(farm: Farm) -> tuple[int, int]:
    """What measured the fp32 and the int8 artifact of a model."""
    return measured(farm)


def test_processes_take_turns_and_the_slower_side_is_named(farm: Farm, pair: tuple[int, int]) -> None:
    farm.play(by_recipe(steady(10.0), steady(10.6)))
    trial_id = begin(farm, *pair)
    points_before = farm.points()
    assert work(farm) == [trial_id]
    found = trial(farm, trial_id)
    assert started(farm, trial_id) == "ABBA" * 5
    assert (found.state, found.answer, found.wanted) == ("done", "slower", 10)
    assert found.ratio == pytest.approx(10.0 / 10.6, rel=0.01)
    assert found.ratio_low < found.ratio < found.ratio_high < 1
    assert found.adjusted_p == found.p < 0.01
    assert not found.not_alternated
    assert found.clock_agrees is None
    assert found.device_s > 0
    assert len(found.baseline_values) == len(found.candidate_values) == 10
    assert farm.points() == points_before
    run = farm.run_row(found.sweep_run_id)
    assert (run.purpose, run.owner) == ("confirmation", "farm")
    check_history(farm)


@on_sqlite
def test_an_artifact_may_be_compared_with_itself(farm: Farm, pair: tuple[int, int]) -> None:
    farm.play(by_recipe(steady(10.0), steady(10.0)))
    trial_id = begin(farm, pair[0], pair[0], processes=5)
    work(farm)
    found = trial(farm, trial_id)
    assert (found.answer, found.baseline_key) == ("same", found.candidate_key)


@on_sqlite
def test_what_is_not_clear_is_measured_on_up_to_thirty(farm: Farm, pair: tuple[int, int]) -> None:
    farm.play(by_recipe(steady(10.0, 0.15), steady(10.3, 0.15)))
    trial_id = begin(farm, *pair)
    work(farm)
    found = trial(farm, trial_id)
    assert (found.answer, found.wanted) == ("inconclusive", 30)
    assert started(farm, trial_id) == "ABBA" * 15
    assert len(found.baseline_values) == 30


@on_sqlite
def test_who_asks_may_want_fewer(farm: Farm, pair: tuple[int, int]) -> None:
    farm.play(by_recipe(steady(10.0, 0.15), steady(10.3, 0.15)))
    trial_id = begin(farm, *pair, processes=6, most=12)
    work(farm)
    assert len(trial(farm, trial_id).candidate_values) == 12


def test_invalid_processes_do_not_count_and_are_made_again(farm: Farm, pair: tuple[int, int]) -> None:
    def int8(number: int) -> Outcome:
        return CONTAMINATED if number in (3, 4, 12) else steady(10.6)(number)

    farm.play(by_recipe(steady(10.0), int8))
    trial_id = begin(farm, *pair)
    work(farm)
    found = trial(farm, trial_id)
    assert found.answer == "slower"
    assert len(found.candidate_values) == 10
    assert len(found.baseline_values) == 13
    assert "3 contaminated" in found.why


@on_sqlite
def test_a_device_that_is_never_quiet_ends_the_trial(farm: Farm, pair: tuple[int, int]) -> None:
    farm.play(by_recipe(steady(10.0), lambda _: CONTAMINATED))
    trial_id = begin(farm, *pair, processes=5)
    work(farm)
    found = trial(farm, trial_id)
    assert (found.state, found.answer) == ("void", None)
    assert found.why.startswith("only 0 + 0 of 10 + 10 processes count, 5 + 5 are the fewest: ")
    assert "10 contaminated" in found.why


@on_sqlite
def test_a_candidate_that_crashes_is_given_up(farm: Farm, pair: tuple[int, int]) -> None:
    farm.play(by_recipe(steady(10.0), lambda _: CRASHED))
    trial_id = begin(farm, *pair)
    work(farm)
    found = trial(farm, trial_id)
    assert found.state == "void"
    assert found.why == "its candidate fails: the runtime crashed the process (SIGSEGV)"
    assert len(farm.jobs(jobs.c.trial_id == trial_id, jobs.c.state == "failed")) == 3
    assert len(started(farm, trial_id)) < 10


@on_sqlite
def test_jobs_that_are_tried_again_keep_the_sides_in_turns(farm: Farm, pair: tuple[int, int]) -> None:
    def fp32(number: int) -> Outcome:
        return BROKEN if number in (2, 5) else steady(10.0)(number)

    farm.play(by_recipe(fp32, steady(10.6)))
    trial_id = begin(farm, *pair, processes=5)
    work(farm)
    found = trial(farm, trial_id)
    assert (found.answer, found.not_alternated) == ("slower", False)
    assert len(started(farm, trial_id)) == 12


@on_sqlite
def test_trials_of_a_device_run_one_after_the_other_beside_users(farm: Farm, pair: tuple[int, int]) -> None:
    farm.play(by_recipe(steady(10.0), steady(10.6)))
    first = begin(farm, *pair, processes=6)
    second = begin(farm, *pair, processes=6, run_id=trial(farm, first).sweep_run_id)
    users = farm.submit(plan_of(farm.devices(), ONNX, repeats=3, salt="later")).sweep_run_id
    assert work(farm) == [first, second]
    order = [row.trial_id for row in farm.jobs(jobs.c.id.in_([row.job_id for row in farm.attempts()])) if row.trial_id]
    assert order == sorted(order)
    assert started(farm, first) == started(farm, second) == "ABBA" * 3
    farm.settle()
    assert {state for _, state in farm.states(users)} == {"succeeded"}


@on_sqlite
def test_a_pause_of_over_an_hour_is_told_and_what_it_parts_is_made_again(farm: Farm, pair: tuple[int, int]) -> None:
    farm.play(by_recipe(steady(10.0), steady(10.6)))
    trial_id = begin(farm, *pair)
    while len(started(farm, trial_id)) < 5:  # A B B A A
        farm.tick(5.0)
    farm.clock.advance(4000)
    work(farm)
    found = trial(farm, trial_id)
    assert (found.answer, found.not_alternated) == ("slower", True)
    assert "1 pause of over an hour" in found.why


@on_sqlite
def test_a_device_that_is_gone_ends_the_trial_and_says_so(farm: Farm, pair: tuple[int, int]) -> None:
    farm.play(by_recipe(steady(10.0), steady(10.6)))
    trial_id = begin(farm, *pair)
    with writing(farm.engine) as connection:
        set_admin(connection, farm.devices()[0].id, "maintenance", who="ann", why="new fan", now=farm.clock())
    farm.clock.advance(LONGEST_AWAY.total_seconds() - 60)
    farm.tick()
    assert step(farm) == []
    farm.clock.advance(120)
    assert step(farm) == [trial_id]
    found = trial(farm, trial_id)
    assert found.state == "void"
    assert found.why.startswith("d0 is maintenance (new fan): nothing of it ran for 2 h; only 0 + 0 of 10 + 10")
    assert {row.state for row in farm.jobs(jobs.c.trial_id == trial_id)} == {"cancelled"}


@on_sqlite
def test_an_offline_device_is_waited_for(farm: Farm, pair: tuple[int, int]) -> None:
    farm.play(by_recipe(steady(10.0), steady(10.6)))
    trial_id = begin(farm, *pair)
    while len(started(farm, trial_id)) < 14:
        farm.tick(5.0)
    with writing(farm.engine) as connection:
        connection.execute(update(devices).values(presence="offline"))
    farm.clock.advance(LONGEST_AWAY.total_seconds() + 1)
    assert step(farm) == [trial_id]
    found = trial(farm, trial_id)
    assert (found.state, found.answer) == ("done", "slower")  # with 6 or 7 on each side
    assert "d0 is offline: nothing of it ran for 2 h" in found.why


def test_a_cancelled_run_voids_its_trials(farm: Farm, pair: tuple[int, int]) -> None:
    farm.play(by_recipe(steady(10.0), steady(10.6)))
    trial_id = begin(farm, *pair)
    for _ in range(16):
        farm.tick(5.0)
    with writing(farm.engine) as connection:
        interventions.cancel_run(connection, trial(farm, trial_id).sweep_run_id, who="ann", now=farm.clock())
    assert step(farm) == [trial_id]
    found = trial(farm, trial_id)
    assert (found.state, found.why) == ("void", "its jobs were cancelled")
    job = farm.jobs(jobs.c.trial_id == trial_id, jobs.c.state == "cancelled")[0]
    with writing(farm.engine) as connection, pytest.raises(UsageError, match=f"belongs to trial {trial_id}"):
        interventions.retry(connection, [job.id], who="ann", now=farm.clock())


@on_sqlite
def test_a_trial_whose_time_is_up_is_judged_by_what_came(farm: Farm, pair: tuple[int, int]) -> None:
    farm.play(by_recipe(steady(10.0), steady(10.6)))
    trial_id = begin(farm, *pair)
    while len(started(farm, trial_id)) < 15:
        farm.tick(5.0)
    left = [row.id for row in farm.jobs(jobs.c.trial_id == trial_id, jobs.c.state == "queued")]
    with writing(farm.engine) as connection:
        why = "its budget is used up"
        change_jobs(connection, left, "queued", "cancelled", who="x", why=why, now=farm.clock(), failure_code="budget")
    step(farm)
    found = trial(farm, trial_id)
    assert (found.state, found.answer) == ("done", "slower")
    assert "its time was up" in found.why


def test_an_artifact_that_is_gone_is_made_again_first(farm: Farm, pair: tuple[int, int]) -> None:
    farm.play(by_recipe(steady(10.0), steady(10.6)))
    with writing(farm.engine) as connection:
        row = connection.execute(select(queue.artifacts).where(queue.artifacts.c.recipe == "int8-static")).one()
        queue.forget(connection, row, "missing", who="x", now=farm.clock())
    trial_id = begin(farm, *pair, processes=6)
    made = farm.jobs(jobs.c.sweep_run_id == trial(farm, trial_id).sweep_run_id, jobs.c.kind == "convert")
    assert [row.state for row in made] == ["queued"]
    work(farm)
    found = trial(farm, trial_id)
    assert (found.answer, found.not_alternated) == ("slower", False)
    assert started(farm, trial_id)[2:] == "BA" + "ABBA" * 2


@on_sqlite
def test_bytes_that_are_gone_are_made_again_meanwhile(farm: Farm, pair: tuple[int, int]) -> None:
    farm.play(by_recipe(steady(10.0), steady(10.6)))
    farm.lose(farm.artifact("onnx int8-static").sha256)
    trial_id = begin(farm, *pair, processes=6)
    work(farm)
    assert trial(farm, trial_id).answer == "slower"
    check_counts(farm)


def test_steps_of_two_processes_and_restarts_make_nothing_twice(farm: Farm, pair: tuple[int, int]) -> None:
    farm.play(by_recipe(steady(10.0, 0.15), steady(10.3, 0.15)))
    trial_id = begin(farm, *pair, processes=5, most=10)
    for _ in range(400):
        if trial(farm, trial_id).state != "running":
            break
        farm.tick(5.0)
        assert len(step(farm)) + len(step(farm)) <= 1
        if trial(farm, trial_id).wanted == 10 and len(farm.attempts()) % 7 == 0:
            farm.replace_host()
            farm.dispatcher.leave()
            farm.dispatcher = farm.new_dispatcher()
            farm.play(by_recipe(steady(10.0, 0.15), steady(10.3, 0.15)))
    found = trial(farm, trial_id)
    assert found.answer == "inconclusive"
    assert len(farm.jobs(jobs.c.trial_id == trial_id)) == 20
    assert step(farm) == []


def test_a_step_waits_for_another_that_is_under_way(farm: Farm, pair: tuple[int, int]) -> None:
    farm.play(by_recipe(steady(10.0, 0.15), steady(10.3, 0.15)))
    trial_id = begin(farm, *pair, processes=5, most=10)
    while not all(row.state == "succeeded" for row in farm.jobs(jobs.c.trial_id == trial_id)):
        farm.tick()
    ended: list[list[int]] = []
    other = threading.Thread(target=lambda: ended.append(step(farm)))
    with writing(farm.engine) as connection:
        assert step_trials(connection, farm.clock()) == []  # it queues more
        other.start()
        other.join(0.2)  # it looks, and waits for the row
    other.join()
    assert ended == [[]]
    assert len(farm.jobs(jobs.c.trial_id == trial_id)) == 20
    assert trial(farm, trial_id).wanted == 10


def test_the_noise_of_a_series_is_learnt(farm: Farm, pair: tuple[int, int]) -> None:
    farm.play(by_recipe(steady(10.0, 0.05), steady(10.0)))
    [series_id] = [row.id for row in farm.series() if row.recipe == "fp32"]
    trial_id = begin(farm, pair[0], pair[0], purpose="noise", series_id=series_id)
    work(farm)
    assert trial(farm, trial_id).wanted == 10
    assert trial(farm, trial_id).adjusted_p is None
    with reading(farm.engine) as connection:
        [floor] = connection.execute(select(floors)).all()
        known = noise_floor_of(connection, [series_id, 99])
    assert (floor.series_id, floor.processes, floor.trial_id) == (series_id, 20, trial_id)
    assert known == {series_id: floor.noise}
    assert 0.023 < floor.noise < 0.06
    assert floor.detectable > floor.noise
    farm.play(by_recipe(steady(10.0), steady(10.22)))  # 2.2 %: less than what it scatters by itself
    second = begin(farm, *pair, series_id=series_id)
    work(farm)
    assert trial(farm, second).answer != "slower"
    assert trial(farm, second).bound == pytest.approx(2 * floor.noise)


@on_sqlite
def test_what_many_trials_of_a_run_show_by_chance_is_allowed_for(farm: Farm, pair: tuple[int, int]) -> None:
    farm.play(by_recipe(steady(10.0), steady(10.6)))
    first = begin(farm, *pair, processes=5)
    run_id = trial(farm, first).sweep_run_id
    begin(farm, pair[0], pair[0], processes=5, run_id=run_id)
    begin(farm, pair[0], pair[0], processes=5, run_id=run_id)
    work(farm)
    found = farm.rows(trials)
    assert all(row.adjusted_p >= row.p for row in found)
    assert found[0].adjusted_p == pytest.approx(3 * found[0].p)


def test_points_know_the_jobs_and_medians_that_they_came_of(farm: Farm) -> None:
    farm.play(by_recipe(steady(10.0), steady(10.6)))
    farm.run(plan_of(farm.devices(), ONNX, INT8, repeats=3, threads=(1, 2)))
    for point in farm.points():
        with reading(farm.engine) as connection:
            found = template_job(connection, point.id)
            medians = process_medians_of(connection, point.id)
        told = [row.p50_ms for row in farm.results(results.c.job_id == found)]
        assert len(medians) == 3
        assert told == [medians[-1]]
    with reading(farm.engine) as connection, pytest.raises(UsageError, match="point 99"):
        template_job(connection, 99)


def test_many_trials_cost_few_statements(farm: Farm, pair: tuple[int, int]) -> None:
    run_id = trial(farm, begin(farm, *pair)).sweep_run_id
    for _ in range(11):
        begin(farm, *pair, run_id=run_id)
    statements = []
    event.listen(farm.engine, "before_cursor_execute", lambda *told: statements.append(told[2]))
    with writing(farm.engine) as connection:
        step_trials(connection, farm.clock() + timedelta(minutes=1))
    assert len(statements) <= 4


@on_sqlite
def test_a_trial_wants_what_was_measured(farm: Farm, pair: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="job 1 measures nothing"):
        begin(farm, 1, pair[0])
    with pytest.raises(UsageError, match="job 999 does not exist"):
        begin(farm, pair[0], 999)
    assert not farm.rows(trials)
    assert not farm.rows(sweep_runs, sweep_runs.c.purpose.is_not(None))


@on_sqlite
def test_a_trial_is_nobodys_request(farm: Farm, pair: tuple[int, int]) -> None:
    trial_id = begin(farm, *pair)
    [job, *_] = farm.jobs(jobs.c.trial_id == trial_id)
    with reading(farm.engine) as connection, pytest.raises(UsageError, match="holds trials of two artifacts"):
        clones.request_of_job(connection, job.id)
