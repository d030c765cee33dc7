"""The dispatcher's rounds: who runs where, and what happens when hosts, agents, attempts and dispatchers die."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import update

from device_registry.database import writing
from device_registry.registry import devices, hosts, record_hello
from device_registry.rests import LONGEST_REST_S
from scheduler.dispatcher import ATTEMPT_LEASE_S, Dispatcher
from scheduler.executors.scripted import Outcome, ScriptedExecutor, Succeed
from scheduler.leases import DispatcherLease, LeaseLostError
from scheduler.queue import MOST_ATTEMPTS
from scheduler.states import attempts, jobs
from tests.unit.scheduler.builders import (
    BROKEN,
    CRASHED,
    ONNX,
    TORCH,
    Farm,
    check_counts,
    check_history,
    in_turn,
    only,
    plan_of,
)
from workers.contract import Failure
from workers.host import describe_host

MakeFarm = Callable[..., Farm]
_MEASURE_IS_SILENT = only("measure", "silent")
#: Beyond the agent's lease, its time to kill and one call.
_EXPIRED_S = ATTEMPT_LEASE_S + 30


def _until_measuring(farm: Farm, count: int = 1) -> None:
    """Work until so many measurements run and say nothing."""
    farm.play(_MEASURE_IS_SILENT)
    for _ in range(20):
        if len([row for row in farm.live() if row.device_id is not None]) >= count:
            return
        farm.tick()
    raise AssertionError(farm.states())


def _measuring(farm: Farm, **options: int) -> None:
    farm.submit(plan_of(farm.devices(), TORCH, **options))
    _until_measuring(farm)


def test_an_idle_farm_changes_nothing(farm: Farm) -> None:
    assert not farm.tick()
    assert farm.attempts() == []


def test_nothing_runs_beside_a_measurement_on_a_cpu(make_farm: MakeFarm) -> None:
    farm = make_farm(kind="cpu")
    _measuring(farm)
    farm.submit(plan_of(farm.devices(), TORCH, model="other"))
    farm.tick()
    assert [row.device_id is not None for row in farm.live()] == [True]


def test_phones_do_not_wait_for_each_other_nor_for_conversions(make_farm: MakeFarm) -> None:
    farm = make_farm(kind="phone", devices=2)
    _measuring(farm)
    farm.submit(plan_of(farm.devices(), TORCH, model="other"))
    farm.play("silent")
    farm.tick()
    assert sorted(row.device_id is not None for row in farm.live()) == [False, True, True]


@pytest.mark.parametrize(
    "state",
    [{"presence": "offline"}, {"admin": "quarantined"}, {"admin": "draining"}, {"not_before": "cooling"}],
    ids=str,
)
def test_a_device_that_takes_no_work_gets_none_until_it_does(farm: Farm, state: dict[str, object]) -> None:
    farm.submit(plan_of(farm.devices(), TORCH))
    if "not_before" in state:
        state = {"not_before": farm.clock() + timedelta(seconds=LONGEST_REST_S)}
    with writing(farm.engine) as connection:
        connection.execute(update(devices).values(**state))
    for _ in range(4):
        farm.tick()
    assert farm.states() == [("convert", "succeeded"), ("measure", "queued")]
    with writing(farm.engine) as connection:
        connection.execute(update(devices).values(presence="online", admin="enabled", not_before=None))
    farm.settle()
    assert farm.states()[-1] == ("measure", "succeeded")


def test_a_conversion_bound_to_a_host_waits_for_that_host(farm: Farm) -> None:
    """The program of a user's own code is made where the code is, however idle another host may be."""
    elsewhere = farm.new_host("elsewhere")
    farm.submit(plan_of(farm.devices(), TORCH))
    farm.dispatcher = farm.new_dispatcher(elsewhere)
    farm.tick()
    assert elsewhere.orders == {}
    farm.dispatcher = farm.new_dispatcher()
    farm.settle()


def test_one_who_may_not_claim_takes_reports_only(farm: Farm) -> None:
    _measuring(farm, repeats=2)
    [attempt] = farm.live()
    farm.host.finish(attempt.id, Succeed())
    farm.dispatcher.tick(may_claim=lambda connection: False)
    assert farm.states()[1:] == [("measure", "succeeded"), ("measure", "queued")]


