"""A click on a value of the log filters by it, or leaves it out; a page that is short offers to go on."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from immuproxy.audit import Audit
from immuproxy.audit.values import EventPage
from immuproxy.ledger.model import Outcome
from tests.console.conftest import Console, Seed
from tests.console.events import push


def searches(page: str, label: str) -> list[str]:
    """The searches that the links with a label lead to."""
    found = re.findall(rf'href="(/audit[^"]*)"[^>]*aria-label="{re.escape(label)}"', page)
    return [parse_qs(urlsplit(unescape(link)).query)["q"][0] for link in found]


async def test_each_value_can_be_left_out(console: Console, seed: Seed) -> None:
    await seed([push(Outcome.REFUSED, id="a", actor="ci", rule="moving tags", repository="team/app")])
    page = await (await console.get("/audit?q=since:1h")).text()
    assert searches(page, "Leave out events of ci") == ["-actor:ci since:1h"]
    assert searches(page, "Leave out refused") == ["-outcome:refused since:1h"]
    assert searches(page, "Leave out rule moving tags") == ['-rule:"moving tags" since:1h']
    assert searches(page, "Leave out team/app") == ["-repo:team/app since:1h"]
    assert searches(page, "Only team/app") == ["repo:team/app since:1h"]


@pytest.mark.parametrize("actor", ["a*b", "wh?t", 'quo"te', "two words"])
async def test_a_value_with_wildcards_or_quotes_is_taken_as_it_is(console: Console, seed: Seed, actor: str) -> None:
    await seed([push(id="one", actor=actor), push(id="two", actor="axb what")])
    page = await (await console.get("/audit")).text()
    label = unescape(next(text for text in re.findall(r'aria-label="(Leave out events of [^"]*)"', page)
                          if unescape(text).endswith(actor)))  # fmt: skip
    (search,) = searches(page, label.replace("&", "&amp;").replace('"', "&#34;"))
    found = await (await console.get("/api/v1/events", params={"q": search})).json()
    assert [event["id"] for event in found["events"]] == ["two"]


@pytest.mark.parametrize("found", [0, 1])
async def test_a_page_that_is_short_offers_to_go_on(
    console: Console, seed: Seed, monkeypatch: pytest.MonkeyPatch, found: int
) -> None:
    await seed([push(id="a"), push(id="b")])
    real = Audit.events

    async def short(self: Audit, *arguments: Any, **options: Any) -> EventPage:
        page = await real(self, *arguments, **options)
        return replace(page, events=page.events[:found], next_cursor="more", complete=False, searched_to=1_000)

    monkeypatch.setattr(Audit, "events", short)
    page = await (await console.get("/audit?q=actor:ci")).text()
    assert re.search(r'href="/audit\?q=actor:ci&amp;cursor=more"', page)
    assert ("There are older events" in page) == (not found)
    assert ("searched back to" in page) == bool(found)
