"""workers.measure on a clock that only the runs themselves advance."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from workers import measure
from workers.contract import Options
from workers.measure import Timed, drift, is_converged, summarise, timed_part, warm_up

MS = 1_000_000
SECOND = 1_000_000_000


class Clock:
    """Time passes only while something runs or sleeps."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.starts: list[int] = []
        self.slept: list[float] = []

    def perf_counter_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_ns += round(seconds * SECOND)

    def run_taking(self, *durations_ns: int) -> Callable[[], None]:
        """A run that takes these times in turn, then begins anew."""
        return self.run_from(itertools.cycle(durations_ns))

    def run_from(self, durations_ns: Iterator[int]) -> Callable[[], None]:
        def run() -> None:
            self.starts.append(self.now_ns)
            self.now_ns += next(durations_ns)

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A scripted clock in the place of the module's."""
    scripted = Clock()
    scripted_time = SimpleNamespace(perf_counter_ns=scripted.perf_counter_ns, sleep=scripted.sleep)
    monkeypatch.setattr(measure, "time", scripted_time)
    monkeypatch.setattr(gc, "collect", lambda: 0)  # a tenth of a second each
    return scripted


def make_timed(ms: list[float], *, inner: int = 1, elapsed_s: float | None = None) -> Timed:
    """A timed part with these milliseconds per inference."""
    nanoseconds = np.asarray([value * MS * inner for value in ms], dtype=np.int64)
    return Timed(nanoseconds, inner, sum(ms) * inner / 1000 if elapsed_s is None else elapsed_s, True)


# Warm-up


def test_warm_up_lasts_half_a_second_at_least(clock: Clock) -> None:
    how, middle_ns = warm_up(clock.run_taking(MS))
    assert (how.stable, middle_ns) == (True, MS)
    assert 0.5 <= how.seconds < 0.6
    assert how.runs == len(clock.starts) >= 500


def test_warm_up_of_a_slow_model_is_six_runs_that_agree(clock: Clock) -> None:
    how, middle_ns = warm_up(clock.run_taking(SECOND))
    assert (how.runs, how.stable, middle_ns) == (6, True, SECOND)


@pytest.mark.parametrize("seconds", [4, 20])
def test_warm_up_of_a_very_slow_model_ends_after_three_runs_and_says_unstable(clock: Clock, seconds: int) -> None:
    how, _ = warm_up(clock.run_taking(seconds * SECOND))
    assert (how.runs, how.stable) == (3, False)


def test_warm_up_waits_until_runs_stop_getting_faster(clock: Clock) -> None:
    settling = (round(MS * (10 + 40 * 0.97**number)) for number in itertools.count())
    how, middle_ns = warm_up(clock.run_from(settling))
    assert how.stable
    assert how.runs > 50
    assert middle_ns == pytest.approx(10 * MS, rel=0.15)


def test_warm_up_that_never_settles_ends_at_the_cap(clock: Clock) -> None:
    slower = (round(MS * 1.05**number) for number in itertools.count())
    how, _ = warm_up(clock.run_from(slower))
    assert not how.stable
    assert 10 <= how.seconds < 11


# Timed part


def test_a_steady_run_lasts_its_least_seconds_and_converges(clock: Clock) -> None:
    timed = timed_part(clock.run_taking(10 * MS), Options(), 10 * MS)
    assert timed.converged
    assert 3.0 <= timed.elapsed_s < 3.1
    assert timed.nanoseconds.tolist() == [10 * MS] * len(clock.starts)


def test_at_least_64_iterations_however_steady(clock: Clock) -> None:
    timed = timed_part(clock.run_taking(100 * MS), Options(min_seconds=0.0), 100 * MS)
    assert (len(timed.nanoseconds), timed.converged) == (64, True)


def test_fewer_than_64_iterations_where_so_many_do_not_fit_the_cap(clock: Clock) -> None:
    timed = timed_part(clock.run_taking(2 * SECOND), Options(), 2 * SECOND)
    assert (len(timed.nanoseconds), timed.elapsed_s, timed.converged) == (30, 60.0, True)


def test_one_iteration_longer_than_the_cap_is_measured_once_and_not_converged(clock: Clock) -> None:
    timed = timed_part(clock.run_taking(90 * SECOND), Options(), 90 * SECOND)
    assert (timed.nanoseconds.tolist(), timed.converged) == ([90 * SECOND], False)


def test_under_seven_iterations_never_converge(clock: Clock) -> None:
    timed = timed_part(clock.run_taking(10 * SECOND), Options(), 10 * SECOND)
    assert (len(timed.nanoseconds), timed.converged) == (6, False)