def test_an_agent_of_another_version_is_refused_with_the_reason_and_gets_no_work(farm: Farm) -> None:
    other = farm.new_host("other")
    other.version = "0"
    farm.dispatcher = farm.new_dispatcher(farm.host, other)
    [row] = farm.rows(hosts, hosts.c.name == "other")
    assert row.presence == "refused"
    assert "version 0" in row.why
    farm.play("silent")
    farm.submit(plan_of(farm.devices(), TORCH))
    farm.tick()
    assert {attempt.host_id for attempt in farm.live()} == {farm.rows(hosts, hosts.c.name == "here")[0].id}
    assert other.orders == {}


def test_of_two_hosts_with_one_name_the_second_is_refused(farm: Farm) -> None:
    twin = farm.new_host("twin")
    twin.rename("here", key="another machine")
    farm.dispatcher = farm.new_dispatcher(farm.host, twin)
    refused = farm.rows(hosts, hosts.c.key == "another machine")[0]
    assert refused.presence == "refused"
    assert "called here already" in refused.why
    assert farm.rows(hosts, hosts.c.key == "here")[0].presence == "online"


def test_a_host_with_a_device_that_another_host_has_is_refused_until_that_one_is_gone(farm: Farm) -> None:
    """One machine that joined under two names: its CPU has one host, and goes on when the other name is lost."""
    twin = farm.new_host("twin")
    twin.devices = farm.host.devices
    farm.dispatcher.leave()
    farm.dispatcher = farm.new_dispatcher(farm.host, twin)
    refused = farm.rows(hosts, hosts.c.key == "twin")[0]
    assert (refused.presence, "here has its device d0 already" in refused.why) == ("refused", True)
    [device] = farm.devices()
    assert (device.host, device.presence) == ("here", "online")
    farm.host.state = "dead"
    farm.tick()
    twin.restart()
    for _ in range(2):
        farm.tick()
    [device] = farm.devices()
    assert (device.host, device.presence) == ("twin", "online")


def test_a_host_that_sees_another_store_is_refused(farm: Farm) -> None:
    lease = DispatcherLease()
    farm.dispatcher.leave()
    with writing(farm.engine) as connection:
        assert lease.acquire(connection, farm.clock())
    marked = Dispatcher(
        farm.engine, ScriptedExecutor([farm.host]), lease, farm.clock, farm.clock.monotonic, store_marker="ours"
    )
    marked.tick()
    marked.close()
    assert farm.rows(hosts)[0].presence == "refused"
    assert "artifact store" in farm.rows(hosts)[0].why


def test_failures_of_the_infrastructure_are_tried_again_and_then_given_up(farm: Farm) -> None:
    farm.play(in_turn(then=BROKEN))
    farm.run(plan_of(farm.devices(), TORCH))
    job = farm.job("measure")
    assert (job.state, job.failure_cause, job.failure_code) == ("failed", "infrastructure", "gave_up")
    assert BROKEN.message in job.failure_message
    assert len(farm.attempts()) == 1 + MOST_ATTEMPTS
    check_history(farm)


def test_a_try_that_succeeds_makes_good_for_those_that_broke(farm: Farm) -> None:
    farm.play(in_turn(*[BROKEN] * (MOST_ATTEMPTS - 1)))
    farm.run(plan_of(farm.devices(), TORCH))
    assert farm.job("measure").state == "succeeded"
    assert farm.job("measure").failure_code is None
    assert [row.repeats for row in farm.points()] == [1]


@pytest.mark.parametrize("restarts", [False, True], ids=["remembered", "read anew"])
def test_who_rests_when_the_clock_is_set_back_by_hours_does_not_rest_for_hours(
    make_farm: MakeFarm, restarts: bool
) -> None:
    farm = make_farm(kind="phone")
    farm.play(in_turn(BROKEN))
    farm.submit(plan_of(farm.devices(), TORCH))
    while (job := farm.job("measure")).not_before is None:
        farm.tick(seconds=0.25)
    with writing(farm.engine) as connection:
        rests = {"not_before": farm.clock() + timedelta(seconds=LONGEST_REST_S)}
        connection.execute(update(devices).values(**rests))
    farm.tick(seconds=0.25)
    assert (job.state, farm.job("measure").state) == ("queued", "queued")
    farm.clock.jump(-7200)
    if restarts:
        farm.dispatcher = farm.new_dispatcher()
    for _ in range(8):
        farm.tick()
    assert farm.job("measure").state == "succeeded"


