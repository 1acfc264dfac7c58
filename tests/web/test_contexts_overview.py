from __future__ import annotations

from itertools import pairwise

import pytest

from immuproxy.ledger.audit import Chart, Series, Tally
from immuproxy.ledger.search import parse
from immuproxy.web.contexts.overview import RANGES, Range, Tops, bucket_search, buckets, overview_context, totals
from immuproxy.web.sources import Part
from tests.web.events import NOW, in_force, push

CHART = Chart(
    "outcome",
    (0, 1000, 2000),
    (
        Series("created", (1, 2)),
        Series("overwritten", (3, 0)),
        Series("refused", (0, 4)),
        Series("found", (1, 1)),
        Series("unheard-of", (9, 9)),
    ),
)


def test_outcomes_are_put_together_as_people_think_of_them() -> None:
    assert [(row["accepted"], row["refused"], row["drift"]) for row in buckets(CHART)] == [(4, 0, 1), (2, 4, 1)]
    assert totals(CHART) == {"accepted": 6, "unchanged": 0, "refused": 4, "failed": 0, "drift": 2}


@pytest.mark.parametrize("chosen", RANGES.values(), ids=RANGES)
def test_buckets_stand_still_between_two_reloads(chosen: Range) -> None:
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
        recorded=7,
        in_force=in_force(error="line 3: no"),
        parts=(Part("redis", ok=True), Part("upstream", ok=False, detail="refused", stops=frozenset({"pulls"}))),
    )
    assert context["refused_tags"] == [{"repository": "team/app", "tag": "1.0", "count": 3}]
    assert context["rules"]["error"] == "line 3: no"
    assert context["status"]["ready"] is False
    assert context["range"]["sentence"].startswith("Pushes in the last 24 hours: 6 accepted, 0 unchanged, 4 refused")
    assert context["range"]["sentence"].endswith("Drift was found 2 times.")
