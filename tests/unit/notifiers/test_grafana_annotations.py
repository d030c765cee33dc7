"""Annotations: one for each incident, however often it is tried, with an end while it is resolved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from exporters.notifiers.channel import DeliveryError
from exporters.notifiers.grafana_annotations import GrafanaAnnotations
from exporters.notifiers.links import Links
from exporters.notifiers.secrets import Secret
from tests.unit.grafana.fake_grafana import TOKEN, FakeGrafana, saying
from tests.unit.notifiers.documents import AT, incident_document, message, series

_BEGAN_MS = round(AT.timestamp() * 1000)


@pytest.fixture
def grafana() -> Iterator[FakeGrafana]:
    """A Grafana under a path."""
    made = FakeGrafana(prefix="/grafana")
    yield made
    made.close()


@pytest.fixture
def channel(grafana: FakeGrafana, tmp_path: Path) -> GrafanaAnnotations:
    """Its channel."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    return GrafanaAnnotations(
        name="marks", url=grafana.url, token=Secret(file=file), links=Links("https://grafana.example.org")
    )


def test_an_incident_gets_a_mark_and_an_end_and_loses_it_when_reopened(
    grafana: FakeGrafana, channel: GrafanaAnnotations
) -> None:
    receipt = channel.send(message("incident.opened", incident_document(series(device="<d0>"))))
    assert receipt == "1"
    [made] = grafana.annotations.values()
    assert (made["time"], made["timeEnd"]) == (_BEGAN_MS, _BEGAN_MS)
    assert made["tags"][:4] == ["benchfarm", "incident", "cause:code", "device:<d0>"]
    assert "Regression: mobilenet_v3_small" in made["text"]
    assert '<a href="https://grafana.example.org/d/benchfarm-regressions?var-incident=12">' in made["text"]
    resolved = incident_document(resolved_at="2026-12-01T02:00:00+00:00", resolved_by="farm", state="resolved")
    assert channel.send(message("incident.resolved", resolved, receipt=receipt)) == "1"
    assert grafana.annotations[1]["timeEnd"] == _BEGAN_MS + 86_400_000
    channel.send(message("incident.reopened", incident_document(), receipt=receipt))
    assert grafana.annotations[1]["timeEnd"] == _BEGAN_MS
    assert len(grafana.annotations) == 1


def test_a_try_whose_answer_was_lost_makes_no_second_mark(grafana: FakeGrafana, channel: GrafanaAnnotations) -> None:
    opened = message("incident.opened", incident_document())
    channel.send(opened)
    assert channel.send(opened) == "1"
    assert len(grafana.annotations) == 1


def test_a_mark_that_somebody_deleted_is_made_again(grafana: FakeGrafana, channel: GrafanaAnnotations) -> None:
    assert channel.send(message("incident.resolved", incident_document(), receipt="99")) == "1"
    assert len(grafana.annotations) == 1


def test_a_grafana_that_fails_is_tried_once_and_its_token_told_nobody(
    grafana: FakeGrafana, channel: GrafanaAnnotations
) -> None:
    for wrong, why in (
        (saying(500, "no room"), "answers 500: no room"),
        (saying(401, f"bad {TOKEN}"), "refuses the token"),
        (saying(403, f"bad {TOKEN}"), "needs the role Editor (bad ...)"),
    ):
        grafana.wrong.append(wrong)
        before = len(grafana.requests)
        with pytest.raises(DeliveryError) as caught:
            channel.send(message("incident.opened", incident_document()))
        assert why in str(caught.value)
        assert TOKEN not in str(caught.value)
        assert len(grafana.requests) == before + 1


def test_a_test_is_a_mark_of_its_own(grafana: FakeGrafana, channel: GrafanaAnnotations) -> None:
    channel.send(message("test", {}, incident_id=None))
    assert grafana.annotations[1]["tags"][:2] == ["benchfarm", "test"]