def test_a_retry_waits_longer_each_time(farm: Farm) -> None:
    farm.play(in_turn(then=BROKEN))
    farm.submit(plan_of(farm.devices(), TORCH))
    waits = []
    for _ in range(100):
        farm.tick(seconds=0.25)
        job = farm.job("measure")
        if job.state == "queued" and job.not_before is not None:
            wait = (job.not_before - job.changed_at).total_seconds()
            waits += [wait] if wait not in waits else []
    assert len(waits) == MOST_ATTEMPTS - 1
    assert waits == sorted(waits)


def test_a_conversion_that_broke_is_tried_again_before_anything_fails(farm: Farm) -> None:
    outcomes: list[Outcome] = [BROKEN, BROKEN]
    farm.play(lambda order: outcomes.pop() if outcomes else Succeed())
    farm.run(plan_of(farm.devices(), TORCH))
    assert farm.states() == [("convert", "succeeded"), ("measure", "succeeded")]


@pytest.mark.parametrize("cause", ["model", "user", "bug"])
def test_what_a_model_does_is_recorded_and_never_tried_again(farm: Farm, cause: str) -> None:
    farm.play(in_turn(then=Failure(cause=cause, code="out_of_memory", message="no memory left")))
    farm.run(plan_of(farm.devices(), TORCH))
    job = farm.job("measure")
    assert (job.state, job.failure_cause, job.failure_code) == ("failed", cause, "out_of_memory")
    assert len(farm.attempts()) == 2


def test_what_a_device_does_is_tried_again_and_then_fails_for_its_sake(farm: Farm) -> None:
    farm.play(in_turn(then=Failure(cause="device", code="gate_timeout", message="d0 was not ready")))
    farm.run(plan_of(farm.devices(), TORCH))
    job = farm.job("measure")
    assert (job.state, job.failure_cause, job.failure_code) == ("failed", "device", "gate_timeout")
    assert len(farm.attempts()) == 1 + MOST_ATTEMPTS
    check_history(farm)


def test_an_attempt_whose_host_falls_silent_is_queued_again_when_its_lease_has_run_out(farm: Farm) -> None:
    _measuring(farm)
    [attempt] = farm.live()
    farm.host.state = "silent"
    farm.tick(seconds=ATTEMPT_LEASE_S / 2)
    farm.tick(seconds=0)
    assert [row.id for row in farm.live()] == [attempt.id]
    farm.clock.advance(_EXPIRED_S)
    farm.tick()
    assert farm.live() == []
    assert farm.attempts()[-1].state == "lost"
    assert farm.attempts()[-1].message == "its lease ran out"
    assert farm.job("measure").state == "queued"
    assert farm.job("measure").attempts == 1
    check_history(farm)


def test_an_agent_unreachable_for_half_a_lease_loses_nothing(farm: Farm) -> None:
    _measuring(farm)
    [attempt] = farm.live()
    farm.host.state = "silent"
    farm.tick(seconds=ATTEMPT_LEASE_S / 2)
    farm.host.finish(attempt.id, Succeed())
    farm.host.state = "answers"
    farm.settle()
    assert [row.attempt_id for row in farm.results()] == [attempt.id]
    assert len(farm.attempts()) == 2


def test_what_ran_on_a_host_that_is_known_to_be_dead_is_queued_again_at_once(farm: Farm) -> None:
    _measuring(farm)
    farm.host.state = "dead"
    farm.tick()
    assert farm.live() == []
    assert farm.rows(hosts)[0].presence == "lost"
    assert {device.presence for device in farm.devices()} == {"offline"}
    assert farm.dispatcher.lost_hosts == {"here": "here does not answer"}