def test_a_run_that_does_not_settle_stops_at_the_cap(clock: Clock) -> None:
    timed = timed_part(clock.run_taking(10 * MS, 20 * MS), Options(max_seconds=5.0), 15 * MS)
    assert not timed.converged
    assert 5.0 <= timed.elapsed_s <= 5.02  # one iteration over at most


def test_the_cap_bounds_the_least_seconds_too(clock: Clock) -> None:
    timed = timed_part(clock.run_taking(10 * MS), Options(min_seconds=3.0, max_seconds=1.0), 10 * MS)
    assert 1.0 <= timed.elapsed_s <= 1.01


def test_a_run_goes_on_until_its_median_is_known_to_one_percent(clock: Clock) -> None:
    generator = np.random.default_rng(0)
    noisy = (round(MS * (10 + generator.normal(0, 1))) for _ in itertools.count())
    timed = timed_part(clock.run_from(noisy), Options(min_seconds=0.0), 10 * MS)
    assert timed.converged
    assert is_converged(timed.nanoseconds)
    assert not is_converged(timed.nanoseconds[:64])
    assert 64 < len(timed.nanoseconds) < 2000


def test_wanting_p99_takes_662_iterations(clock: Clock) -> None:
    timed = timed_part(clock.run_taking(10 * MS), Options(percentile=99, min_seconds=0.0), 10 * MS)
    assert len(timed.nanoseconds) == 662
    assert summarise(timed, "burst").p99_ms == 10.0


def test_wanting_p99_raises_the_cap_with_the_minimum(clock: Clock) -> None:
    timed = timed_part(clock.run_taking(200 * MS), Options(percentile=99), 200 * MS)
    assert summarise(timed, "burst").p99_ms == 200.0


def test_fast_runs_are_timed_in_inner_loops_and_reported_per_inference(clock: Clock) -> None:
    timed = timed_part(clock.run_taking(10_000), Options(min_seconds=0.1), 10_000)
    assert timed.inner_iterations == 11
    assert len(clock.starts) == 11 * len(timed.nanoseconds)
    assert set(timed.nanoseconds.tolist()) == {110_000}
    assert summarise(timed, "burst").p50_ms == pytest.approx(0.01)


def test_runs_of_110_microseconds_need_no_inner_loop(clock: Clock) -> None:
    timed = timed_part(clock.run_taking(110_000), Options(min_seconds=0.1), 110_000)
    assert timed.inner_iterations == 1


def test_a_run_too_short_for_the_clock_is_measured_all_the_same(clock: Clock) -> None:
    timed = timed_part(clock.run_taking(0, 0, 0, 40), Options(min_seconds=0.001, max_seconds=0.01), 0)
    assert len(timed.nanoseconds) >= 1


def test_sustained_goes_on_for_ten_minutes_though_it_converged_long_before(clock: Clock) -> None:
    timed = timed_part(clock.run_taking(100 * MS), Options(mode="sustained", max_seconds=900.0), 100 * MS)
    assert timed.converged
    assert timed.elapsed_s == pytest.approx(600.0, abs=0.2)
    assert len(timed.nanoseconds) == pytest.approx(6000, abs=2)


def test_sustained_obeys_a_lower_cap(clock: Clock) -> None:
    timed = timed_part(clock.run_taking(100 * MS), Options(mode="sustained", max_seconds=20.0), 100 * MS)
    assert timed.elapsed_s == pytest.approx(20.0, abs=0.2)


def test_a_target_rate_starts_each_iteration_on_its_grid(clock: Clock) -> None:
    timed = timed_part(clock.run_taking(20 * MS), Options(rate_hz=10.0, min_seconds=0.0), 20 * MS)
    assert clock.starts == [number * 100 * MS for number in range(64)]
    assert set(timed.nanoseconds.tolist()) == {20 * MS}  # the pauses are no latency


def test_a_target_rate_is_never_timed_in_inner_loops(clock: Clock) -> None:
    timed = timed_part(clock.run_taking(10_000), Options(rate_hz=100.0, min_seconds=0.0), 10_000)
    assert timed.inner_iterations == 1
    assert len(clock.starts) == len(timed.nanoseconds)


def test_an_overrun_delays_the_next_iteration_and_skips_none(clock: Clock) -> None:
    durations = itertools.chain([250 * MS], itertools.repeat(20 * MS))
    timed = timed_part(clock.run_from(durations), Options(rate_hz=10.0, min_seconds=0.0), 20 * MS)
    assert clock.starts[:2] == [0, 250 * MS]
    gaps = np.diff(clock.starts[3:])
    assert set(gaps.tolist()) == {100 * MS}
    assert timed.nanoseconds[0] == 250 * MS


