"""Lists are followed by their Link headers, and nothing that they say is believed unseen (H27)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping

import pytest
from multidict import CIMultiDict

from immuproxy.drift.service import service_caller
from immuproxy.edge import listing
from immuproxy.edge.listing import ListingRefusedError, next_query
from immuproxy.edge.settings import Timeouts
from immuproxy.edge.upstream import Upstream, UpstreamUnavailableError, opened
from tests.support.answering import Asked, Said, answering
from tests.support.conversation import RunningEdge, image

CALLER = service_caller(None, None)


def page(names: object, link: str = "", key: str = "tags") -> Said:
    return Said(body=json.dumps({key: names}).encode(), headers={"Link": link} if link else {})


async def tags_of(pages: Mapping[str, Said]) -> list[str]:
    def answer(asked: Asked) -> Said:
        return pages[asked.target.partition("?")[2]]

    with answering(answer) as server:
        async with opened(server.url, timeouts=Timeouts()) as upstream:
            return await listing.tags(upstream, "team/app", CALLER)


async def test_a_real_registry_page_by_page(edge: RunningEdge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PAGE", 1)
    for number in range(3):
        await edge.direct.push(f"team/app{number}", "1.0", image("one"))
    async with opened(edge.direct.url, timeouts=Timeouts()) as upstream:
        assert await listing.repositories(upstream, CALLER) == ["team/app0", "team/app1", "team/app2"]
        assert await listing.tags(upstream, "team/app1", CALLER) == ["1.0"]
        assert await listing.tags(upstream, "team/none", CALLER) == []


async def test_the_next_page_is_where_the_link_says() -> None:
    found = await tags_of(
        {
            "n=1000": page(["b", "a"], '</v2/team/app/tags/list?n=2&last=opaque%2B1>; rel="next"'),
            "n=2&last=opaque%2B1": page(["a", "c"]),
        }
    )
    assert found == ["b", "a", "c"]


async def test_only_the_query_of_a_link_is_followed() -> None:
    pages = {"n=1000": page(["a"], '<https://evil.example/v2/_catalog?x=1>; rel="next"'), "x=1": page(["b"])}
    assert await tags_of(pages) == ["a", "b"]


async def test_a_list_that_goes_in_circles_ends() -> None:
    with pytest.raises(UpstreamUnavailableError, match="leads back"):
        await tags_of({"n=1000": page(["a"], '</v2/x?n=1000>; rel="next"')})


@pytest.mark.parametrize("names", [None, "text", 7, {}, []])
async def test_no_list_at_all_is_an_empty_one(names: object) -> None:
    assert await tags_of({"n=1000": page(names)}) == []


async def test_what_is_no_text_is_left_out() -> None:
    assert await tags_of({"n=1000": page(["a", 7, None, ["b"], "c"])}) == ["a", "c"]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 100_000, b"\xff"])
async def test_what_is_no_json_tells_nothing(body: bytes) -> None:
    with pytest.raises(UpstreamUnavailableError, match="no JSON"):
        await tags_of({"n=1000": Said(body=body)})


@pytest.mark.parametrize("status", [301, 400, 401, 403, 405])
async def test_a_refusal_is_no_empty_list(status: int) -> None:
    with pytest.raises(ListingRefusedError) as refused:
        await tags_of({"n=1000": Said(status)})
    assert refused.value.status == status


@pytest.mark.parametrize("status", [204, 408, 429, 500, 503])
async def test_an_outage_is_no_empty_list(status: int) -> None:
    with pytest.raises(UpstreamUnavailableError, match=str(status)):
        await tags_of({"n=1000": Said(status)})


@pytest.mark.parametrize(
    ("links", "query"),
    [
        ([], ""),
        (['</v2/_catalog?n=1&last=b>; rel="next"'], "n=1&last=b"),
        (["</v2/_catalog?last=b>;rel=next"], "last=b"),
        (['<https://r.example/v2/_catalog?last=b>; type="x"; rel="next"'], "last=b"),
        (['</a?x=1>; rel="prev", </a?x=2>; rel="next"'], "x=2"),
        (['</a?x=1>; rel="prev"', '</a?x=2>; rel="next"'], "x=2"),
        (['</a?x=1>; rel="prev"'], ""),
        (['</a>; rel="next"'], ""),
        (['</a?x=\u00e9>; rel="next"'], ""),
    ],
)
def test_the_query_of_the_next_page(links: list[str], query: str) -> None:
    assert next_query(CIMultiDict([("Link", link) for link in links])) == query


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with opened("http://127.0.0.1:1", timeouts=Timeouts()) as opened_upstream:
        yield opened_upstream


async def test_an_upstream_that_is_down(upstream: Upstream) -> None:
    with pytest.raises(UpstreamUnavailableError):
        await listing.repositories(upstream, CALLER)