def test_what_ran_on_a_host_that_left_is_queued_again_at_once_and_was_no_try(farm: Farm) -> None:
    _measuring(farm)
    farm.host.state = "left"
    farm.tick()
    assert farm.live() == []
    assert farm.rows(hosts)[0].presence == "left"
    assert (farm.job("measure").state, farm.job("measure").attempts) == ("queued", 0)
    check_history(farm)


def test_a_loss_that_is_told_under_another_token_is_of_another_farm(farm: Farm) -> None:
    """A host that was another farm's tells what was left there: ids are counted anew in every database."""
    _measuring(farm)
    [attempt] = farm.live()
    farm.host._emit("lost", attempt_id=attempt.id, token="f" * 32)
    for _ in range(2):
        farm.tick()
    assert [row.id for row in farm.live()] == [attempt.id]
    farm.host.finish(attempt.id, Succeed())
    farm.settle()
    assert [row.attempt_id for row in farm.results()] == [attempt.id]


def test_a_host_lost_and_not_known_to_be_dead_keeps_its_attempts_until_their_lease_has_run_out(farm: Farm) -> None:
    _measuring(farm)
    [attempt] = farm.live()
    farm.host.state = "lost"
    for _ in range(3):
        farm.tick()
    assert [row.id for row in farm.live()] == [attempt.id]
    farm.clock.advance(_EXPIRED_S)
    farm.tick()
    assert farm.live() == []


def test_a_host_that_comes_back_within_its_lease_goes_on(farm: Farm) -> None:
    """A pulled cable: its attempts ran all the time, and so does its device's place in the farm."""
    _measuring(farm)
    [attempt] = farm.live()
    farm.host.state = "lost"
    farm.tick()
    farm.host.finish(attempt.id, Succeed())
    farm.host.state = "answers"
    farm.settle()
    assert [row.attempt_id for row in farm.results()] == [attempt.id]
    assert farm.rows(hosts)[0].presence == "online"
    assert {device.presence for device in farm.devices()} == {"online"}
    check_history(farm)


def test_a_host_that_comes_back_after_its_lease_has_a_stale_result_and_works_again(farm: Farm) -> None:
    _measuring(farm)
    [attempt] = farm.live()
    farm.host.state = "lost"
    farm.tick()
    farm.clock.advance(_EXPIRED_S)
    farm.tick()
    farm.host.finish(attempt.id, Succeed(p50_ms=50.0))
    farm.host.state = "answers"
    farm.play(Succeed(p50_ms=1.0))
    farm.settle()
    assert [(row.attempt_id == attempt.id, row.stale) for row in farm.results()] == [(True, True), (False, False)]
    assert [row.value for row in farm.points()] == [1.0]
    check_history(farm)
    check_counts(farm)


def test_a_place_is_held_until_its_agent_has_ended_what_was_given_up(make_farm: MakeFarm) -> None:
    farm = make_farm(kind="phone")
    _measuring(farm, repeats=2)
    [attempt] = farm.live()
    farm.host.obeys = False  # ending takes a while
    farm.cancel(attempt.job_id)
    for _ in range(6):
        farm.tick()
    assert farm.host.running == {attempt.id}
    assert farm.live() == []
    farm.host.obeys = True
    for _ in range(3):
        farm.tick()
    assert [row.job_id for row in farm.live()] == [farm.job("measure", 1).id]


@pytest.mark.parametrize("seconds", [-86_400, -3600, 3600, 86_400])
def test_a_wall_clock_that_jumps_loses_and_doubles_nothing(farm: Farm, seconds: float) -> None:
    _measuring(farm)
    [attempt] = farm.live()
    farm.clock.jump(seconds)
    for _ in range(5):
        farm.tick()
    assert [row.id for row in farm.live()] == [attempt.id]
    farm.host.finish(attempt.id, Succeed())
    farm.settle()
    assert [row.attempt_id for row in farm.results()] == [attempt.id]
    assert len(farm.attempts()) == 2


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_a_dispatcher_that_takes_over_after_a_jump_waits_for_a_host_as_long_as_ever(farm: Farm, seconds: float) -> None:
    _measuring(farm)
    farm.host.state = "silent"
    farm.dispatcher.leave()
    farm.clock.jump(seconds)
    farm.dispatcher = farm.new_dispatcher()
    assert len(farm.live()) == 1
    farm.clock.advance(_EXPIRED_S)
    farm.tick()
    assert farm.live() == []
    check_history(farm)


