from __future__ import annotations

import asyncio
import json
import re
from html import unescape
from html.parser import HTMLParser

import pytest

from immuproxy.console.sources import Dependency, Sources
from immuproxy.ledger.content import Content
from immuproxy.ledger.model import Action, Outcome, StoredManifest
from immuproxy.ledger.register import Register
from tests.console.conftest import Console, Seed, State
from tests.console.events import HOSTILE, digest, now, push
from tests.support.servers import RedisServer

EVERY_PAGE = [
    "/",
    "/audit",
    "/repositories",
    "/repositories/team/app",
    "/repositories/team/app/tags/1.0",
    f"/repositories/team/app/manifests/{digest('one')}",
    "/events/first",
    "/rules",
    "/rules?tag=team/app:1.0&user=mira",
]


class Links(HTMLParser):
    """Collects what a page leads to and loads, and anything that a strict policy would stop."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.forbidden: list[str] = []
        self._raw = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.forbidden += [name for name in given if name == "style" or name.startswith("on")]
        if tag in {"style", "iframe", "object", "embed"} or (tag == "script" and "src" not in given):
            self.forbidden.append(tag)
        if tag == "a":
            self.links.append(given.get("href", ""))
        self.loaded += [given[name] for name in ("src",) if name in given]
        if tag == "link":
            self.loaded.append(given["href"])


async def page(console: Console, path: str, status: int = 200) -> str:
    async with console.get(path) as response:
        text = await response.text()
        assert response.status == status, text
        assert response.content_type == "text/html"
        return text


async def test_an_empty_console_says_how_to_push(console: Console) -> None:
    for path in ("/", "/audit", "/repositories"):
        assert "docker push registry.example:5000/team/app:1.0" in await page(console, path)


async def test_a_push_and_a_refusal_show_on_every_page(console: Console, seed: Seed) -> None:
    refused = push(Outcome.REFUSED, digest=digest("two"), previous_digest=digest("one"), actor="mira", reason="not so")
    await seed([push(id="first"), refused])
    for path in ("/", "/audit", "/repositories/team/app", "/repositories/team/app/tags/1.0"):
        text = await page(console, path)
        assert "refused" in text
        assert "mira" in text
    assert "not so" in await page(console, "/audit")
    assert digest("two") in await page(console, f"/events/{refused.id}")


@pytest.mark.parametrize("path", EVERY_PAGE)
async def test_every_page_loads_only_its_own_files_and_runs_nothing_inline(
    console: Console, seed: Seed, path: str
) -> None:
    await seed([push(id="first"), push(Outcome.REFUSED, reason="no")])
    found = Links()
    found.feed(await page(console, path))
    assert not found.forbidden
    assert found.loaded
    assert all(loaded.startswith("/static/") for loaded in found.loaded)


@pytest.mark.parametrize("path", EVERY_PAGE)
async def test_every_link_of_every_page_leads_somewhere(console: Console, seed: Seed, path: str) -> None:
    await seed([push(id="first"), push(Outcome.REFUSED, digest=digest("two"), reason="no")])
    found = Links()
    found.feed(await page(console, path))
    links = {link.partition("#")[0] for link in found.links if not link.startswith("#")}
    assert links
    for link in sorted(links):
        async with console.get(link) as response:
            assert response.status == 200, link


async def test_files_are_kept_for_ever_under_their_version(console: Console) -> None:
    found = Links()
    found.feed(await page(console, "/"))
    for loaded in found.loaded:
        async with console.get(loaded) as response:
            assert response.status == 200
            assert "immutable" in response.headers["Cache-Control"]
            assert await response.read()


@pytest.mark.parametrize("path", ["/static/nothing.css", "/static/..%2Fapp.py", "/nowhere", "/repositories/Team"])
async def test_what_is_not_there_is_a_page_too(console: Console, path: str) -> None:
    text = await page(console, path, 404)
    assert "Overview" in text


@pytest.mark.parametrize("path", ["/", "/nowhere", "/audit?q=a:b", "/healthz", "/api/v1/events", "/static/base.css"])
async def test_every_answer_carries_the_strict_headers(console: Console, path: str) -> None:
    async with console.get(path) as response:
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Frame-Options"] == "DENY"
        assert response.headers["Referrer-Policy"] == "same-origin"


async def test_hostile_text_is_shown_as_text_everywhere(console: Console, seed: Seed) -> None:
    told = {"actor": HOSTILE, "user_agent": HOSTILE, "reason": HOSTILE, "rule": HOSTILE, "client_address": HOSTILE}
    event = push(Outcome.REFUSED, id="first", media_type=HOSTILE, request_id=HOSTILE, platforms=(HOSTILE,), **told)
    await seed([event, push(Outcome.FOUND, action=Action.DRIFT, tag=HOSTILE, repository=HOSTILE)])
    for path in [
        *EVERY_PAGE,
        "/audit?q=%3Cscript%3Ealert(1)",
        "/repositories?filter=<script>x",
        "/rules?tag=<script>x",
    ]:
        async with console.get(path) as response:
            text = await response.text()
        assert "<script>" not in text
        assert "<img" not in text
        assert "onerror=alert(2)>" not in text
    assert HOSTILE in unescape(await page(console, "/events/first"))


async def test_a_wrong_search_is_pointed_at_and_a_better_one_is_a_click_away(console: Console) -> None:
    text = await page(console, "/audit?q=repo:a outcme:refused", 400)
    assert '<span class="pointed">outcme:refused</span>' in text
    assert 'href="/audit?q=repo:a%20outcome:refused"' in text
    assert 'aria-invalid="true"' in text


async def test_pages_of_the_log_follow_each_other_without_a_gap(console: Console, seed: Seed) -> None:
    await seed([push(tag=f"1.{number}") for number in range(25)])
    path, seen = "/audit?limit=10", []
    for _ in range(5):
        found = Links()
        found.feed(await page(console, path))
        seen += [link for link in found.links if link.startswith("/repositories/team/app/tags/")]
        following = [link for link in found.links if link.startswith("/audit?") and "cursor=" in link]
        if not following:
            break
        path = following[0]
    assert seen == [f"/repositories/team/app/tags/1.{number}" for number in reversed(range(25))]


async def test_a_search_without_a_match_says_what_to_do(console: Console, seed: Seed) -> None:
    await seed([push()])
    assert "Nothing matches this search" in await page(console, "/audit?q=actor:nobody")


async def test_an_unknown_repository_is_not_an_empty_one(console: Console, seed: Seed) -> None:
    for path in ("/repositories/no/such", "/repositories/no/such/tags/1.0"):
        assert "has never seen a push to no/such" in await page(console, path, 404)
    await seed([push()])
    assert "It is free" in await page(console, "/repositories/team/app/tags/9.9")


async def test_a_committed_tag_shows_what_a_pull_gets(console: Console, sources: Sources, seed: Seed) -> None:
    event = push()
    content = Content(digest=event.digest, needs=frozenset({event.digest}), media_type=event.media_type, size=5)
    await hold(sources.register, content)
    await seed([event])
    text = await page(console, "/repositories/team/app/tags/1.0")
    assert f"docker pull registry.example:5000/team/app@{event.digest}" in text
    assert "held" in await page(console, "/repositories/team/app")


async def test_the_layers_of_a_held_image_are_shown(console: Console, sources: Sources) -> None:
    layers = [
        {"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": 700 * n, "digest": digest(f"layer {n}")}
        for n in (1, 2)
    ]
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 3, "digest": digest("config")}
    media_type = "application/vnd.oci.image.manifest.v1+json"
    body = json.dumps({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers}).encode()
    stored = StoredManifest(digest("image"), media_type, body)
    await hold(sources.register, Content(digest=stored.digest, needs=frozenset({stored.digest}), stored=(stored,)))
    text = await page(console, f"/repositories/team/app/manifests/{stored.digest}")
    assert "2, lowest first" in text
    assert 'width="50' in text


async def hold(register: Register, content: Content) -> None:
    event = push(digest=content.digest)
    await register.claim("team/app", "1.0", content, token="t", lease_ms=1000)
    await register.arm("team/app", "1.0", content, token="t", lease_ms=1000, draft=event, closing=None)
    await register.commit("team/app", "1.0", content, token="t", event=event, first=True)


async def test_a_repository_named_like_a_tag_page_is_reached_by_its_link(console: Console, seed: Seed) -> None:
    await seed([push(repository="team/tags/v1", tag="x"), push(repository="team", tag="v1")])
    found = Links()
    found.feed(await page(console, "/repositories"))
    link = next(link for link in found.links if "%2F" in link)
    assert "team/tags/v1" in await page(console, link)
    assert "<h1>v1 " in await page(console, "/repositories/team/tags/v1")


async def test_the_bar_says_what_does_not_answer(console: Console, state: State) -> None:
    state.parts = (Dependency("redis", ok=True), Dependency("upstream", ok=False, detail="connection refused"))
    text = await page(console, "/")
    assert "Upstream down" in text
    assert "connection refused" in text


async def test_without_redis_pages_say_so_and_come_back(
    console: Console, sources: Sources, redis_server: RedisServer, seed: Seed
) -> None:
    await seed([push(id="first")])
    await page(console, "/audit")
    redis_server.stop()
    async with asyncio.timeout(5):
        while not (await sources.audit.reach()).failure:
            await asyncio.sleep(0.01)
    for path in ("/", "/audit"):
        assert "New events do not arrive for now" in await page(console, path)
    assert "Redis does not answer" in await page(console, "/repositories/team/app", 503)
    redis_server.start()
    async with asyncio.timeout(5):
        while (await sources.audit.reach()).failure:
            await asyncio.sleep(0.01)
    assert "New events do not arrive" not in await page(console, "/")


async def test_the_rules_page_marks_the_line_that_decides(console: Console) -> None:
    text = await page(console, "/rules?tag=team/app:1.0&user=mira")
    assert '<li id="L6" class="hit">' in text
    assert "none of its overwrite conditions can hold for mira" in text


async def test_a_tag_that_cannot_be_explained_is_said_so(console: Console) -> None:
    assert "Write it as repository:tag" in await page(console, "/rules?tag=nonsense", 400)


async def test_what_a_page_shows_is_what_its_json_says(console: Console, seed: Seed) -> None:
    await seed([push(id="first"), push(Outcome.REFUSED, reason="no")])
    for path in EVERY_PAGE:
        found = Links()
        found.feed(await page(console, path))
        (link,) = [
            link
            for link in found.links
            if link.startswith("/api/v1/")
            and "openapi" not in link
            and not link.startswith(("/api/v1/events.csv", "/api/v1/events.jsonl"))
        ]
        async with console.get(link) as response:
            assert response.status == 200
            assert json.loads(await response.text())


async def test_the_overview_counts_from_one_time_to_another(console: Console, seed: Seed) -> None:
    await seed([push(), push(Outcome.REFUSED)])
    text = await page(console, "/?since=2h&until=")
    assert "1 accepted, 0 unchanged, 1 refused, 0 failed" in text
    assert 'name="since" value="2h"' in text
    assert 'href="/api/v1/overview?since=2h"' in text
    assert 'aria-current="true">24h' not in text
    link = re.search(r'class="tile" href="([^"]*refused[^"]*)"', text)
    assert link
    assert "1.0" in await page(console, unescape(link[1]))
    before = await page(console, "/?since=9d&until=8d")
    assert "0 accepted, 0 unchanged, 0 refused, 0 failed" in before
    async with console.get("/?since=soon&until=") as response:
        assert response.status == 400
        assert "or a date (2026-01-31, 2026-01-31T18:00Z)" in await response.text()


async def test_the_overview_counts_what_happened(console: Console, seed: Seed) -> None:
    await seed([push(), push(Outcome.UNCHANGED), push(Outcome.REFUSED, time=now())])
    text = await page(console, "/?range=1h")
    assert "1 accepted, 1 unchanged, 1 refused, 0 failed" in text


async def test_the_overview_counts_by_what_was_tried(console: Console, seed: Seed) -> None:
    await seed(
        [
            push(),
            push(Outcome.CREATED, shadow=True),
            push(Outcome.REFUSED, action=Action.DELETE_TAG),
            push(Outcome.MISSING, action=Action.DELETE_BLOB),
            push(Outcome.FAILED, action=Action.REPAIR),
        ]
    )
    text = await page(console, "/?range=1h")
    assert "2 accepted, 0 unchanged, 0 refused, 0 failed" in text
    assert "0 deleted" in text
    assert "1 missing" in text
    async with console.get("/api/v1/overview?range=1h") as response:
        told = await response.json()
    assert told["deletes"] == {"deleted": 0, "refused": 1, "missing": 1, "failed": 0}
    assert told["totals"]["shadow"] == 1
    tiles = re.findall(r'class="tile" href="([^"]+)".*?class="figure">(\d+)<', text, re.DOTALL)
    assert len(tiles) == 6
    for link, count in tiles:
        found = await page(console, unescape(link))
        assert found.count("<tr data-id") == int(count), link


async def test_the_audit_log_is_narrowed_to_what_shadow_rules_say(console: Console, seed: Seed) -> None:
    await seed([push(), push(tag="2.0", shadow=True)])
    text = await page(console, "/audit")
    assert 'href="/audit?q=shadow:yes">would be refused</a>' in text
    narrowed = await page(console, "/audit?q=shadow:yes")
    assert narrowed.count("<tr data-id") == 1
    assert 'aria-current="true">would be refused</a>' in narrowed


@pytest.mark.parametrize(("octets", "told"), [(482, ">482 bytes<"), (1_500_000, "(1,500,000 bytes)")])
async def test_a_size_is_told_in_bytes_once(console: Console, seed: Seed, octets: int, told: str) -> None:
    await seed([push(id="sized", size=octets)])
    text = await page(console, "/events/sized")
    assert told in text
    assert text.count("bytes") == 1
