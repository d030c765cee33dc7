"""Messages as people read them: in words, as text, Markdown and Slack blocks; names hold no markup anywhere."""

from __future__ import annotations

import json
from typing import Any

from dashboards import links as dashboard_links
from exporters.notifiers import links, text
from exporters.notifiers.links import Links
from exporters.notifiers.slack import slack_body
from exporters.notifiers.words import change_words, digest_words, words_of
from tests.unit.notifiers.documents import digest, incident, incident_document, series, some

_NOWHERE = Links()
_GRAFANA = Links("https://grafana.example.org")


def test_a_quiet_night_is_told_in_a_line() -> None:
    words = digest_words(digest(), _NOWHERE)
    assert words.title == "sweep nightly, run 341 at 9b2d771: nothing changed"
    assert words.sections == []
    assert text.text(words) == (
        "sweep nightly, run 341 at 9b2d771: nothing changed\n"
        "  40 of 40 cases have a valid number.\n"
        "\n"
        "see benchfarm sweep show 341\n"
    )


def test_a_night_with_everything_is_told_in_order_and_says_what_is_not_listed() -> None:
    failed = {"what": "onnx int8 of net", "cause": "model", "code": "crashed", "why": "SIGSEGV", "cases": 3, "job": 9}
    document = digest(
        cases={"wanted": 40, "open": 2, "measured": 37, "valid": 36, "invalid": {"throttled": 1}},
        regressed=some(incident()),
        improved=some(series(change=-0.1, change_interval=None)),
        recovered=some(incident(id=11)),
        failed=some(failed, count=30),
        missing=some(series(state="not measured", why=None)),
        undecided=some(series(state="inconclusive", why=None)),
        cannot_see={**some(series(noise=0.03, least_visible_change=0.071)), "change": 0.05, "unknown": 4},
        unsupported={"count": 5},
    )
    words = digest_words(document, _NOWHERE)
    assert words.title.endswith("1 regressed, 1 improved, 1 recovered, 30 failed, 1 missing")
    assert [section.heading for section in words.sections] == [
        *("Regressed", "Improved", "Recovered", "Failed", "Missing"),
        *("Suspects without an answer", "Cannot see 5 %"),
    ]
    told = text.text(words)
    assert "36 of 40 cases have a valid number (1 throttled); 2 are not done yet." in told
    assert "onnx int8 of net (3 cases): SIGSEGV (job 9)" in told
    assert "  and 29 more\n" in told
    assert "on pixel-3: 10 % faster" in told
    assert "noise 3.0 %, shows changes from 7.1 % up" in told
    assert "4 series do not know their noise yet" in told
    assert "5 cells of its matrix are unsupported here." in told


def test_a_baseline_is_told_without_verdicts() -> None:
    there = digest(baseline={"run": 3, "why": None, **some(series(change=0.2))})
    told = text.text(digest_words(there, _NOWHERE))
    assert "Apart from the baseline, run 3 (medians, no verdicts) (1)" in told
    assert "5.00 -> 5.40 ms, 20 % slower" in told
    gone = digest(baseline={"run": None, "why": "baseline v1: no run of that revision has results", **some()})
    assert "Its baseline is gone: baseline v1: no run" in text.text(digest_words(gone, _NOWHERE))


def test_an_incident_says_what_changed_where_and_why() -> None:
    words = words_of("incident.opened", incident_document(), _NOWHERE)
    told = text.text(words)
    assert words.title == "Regression: mobilenet_v3_small is 8 % slower on pixel-3"
    assert "Incident 12: 8.0 % slower (+6.1 to +10.2 %)." in told
    assert "Revisions: after 1f0c3aa, up to 9b2d771." in told
    assert "Environment: driver 535.1 -> 550.2" in told
    assert "5.00 -> 5.40 ms, 8.0 % slower" in told
    assert "see benchfarm regressions show 12" in told
    resolved = incident_document(state="resolved", resolved_by="farm", resolved_at="2026-12-01T02:00:00+00:00")
    assert "A later level is back where it was." in text.text(words_of("incident.resolved", resolved, _NOWHERE))