def test_devices_that_are_plugged_in_and_out_come_and_go(make_farm: MakeFarm) -> None:
    farm = make_farm(kind="phone", devices=2)
    both = list(farm.host.devices)
    farm.run(plan_of(farm.devices()[:1], TORCH))
    farm.host.plug(both[:1])
    farm.submit(plan_of(farm.devices(), TORCH, salt="again"))
    for _ in range(3):
        farm.tick()
    assert [device.presence for device in farm.devices()] == ["online", "offline"]
    assert [state for _, state in farm.states()[2:]] == ["succeeded", "queued"]
    farm.host.plug(both)
    farm.settle()
    assert [state for _, state in farm.states()[2:]] == ["succeeded", "succeeded"]


def test_work_is_spread_over_hosts_and_a_lost_hosts_share_moves(make_farm: MakeFarm) -> None:
    farm = make_farm(kind="phone")
    other = farm.add_host("other", kind="phone")
    farm.run(plan_of(farm.devices()[:1], TORCH))
    farm.play(only("measure", "silent"))
    anywhere = plan_of(farm.devices()[:1], TORCH, repeats=2, salt="any", pinned=False)
    farm.submit(anywhere)
    farm.tick()
    assert len({row.host_id for row in farm.live()}) == 2
    other.state = "dead"
    farm.play(Succeed())
    farm.host.finish(min(farm.host.running), Succeed())
    farm.settle()
    assert {row.host_id for row in farm.attempts(attempts.c.state == "finished")} == {farm.devices()[0].host_id}
    check_history(farm)
    check_counts(farm)


def test_an_attempt_that_its_host_reports_to_run_keeps_its_lease_for_as_long_as_it_takes(farm: Farm) -> None:
    _measuring(farm)
    for _ in range(10):
        farm.tick(seconds=ATTEMPT_LEASE_S)
    [attempt] = farm.live()
    assert attempt.state == "running"


def test_an_attempt_that_its_host_knows_nothing_of_is_queued_again(farm: Farm) -> None:
    """The host answers polls, but what it was given is neither running nor reported: only the lease tells."""
    farm.play(in_turn("vanish"))
    farm.run(plan_of(farm.devices(), TORCH))
    assert [row.state for row in farm.attempts()] == ["finished", "lost", "finished"]
    check_history(farm)


def test_orders_that_were_lost_on_their_way_are_made_up_for(make_farm: MakeFarm) -> None:
    farm = make_farm(kind="phone", devices=2)
    farm.run(plan_of(farm.devices(), TORCH))
    farm.submit(plan_of(farm.devices(), TORCH, salt="again"))
    farm.host.deaf = True
    farm.tick()
    assert len(farm.live()) == 2
    farm.host.deaf = False
    farm.host.state = "lost"
    farm.tick()
    farm.host.state = "answers"
    farm.settle()
    assert len(farm.results()) == 4
    check_history(farm)


def test_orders_of_a_dispatcher_that_was_killed_before_it_sent_them_are_made_up_for_at_once(farm: Farm) -> None:
    farm.submit(plan_of(farm.devices(), TORCH))
    farm.host.deaf = True
    farm.tick()
    farm.host.deaf = False
    farm.dispatcher = farm.new_dispatcher()
    assert farm.attempts()[-1].message == "its agent is gone"
    farm.settle()
    check_history(farm)


def test_a_new_dispatcher_gives_up_what_a_new_agent_knows_nothing_of(farm: Farm) -> None:
    _measuring(farm)
    farm.replace_host()
    farm.dispatcher = farm.new_dispatcher()
    assert farm.attempts()[-1].state == "lost"
    assert farm.job("measure").state == "queued"
    farm.settle()
    assert [row.state for row in farm.attempts()] == ["finished", "lost", "finished"]
    assert len(farm.results()) == 1
    check_history(farm)


def test_a_new_dispatcher_leaves_what_still_runs_alone(farm: Farm) -> None:
    _measuring(farm)
    [attempt] = farm.live()
    farm.dispatcher = farm.new_dispatcher()
    farm.host.finish(attempt.id, Succeed())
    farm.settle()
    assert [row.attempt_id for row in farm.results()] == [attempt.id]
    assert len(farm.attempts()) == 2


