"""What is one incident: whatever the order, everything once, and as the rules say."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from scheduler.regressions.grouping import Finding, Steady, group, ties_of, with_lone_units
from tests.unit.regressions.watch_rows import finding

_findings = st.builds(
    finding,
    series_id=st.integers(1, 6),
    device_id=st.integers(1, 4),
    device_class=st.sampled_from([None, ("sim", "a"), ("sim", "b")]),
    case_key=st.sampled_from(["one", "two"]),
    model=st.sampled_from(["net", "other"]),
    cause=st.sampled_from(["code", "environment", "device", "clock", "unknown"]),
    environment=st.sampled_from([(), (("os", "14", "15"),)]),
)


@given(st.lists(_findings, max_size=12), st.randoms(use_true_random=False))
def test_every_finding_is_in_one_group_whatever_the_order(findings: list[Finding], luck: random.Random) -> None:
    groups = group(findings)
    assert sorted(map(repr, (one for members in groups for one in members))) == sorted(map(repr, findings))
    shuffled = list(findings)
    luck.shuffle(shuffled)
    assert _as_sets(group(shuffled)) == _as_sets(groups)
    for members in groups:
        assert len({one.cause for one in members}) == 1
    # What two of different groups have in common would have made them one.
    for number, members in enumerate(groups):
        own = {tie for one in members for tie in ties_of(one)}
        for others in groups[number + 1 :]:
            assert not own & {tie for one in others for tie in ties_of(one)}


def _as_sets(groups: Sequence[Sequence[Finding]]) -> list[list[str]]:
    return sorted(sorted(map(repr, members)) for members in groups)


def test_one_slower_model_is_one_incident_on_however_many_devices() -> None:
    found = [finding(series_id=number, device_id=number, device_class=("sim", "ab"[number % 2])) for number in range(6)]
    assert len(group([*found, finding(series_id=9, model="other", case_key="other")])) == 2


def test_what_a_unit_does_is_one_incident_and_units_are_apart() -> None:
    found = [finding(series_id=n, cause="device", model=f"net-{n}", device_id=n % 2) for n in range(4)]
    assert sorted(len(members) for members in group(found)) == [2, 2]


def test_an_update_is_one_incident_for_its_class_and_each_update_its_own() -> None:
    before, after = (("os", "14", "15"),), (("os", "15", "16"),)
    found = [
        finding(series_id=n, cause="environment", model=f"net-{n}", device_id=n, environment=before) for n in range(3)
    ]
    other = finding(series_id=7, cause="environment", environment=after, device_id=7)
    elsewhere = finding(series_id=8, cause="environment", environment=before, device_id=8, device_class=("sim", "b"))
    assert sorted(len(members) for members in group([*found, other, elsewhere])) == [1, 1, 3]


def test_an_unknown_cause_joins_cases_of_a_model_on_a_unit_and_units_of_a_class() -> None:
    found = [
        finding(series_id=1, cause="unknown", device_id=1, case_key="one"),
        finding(series_id=2, cause="unknown", device_id=1, case_key="two"),
        finding(series_id=3, cause="unknown", device_id=2, case_key="two"),
        finding(series_id=4, cause="unknown", device_id=3, device_class=None, model="other", case_key="two"),
    ]
    assert sorted(len(members) for members in group(found)) == [1, 3]


def test_one_unit_alone_is_under_suspicion_where_others_would_have_shown_the_step() -> None:
    calm = Steady(device_id=2, device_class=("sim", "pixel"), case_key="case", change=0.001, noise=0.01)
    [alone] = with_lone_units([finding()], [calm])
    assert alone.cause == "device"
    assert "only this unit" in alone.why
    noisy = Steady(device_id=2, device_class=("sim", "pixel"), case_key="case", change=0.001, noise=0.05)
    half = Steady(device_id=2, device_class=("sim", "pixel"), case_key="case", change=0.06, noise=0.001)
    elsewhere = Steady(device_id=2, device_class=("sim", "other"), case_key="case", change=0.0, noise=0.01)
    own = Steady(device_id=1, device_class=("sim", "pixel"), case_key="case", change=0.0, noise=0.01)
    for other in (noisy, half, elsewhere, own):
        assert with_lone_units([finding()], [other])[0].cause == "code"
    both = [finding(), finding(series_id=2, device_id=2)]
    assert {one.cause for one in with_lone_units(both, [calm])} == {"code"}
    assert with_lone_units([finding(device_class=None)], [calm])[0].cause == "code"