def test_links_lead_to_dashboards_with_what_is_meant_picked() -> None:
    assert (links.HISTORY, links.RUN) == (dashboard_links.HISTORY, dashboard_links.RUN)
    assert links.REGRESSIONS == dashboard_links.REGRESSIONS
    words = words_of("incident.opened", incident_document(series(device="pixel 3&x")), _GRAFANA)
    assert words.url == "https://grafana.example.org/d/benchfarm-regressions?var-incident=12"
    [line] = words.sections[0].lines
    assert line.url is not None
    assert line.url.endswith("var-device=pixel+3%26x&var-series=7")


def test_changes_are_said_in_words() -> None:
    assert change_words(0.0512) == "5.1 % slower"
    assert change_words(-0.5, [-0.6, None]) == "50 % faster"
    assert (change_words(0.0), change_words(None)) == ("unchanged", "changed by an unknown amount")


def test_names_are_text_in_markdown() -> None:
    hostile = series(device="a_b*[x](http://evil)`<img src=x>\n# heading\x1b[31m")
    told = text.markdown(words_of("incident.opened", incident_document(hostile), _GRAFANA))
    assert "&#91;x&#93;(http&#58;//evil)" in told
    assert "<img" not in told
    assert "\x1b" not in told
    assert not any(line.startswith("# heading") for line in told.splitlines())
    trouble = text.markdown(words_of("trouble", {"title": "1. x", "text": "# not a heading"}, _NOWHERE))
    assert trouble == "# 1&#46; x\n\n&#35;&#8288; not a heading\n"


def test_what_is_made_up_is_marked() -> None:
    told = text.text(words_of("incident.opened", incident_document(series(simulated=True)), _NOWHERE))
    assert "on pixel-3 (simulated): " in told


def _markups(block: dict[str, Any]) -> list[dict[str, Any]]:
    return [text for text in [block.get("text"), *block.get("elements", ())] if text and text["type"] == "mrkdwn"]


def test_slack_gets_no_markup_of_names() -> None:
    hostile = series(device="<!channel> & <http://evil|click>")
    body = slack_body(words_of("incident.opened", incident_document(hostile, title="a <b> & c"), _GRAFANA), "k")
    sent = json.dumps(body)
    assert "<!channel>" not in sent
    assert "&lt;!channel&gt; &amp; &lt;http://evil|click&gt;" in sent
    assert body["blocks"][0]["text"] == {"type": "plain_text", "text": "Regression: a <b> & c", "emoji": False}
    assert body["text"].startswith("Regression: a &lt;b&gt; &amp; c.")
    assert "|more>" in sent
    # Else Slack makes a link of a bare address, and a mention of @channel, by itself.
    assert all(text["verbatim"] for block in body["blocks"] for text in _markups(block))


def test_slack_gets_large_digests_within_its_limits() -> None:
    long = [series(series_id=number, device="d" * 280) for number in range(20)]
    names = ("improved", "missing", "undecided")
    document = digest(
        **{name: some(*[{**one, "state": "x", "why": "&" * 400} for one in long], count=40_000) for name in names}
    )
    body = slack_body(digest_words(document, _GRAFANA), "digest/341")
    assert len(body["blocks"]) <= 50
    assert len(body["text"]) <= 4000
    for block in body["blocks"]:
        if block["type"] == "section":
            assert len(block["text"]["text"]) <= 3000
    improved = next(block for block in body["blocks"] if "Improved" in json.dumps(block))["text"]["text"]
    shown = improved.count("•")
    assert 0 < shown < 20
    assert improved.endswith(f"… and {40_000 - shown:,} more")


def test_what_is_cut_is_not_cut_within_an_escaped_character() -> None:
    words = words_of("trouble", {"title": "t" * 400, "text": "&" * 2000}, _NOWHERE)
    body = slack_body(words, "k")
    lead = body["blocks"][1]["text"]["text"]
    assert len(lead) <= 3000
    assert lead.removesuffix("…").replace("&amp;", "") == ""
    assert len(body["blocks"][0]["text"]["text"]) == 150