def test_a_new_dispatcher_takes_a_result_that_waits_for_it_once(farm: Farm) -> None:
    _measuring(farm)
    [attempt] = farm.live()
    farm.host.finish(attempt.id, Succeed())
    farm.host.restart()  # the successor reports what was finished and not taken
    farm.dispatcher = farm.new_dispatcher()
    assert farm.job("measure").state == "succeeded"
    farm.settle()
    assert [row.attempt_id for row in farm.results()] == [attempt.id]
    assert [row.repeats for row in farm.points()] == [1]
    check_history(farm)


def test_what_an_agent_lost_is_queued_again(farm: Farm) -> None:
    _measuring(farm)
    farm.host.restart()
    farm.dispatcher = farm.new_dispatcher()
    assert farm.attempts()[-1].message == "its agent ended before it did"
    farm.play(Succeed())
    farm.settle()
    assert farm.job("measure").state == "succeeded"


def test_what_the_database_gave_up_is_ended_on_the_host(farm: Farm) -> None:
    """The dispatcher lost an attempt and made it up elsewhere; its host turns up again, with the first one running."""
    _measuring(farm)
    [attempt] = farm.live()
    farm.clock.advance(_EXPIRED_S)
    farm.dispatcher = farm.new_dispatcher(farm.new_host("elsewhere"))
    farm.clock.advance(20)  # it waits for the host to say hello, for a while
    farm.tick()
    assert farm.attempts()[-1].state == "lost"
    farm.dispatcher = farm.new_dispatcher()
    farm.play(Succeed())
    farm.settle()
    assert attempt.id not in farm.host.running
    assert [row.attempt_id for row in farm.results()] != [attempt.id]
    assert len(farm.results()) == 1


def test_a_report_survives_a_round_that_broke_after_it_was_read(farm: Farm) -> None:
    """The round's transaction is undone, so its reports must be asked for again."""
    _measuring(farm)
    [attempt] = farm.live()
    farm.host.finish(attempt.id, Succeed())

    def break_(connection: object) -> bool:
        raise OSError("disk I/O error")

    with pytest.raises(OSError, match="disk I/O error"):
        farm.dispatcher.tick(may_claim=break_)
    farm.dispatcher.stop()
    assert [row.attempt_id for row in farm.results()] == [attempt.id]
    assert farm.job("measure").state == "succeeded"


def test_stopping_ends_what_runs_and_leaves_it_to_be_resumed(farm: Farm) -> None:
    _measuring(farm)
    farm.dispatcher.stop()
    assert farm.host.running == set()
    assert farm.live() == []
    job = farm.job("measure")
    assert (job.state, job.attempts) == ("queued", 0)  # it was our wish: no try is counted
    farm.play(Succeed())
    farm.dispatcher = farm.new_dispatcher()
    farm.settle()
    check_history(farm)


def test_stopping_takes_its_hosts_along(farm: Farm) -> None:
    assert farm.devices()[0].host_presence == "online"
    farm.dispatcher.stop()
    assert [(device.presence, device.host_presence) for device in farm.devices()] == [("offline", "left")]


def test_hosts_that_do_not_come_back_are_lost(farm: Farm) -> None:
    """They died while nobody dispatched. One that has just registered itself may come yet."""

    def register(name: str) -> None:
        with writing(farm.engine) as connection:
            record_hello(connection, describe_host(name), [], "3", farm.clock())

    register("dead")
    for _ in range(100):
        farm.tick()
    register("young")
    for _ in range(20):
        farm.tick()
    presences = {row.name: row.presence for row in farm.rows(hosts)}
    assert presences == {"here": "online", "dead": "lost", "young": "online"}


def test_stopping_takes_what_has_finished_in_the_meantime(farm: Farm) -> None:
    _measuring(farm)
    farm.host.finish(farm.live()[0].id, Succeed())
    farm.dispatcher.stop()
    assert farm.job("measure").state == "succeeded"


