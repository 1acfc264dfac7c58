"""Searches that an auditor tried: the API and the page find the same, each narrows, and each comes to an end."""

from __future__ import annotations

import re

import pytest

from immuproxy.ledger.model import Action, Outcome
from tests.console.conftest import Console, Seed
from tests.console.events import digest, now, push

MANY = 130
"""More than one page of the console has."""


async def both(console: Console, **query: str) -> list[str]:
    """The ids that the API finds, page by page to the end; the page has the same where it takes the query."""
    found = await _all(console, "/api/v1/events", query)
    if set(query) <= {"q", "limit"}:
        assert await _all(console, "/audit", query) == found
    return found


async def _all(console: Console, path: str, query: dict[str, str]) -> list[str]:
    found: list[str] = []
    cursor, pages = "", 0
    while pages < MANY:
        async with console.get(path, params={**query, **({"cursor": cursor} if cursor else {})}) as response:
            assert response.status == 200, await response.text()
            if path == "/audit":
                text = await response.text()
                found += re.findall(r'<tr[^>]* data-id="([^"]+)"', text)
                following = re.search(r'rel="next" href="[^"]*cursor=([^"&]+)', text)
                cursor = following[1] if following else ""
            else:
                answer = await response.json()
                found += [event["id"] for event in answer["events"]]
                cursor = answer["next_cursor"] or ""
        pages += 1
        if not cursor:
            return found
    raise AssertionError(f"{path} {query} does not come to an end")


@pytest.fixture
async def some(seed: Seed) -> None:
    at = now() - 1_000
    await seed(
        [
            push(id="tagged", repository="team/app", tag="1.0", actor="ci-1", client_address="10.0.0.7", time=at),
            push(
                id="mapped",
                repository="team/app",
                tag="1.1",
                actor="mira",
                client_address="::ffff:10.0.0.8",
                time=at + 1,
            ),
            push(
                Outcome.REFUSED,
                id="bare",
                action=Action.DELETE_MANIFEST,
                repository="team/web",
                tag="",
                digest=digest("bare"),
                actor="ci-2",
                client_address="192.0.2.1",
                reason="kept by a rule",
                time=at + 2,
            ),
            push(id="six", repository="other/app", tag="1.0", actor="", client_address="2001:db8::1", time=at + 3),
        ]
    )


@pytest.mark.usefixtures("some")
@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({"q": 'tag:""'}, ["bare"]),
        ({"q": '-tag:""'}, ["six", "mapped", "tagged"]),
        ({"q": 'actor:""'}, ["six"]),
        ({"q": "repo:team/*", "repository": "other/app"}, []),
        ({"q": "repo:team/*", "repository": "team/web"}, ["bare"]),
        ({"q": "actor:ci-*", "actor": "mira"}, []),
        ({"q": "outcome:created", "outcome": "refused"}, []),
        ({"q": "-tag:1.0", "tag": "1.1"}, ["mapped"]),
        ({"q": '"app:1.1"'}, ["mapped"]),
        ({"q": '"1.0 ci-1"'}, []),
        ({"q": '"ci-1 10.0.0.7"'}, []),
        ({"q": "ip:10.0.0.0/8"}, ["mapped", "tagged"]),
        ({"q": "ip:10.0.0.8"}, ["mapped"]),
        ({"q": "ip:::ffff:10.0.0.7"}, ["tagged"]),
        ({"q": "ip:::/0"}, ["six"]),
        ({"q": "KEPT"}, ["bare"]),
    ],
)
async def test_what_an_auditor_found_wrong_is_right(console: Console, query: dict[str, str], ids: list[str]) -> None:
    assert await both(console, **query) == ids


@pytest.mark.parametrize("search", ["repo:team/* actor:ci-*", "repo:** actor:*", "repo:** agent:docker*"])
async def test_a_broad_search_has_all_its_pages_and_each_event_once(console: Console, seed: Seed, search: str) -> None:
    at = now() - 10_000
    events = [
        push(
            id=f"e{number}",
            repository=f"team/app-{number}",
            actor=f"ci-{number % 7}",
            user_agent="docker/27",
            time=at + number,
        )
        for number in range(MANY)
    ]
    await seed(events)
    assert await both(console, q=search) == [event.id for event in events][::-1]
    async with console.get("/api/v1/events.jsonl", params={"q": search}) as response:
        assert (await response.text()).count("\n") == MANY
