from __future__ import annotations

from itertools import pairwise

import pytest

from immuproxy.audit.search import parse
from immuproxy.audit.values import Chart, Series, Tally
from immuproxy.console.overview.figures import (
    RANGES,
    Period,
    TimeRange,
    Tops,
    bucket_search,
    buckets,
    deletes,
    overview_context,
    totals,
)
from immuproxy.console.sources import Dependency
from tests.console.events import NOW, in_force, push

CHART = Chart(
    "attempt",
    (0, 1000, 2000),
    (
        Series("push created", (1, 2)),
        Series("push overwritten", (3, 0)),
        Series("push refused", (0, 4)),
        Series("push unknown", (6, 6)),
        Series("drift found", (1, 1)),
        Series("delete refused", (7, 0)),
        Series("delete missing", (0, 2)),
        Series("repair failed", (5, 5)),
        Series("unheard-of", (9, 9)),
    ),
)


def test_outcomes_are_put_together_as_people_think_of_them() -> None:
    assert [(row["accepted"], row["refused"], row["drift"]) for row in buckets(CHART)] == [(4, 0, 1), (2, 4, 1)]
    assert totals(CHART) == {"accepted": 6, "unchanged": 0, "refused": 4, "failed": 0, "drift": 2}


def test_h114_a_push_whose_end_is_unknown_counts_as_none_of_them() -> None:
    assert sum(totals(Chart("attempt", (0, 1000), (Series("push unknown", (6,)),))).values()) == 0


def test_deletes_are_no_pushes() -> None:
    assert deletes(CHART) == {"deleted": 0, "refused": 7, "missing": 2, "failed": 0}


@pytest.mark.parametrize("chosen", RANGES.values(), ids=RANGES)
def test_buckets_stand_still_between_two_reloads(chosen: TimeRange) -> None:
    since, until = chosen.edges(NOW)
    assert since % chosen.step == 0
    assert until - chosen.step < NOW <= until
    assert chosen.edges(until) == (since, until)


def test_the_search_of_a_bucket_finds_what_it_counts() -> None:
    for since, until in pairwise((NOW // 60_000 * 60_000, NOW // 60_000 * 60_000 + 60_000)):
        search = parse(bucket_search({"since": since, "until": until}), NOW)
        assert search.since is not None
        assert search.until is not None
        assert (search.since.at, search.until.at) == (since, until)


def test_a_tag_with_a_port_like_colon_is_cut_at_the_last_one() -> None:
    tops = Tops([Tally("team/app:1.0", 3)], [Tally("ci", 2)], [Tally("team/app", 9)])
    context = overview_context(
        RANGES["24h"],
        CHART,
        tops,
        [push()],
        shadowed=5,
        recorded=7,
        in_force=in_force(error="line 3: no"),
        parts=(
            Dependency("redis", ok=True),
            Dependency("upstream", ok=False, detail="refused", stops=frozenset({"pulls"})),
        ),
        now=1_700,
    )
    assert context["refused_tags"] == [{"repository": "team/app", "tag": "1.0", "count": 3}]
    assert context["rules"]["error"] == "line 3: no"
    assert context["status"]["ready"] is False
    assert context["range"]["sentence"].startswith("Pushes in the last 24 hours: 6 accepted, 0 unchanged, 4 refused")
    assert context["range"]["sentence"].endswith("Drift was found 2 times.")
    assert context["totals"]["shadow"] == 5


def test_what_is_shown_ends_now_and_still_leads_to_all_that_it_counts() -> None:
    context = overview_context(
        RANGES["24h"], CHART, Tops([], [], []), [], shadowed=0, recorded=7, in_force=in_force(), parts=(), now=1_700
    )
    assert (context["range"]["until"], context["buckets"][-1]["until"]) == (1_700, 1_700)
    assert context["buckets"][-1]["search"] == bucket_search({"since": 1_000, "until": 2_000})
    period = Period(NOW - 7_000_000, NOW, "2h", now=NOW)
    assert period.label.endswith("to 2026-11-23 18:53 UTC")
    assert period.edges(NOW)[1] >= NOW