def test_after_an_overrun_iterations_fall_back_on_the_grid(clock: Clock) -> None:
    durations = itertools.chain([250 * MS], itertools.repeat(20 * MS))
    timed_part(clock.run_from(durations), Options(rate_hz=10.0, min_seconds=0.0), 20 * MS)
    assert {start % (100 * MS) for start in clock.starts[3:]} == {0}


def test_a_rate_that_cannot_be_kept_runs_back_to_back(clock: Clock) -> None:
    timed_part(clock.run_taking(20 * MS), Options(rate_hz=1000.0, min_seconds=0.0), 20 * MS)
    assert clock.slept == []


def test_garbage_is_not_collected_while_timing_but_is_again_after(clock: Clock) -> None:
    seen = []
    run = clock.run_taking(10 * MS)

    def watched() -> None:
        seen.append(gc.isenabled())
        run()

    timed_part(watched, Options(min_seconds=0.0), 10 * MS)
    assert set(seen) == {False}
    assert gc.isenabled()


def test_garbage_is_collected_again_after_a_run_that_raised(clock: Clock) -> None:
    def fails() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        timed_part(fails, Options(), 10 * MS)
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


# Convergence


def test_convergence_needs_seven_samples() -> None:
    assert [is_converged([100] * n) for n in (0, 1, 6, 7)] == [False, False, False, True]


def test_convergence_is_the_interval_of_the_median_within_one_percent() -> None:
    # Seven samples: the 95 % interval is the smallest to the largest.
    assert is_converged([990, 995, 1000, 1000, 1000, 1005, 1010])
    assert not is_converged([989, 995, 1000, 1000, 1000, 1005, 1010])
    assert not is_converged([990, 995, 1000, 1000, 1000, 1005, 1011])


# Summary


def test_summary_of_known_times() -> None:
    timings = summarise(make_timed([float(value) for value in range(1, 102)], elapsed_s=6.0), "burst")
    assert (timings.iterations, timings.inner_iterations, timings.elapsed_s) == (101, 1, 6.0)
    assert (timings.p50_ms, timings.mean_ms, timings.min_ms, timings.max_ms) == (51.0, 51.0, 1.0, 101.0)
    assert (timings.mad_ms, timings.p90_ms, timings.p95_ms, timings.p99_ms) == (25.0, 91.0, None, None)
    assert timings.p50_within_ci_ms == (41.0, 61.0)
    assert timings.std_ms == pytest.approx(29.3002, abs=1e-4)
    assert (timings.first_minute_p50_ms, timings.last_minute_p50_ms) == (None, None)


def test_percentiles_of_loop_means_are_absent() -> None:
    looped = summarise(make_timed([0.01] * 700, inner=11), "burst")
    assert looped.std_ms is None
    single = summarise(make_timed([0.2] * 700), "burst")
    assert (looped.p90_ms, looped.p95_ms, looped.p99_ms) == (None, None, None)
    assert (single.p90_ms, single.p95_ms, single.p99_ms) == (0.2, 0.2, 0.2)
    assert looped.p50_ms == pytest.approx(0.01)


def test_drift_compares_the_last_fifth_with_the_first() -> None:
    ratio, p = drift(np.asarray([10.0] * 30 + [50.0] * 90 + [11.0] * 30))
    assert ratio == pytest.approx(1.1)
    assert p is not None
    assert p < 0.001


def test_drift_is_absent_with_fewer_than_thirty_at_each_end() -> None:
    assert drift(np.asarray([10.0] * 149)) == (None, None)
    assert drift(np.asarray([10.0] * 150)) == (1.0, 1.0)


def test_sustained_compares_the_first_minute_with_the_last() -> None:
    timed = make_timed([100.0] * 600 + [50.0] * 2400 + [125.0] * 480)  # one minute, two, one
    timings = summarise(timed, "sustained")
    assert (timings.first_minute_p50_ms, timings.last_minute_p50_ms) == (100.0, 125.0)
    assert summarise(timed, "burst").first_minute_p50_ms is None


def test_sustained_for_less_than_two_minutes_has_no_first_and_last_minute() -> None:
    timings = summarise(make_timed([100.0] * 1199), "sustained")
    assert (timings.first_minute_p50_ms, timings.last_minute_p50_ms) == (None, None)


def test_minutes_of_a_paced_run_are_minutes_of_the_clock() -> None:
    timed = make_timed([10.0] * 60 + [20.0] * 60 + [30.0] * 60, elapsed_s=180.0)
    timings = summarise(timed, "sustained")
    assert timings.last_minute_p50_ms == 30.0
    assert timings.first_minute_p50_ms in (10.0, 15.0, 20.0)


def test_iterations_longer_than_a_minute_have_no_first_minute() -> None:
    timings = summarise(make_timed([70_000.0] * 3), "sustained")
    assert timings.first_minute_p50_ms is None