def test_stopping_gives_the_lease_to_whoever_waits(farm: Farm) -> None:
    farm.dispatcher.stop()
    with writing(farm.engine) as connection:
        assert DispatcherLease().acquire(connection, farm.clock())


def test_stopping_while_the_host_is_lost_still_leaves_the_rows_in_order(farm: Farm) -> None:
    _measuring(farm)
    farm.host.state = "lost"
    farm.dispatcher.stop()
    assert farm.live() == []
    assert farm.job("measure").state == "queued"
    with writing(farm.engine) as connection:
        assert DispatcherLease().acquire(connection, farm.clock())


def test_one_that_leaves_disturbs_nothing_that_runs(farm: Farm) -> None:
    _measuring(farm)
    [attempt] = farm.live()
    farm.dispatcher.leave()
    assert farm.host.running == {attempt.id}
    farm.dispatcher = farm.new_dispatcher()
    farm.host.finish(attempt.id, Succeed())
    farm.settle()
    assert [row.attempt_id for row in farm.results()] == [attempt.id]
    assert len(farm.attempts()) == 2


def test_a_dispatcher_that_was_replaced_does_nothing_any_more(farm: Farm) -> None:
    replaced = farm.dispatcher
    farm.clock.advance(60)
    farm.dispatcher = farm.new_dispatcher()
    farm.submit(plan_of(farm.devices(), TORCH))
    with pytest.raises(LeaseLostError):
        replaced.tick()
    assert farm.attempts() == []


def test_a_dispatcher_that_was_replaced_ends_nothing_of_its_successor(farm: Farm) -> None:
    replaced: Dispatcher = farm.dispatcher
    farm.clock.advance(60)
    farm.dispatcher = farm.new_dispatcher()
    _measuring(farm)
    running = farm.live()
    with pytest.raises(LeaseLostError):
        replaced.tick()
    with suppress(LeaseLostError):
        replaced.stop()
    assert farm.live() == running
    assert farm.host.running == {row.id for row in running}
    farm.host.finish(running[0].id, Succeed())
    farm.settle()
    assert len(farm.attempts()) == 2


def test_many_jobs_for_a_device_that_is_away_do_not_keep_others_from_theirs(make_farm: MakeFarm) -> None:
    farm = make_farm(kind="phone", devices=2)
    away, here = farm.devices()
    farm.run(plan_of([away], TORCH))
    with writing(farm.engine) as connection:
        connection.execute(update(devices).where(devices.c.id == away.id).values(presence="offline"))
    waiting = farm.submit(plan_of([away], TORCH, repeats=250, salt="waiting")).sweep_run_id
    run_id = farm.submit(plan_of([here], TORCH, salt="ready")).sweep_run_id
    for _ in range(3):
        farm.tick()
    assert farm.states(run_id) == [("measure", "succeeded")]
    assert {state for _, state in farm.states(waiting)} == {"queued"}


def test_every_round_keeps_the_invariants(make_farm: MakeFarm) -> None:
    farm = make_farm(kind="phone", devices=2)
    outcomes: list[Outcome] = [Succeed(), BROKEN, CRASHED, Succeed(), BROKEN]
    farm.play(lambda order: outcomes[order.attempt_id % len(outcomes)])
    for name in ("a", "b"):
        farm.submit(plan_of(farm.devices(), TORCH, ONNX, model=name, repeats=2))
    for _ in range(40):
        farm.tick()
        check_counts(farm)
    check_history(farm)
    assert farm.jobs(jobs.c.state.in_(("blocked", "queued", "running"))) == []


@pytest.mark.parametrize("ends", ["by themselves", "by the dispatcher"])
def test_of_many_reports_at_once_none_is_left_behind(
    make_farm: MakeFarm, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    monkeypatch.setattr("scheduler.dispatcher._MOST_EVENTS", 2)
    farm = make_farm(kind="phone", devices=5)
    farm.submit(plan_of(farm.devices(), TORCH))
    _until_measuring(farm, 5)
    for row in farm.live():
        farm.host.finish(row.id, Succeed())
    farm.tick()
    assert len(farm.results()) < 5
    if ends == "by themselves":
        farm.settle()
    else:
        farm.dispatcher.stop()
    assert len(farm.results()) == 5
    check_history(farm)
    check_counts(farm)
